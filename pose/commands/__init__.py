"""What the commands ``pose-train``, ``pose-test`` ... do; ``tools/train.py`` ... call the same."""
