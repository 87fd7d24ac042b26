"""A demo imports what it needs to find poses, and nothing of training."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import numpy as np
from pose import Predictor, draw_poses
image = np.zeros((60, 40, 3), np.uint8)
draw_poses(image, Predictor.from_weights("lsp_small", device="cpu")(image))
print(*sorted(name for name in sys.modules if name.split(".")[0] == "pose"))
"""

FORBIDDEN = ("pose.engine", "pose.datasets.loading", "pose.datasets.coco", "pose.export", "pose.models.native",
             "pose.models.deploy", "pose.inference.video", "pose.inference.web", "pose.commands")  # fmt: skip
"""Training and its loader, whose workers are ended by a handler at exit, and what only some demos use."""


def test_a_demo_imports_nothing_of_training():
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "pose.prediction" in imported and "pose.inference.predictor" in imported
    assert [name for name in imported if name.startswith(FORBIDDEN)] == []
    assert len(imported) <= 50  # a third of them parts of networks; 56 were those with the trainer
