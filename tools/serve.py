"""A local web page to try a network: `python tools/serve.py --help` says how. Installed, it is `pose-serve`."""

from pose.commands.entry import serve

if __name__ == "__main__":
    serve()
