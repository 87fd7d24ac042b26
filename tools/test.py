"""Test a pose network with COCO's metric: `python tools/test.py --help` says how. Installed, it is `pose-test`."""

from pose.commands.entry import test

if __name__ == "__main__":
    test()
