"""Draw the poses of pictures or a video: `python tools/demo.py --help` says how. Installed, it is `pose-demo`."""

from pose.commands.entry import demo

if __name__ == "__main__":
    demo()
