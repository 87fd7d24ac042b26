"""Train a pose network: `python tools/train.py --help` says how. Installed, it is `pose-train`."""

from pose.commands.entry import train

if __name__ == "__main__":
    train()
