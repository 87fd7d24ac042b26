"""A local web page to try a network: drop a picture or a short video, see the skeletons, download the JSON.

    python tools/serve.py
    python tools/serve.py CONFIG CHECKPOINT
    python tools/serve.py CONFIG CHECKPOINT --detector fasterrcnn_mobilenet_v3_large_320_fpn --port 8080
    python tools/serve.py pose.onnx

Needs Flask: pip install '.[serve]'. Only this machine can open the page unless --host says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))  # OpenCV reads it once, when it is imported

import numpy as np

from pose import glibc
from pose.command_line import CommandParser, count
from pose.errors import OutputError, command, require
from pose.inference.command_line import add_predictor_arguments, make_predictor, take_network
from pose.inference.video.files import quiet_opencv


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_predictor_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=count(0, 65535), default=8000, help="0 takes any free one (default: 8000)")
    parser.add_argument("--most-megabytes", type=count(), default=64, help="larger files are refused (default: 64)")
    parser.add_argument("--most-frames", type=count(), default=600, help="longer videos are cut (default: 600)")
    arguments = parser.parse_intermixed_args()
    take_network(parser, arguments)
    require("flask", "the page")
    make_server = require("werkzeug.serving", "the page").make_server
    from pose.inference.web.server import LOOPBACK, create_app

    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell's background job would ignore Ctrl-C
        signal.signal(number, _stop)
    quiet_opencv()
    share_heaps()
    predictor = make_predictor(arguments)
    width, height = predictor.network.input_size
    predictor(np.zeros((height, width, 3), np.uint8), np.array([[0, 0, width, height]]))  # refuses one of no numbers
    with tempfile.TemporaryDirectory(prefix="poses.", ignore_cleanup_errors=True) as folder:
        hosts = LOOPBACK if arguments.host in LOOPBACK else None
        app = create_app(predictor, folder, arguments.most_megabytes * 1_000_000, arguments.most_frames, hosts)
        with listen(arguments.host, arguments.port) as listening:
            server = make_server(arguments.host, 0, app, threaded=True, fd=listening.fileno())
            port = listening.getsockname()[1]
            with contextlib.suppress(KeyboardInterrupt):  # also one that comes before the server listens for it
                print(f"open {address(arguments.host, port)} in a browser; Ctrl-C stops", flush=True)
                server.serve_forever()
    if threading.active_count() > 1:  # requests that nobody waits for: Python's own end would abort within torch
        print("stopped", flush=True)
        os._exit(0)


def _stop(number: int, frame: object) -> None:
    """Ends the page as Ctrl-C does, so that the folder of uploads goes with it."""
    signal.signal(number, signal.SIG_IGN)  # once: what is under way is cleaned up
    raise KeyboardInterrupt


def share_heaps() -> None:
    """Makes the threads of requests share two heaps.

    Each would have its own, up to eight per core, and each keeps what is freed in it: 300 MB in a page that had four
    requests at a time on two cores. Little waits for a heap, since one thread at a time asks the network. Of glibc
    alone (mallopt(3), M_ARENA_MAX); elsewhere nothing is done.
    """
    glibc.set_option(glibc.ARENA_MAX, 2)


def address(host: str, port: int) -> str:
    """The page's; colons of an IPv6 address need brackets around them (RFC 3986, 3.2.2)."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OutputError(f"{host}, --port {port}: cannot be listened on ({error.strerror}); try another") from error
