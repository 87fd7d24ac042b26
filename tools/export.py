"""Write a network as an ONNX file: `python tools/export.py --help` says how. Installed, it is `pose-export`."""

from pose.commands.entry import export

if __name__ == "__main__":
    export()
