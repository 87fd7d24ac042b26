"""Keep the local page busy for long and see that it holds no more in the end than after its first minutes.

    python tools/soak_page.py --write docs/tables/soak_page.md
    python tools/soak_page.py --requests 200 -- --weights lsp_small --boxes whole

Starts tools/serve.py with what follows --, on this machine alone, and sends it pictures, videos, files that are none,
files that are too large, and clients that leave while they send or before the answer comes, several at a time. After
each round, when the page is idle, its memory, open files and threads are read. Exit status 1 where an answer is not
what it should be, where one of them grows, or where an upload stays behind. Needs the extra test.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np

from pose.benchmark import machine
from pose.command_line import CommandParser, count
from pose.errors import PoseError, command
from pose.inference.video.files import writing_video
from pose.process_watch import ProcessWatch, growth_words, is_flat, watch_table
from pose.tables import Page, check_page, table_lines

ROUNDS = 20
CLIENTS = 4
LARGEST = 2  # megabytes that the page takes
SHARES = {
    "picture": 55, "video": 8, "index": 5, "no picture": 8, "cut-off picture": 6, "no file": 3, "too large": 3,
    "leaves while sending": 6, "leaves before the answer": 6,
}  # fmt: skip
"""Kinds of requests and how many of 100 they are."""
ANSWERED = {"picture": 200, "video": 200, "index": 200, "no picture": 422, "no file": 400, "too large": 413}
"""The status that each kind has to get; a cut-off picture may be decoded in part, and who leaves gets none."""


class SoakError(PoseError):
    """The page did what it must not."""


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("--requests", type=count(), default=2000, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=count(0), default=0, help="of the order and the pictures (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="a Markdown file for the figures; it is replaced")
    parser.add_argument("serve", nargs="*", metavar="-- ARGUMENT", help="arguments of tools/serve.py")
    arguments = parser.parse_args()
    check_page(arguments.write)
    command_line = " ".join(["tools/serve.py", *arguments.serve])
    page = Page("The page under load", f"{machine()}; `{command_line}`")
    rng = random.Random(arguments.seed)
    kinds = rng.choices(list(SHARES), list(SHARES.values()), k=arguments.requests)
    with tempfile.TemporaryDirectory(prefix="soak.") as folder, serving(arguments.serve, Path(folder)) as (pid, port):
        requests = Requests(port, bodies(Path(folder), arguments.seed))
        watch = ProcessWatch(pid)
        requests.send("picture", 0)
        time.sleep(1)  # its thread ends
        idle, started = watch.sample(1).threads, time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for number in range(ROUNDS):
                first, last = (len(kinds) * place // ROUNDS for place in (number, number + 1))
                list(clients.map(requests.send, kinds[first:last], range(first, last)))
                if not watch.wait_for_threads(idle, 120):
                    raise SoakError(f"after {last} requests the page still works on one, two minutes after the last")
                watch.sample(last)
        seconds = time.monotonic() - started
        left = sorted(path.name for path in Path(folder, "uploads").rglob("*") if path.is_file())
    page.add(f"{len(kinds)} requests by {CLIENTS} clients at a time in {seconds / 60:.0f} minutes:", "")
    rows = sorted((kind, status, count) for (kind, status), count in requests.seen.items())
    page.add(*table_lines(["kind", "answer", "requests"], rows, 2), "")
    page.add(*watch_table(watch.samples, "requests"), "")
    page.add(
        f"From the middle third to the last: {growth_words(watch.samples)}; uploads left behind: {len(left)}; wrong "
        f"answers: {len(requests.wrong)}."
    )
    page.write(arguments.write)
    for line in requests.wrong[:5]:
        print(f"wrong: {line}", file=sys.stderr)
    return int(bool(requests.wrong or left or not is_flat(watch.samples)))


@contextmanager
def serving(arguments: list[str], folder: Path) -> Iterator[tuple[int, int]]:
    """The page in a process of its own: its id and its port; uploads lie in ``folder``/uploads meanwhile."""
    (folder / "uploads").mkdir()
    own = [sys.executable, str(Path(__file__).with_name("serve.py")), "--port", "0", "--most-megabytes", str(LARGEST)]
    process = subprocess.Popen(
        [*own, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "uploads")},
    )
    try:
        found = next((match for line in process.stdout if (match := re.search(r":(\d+)/ in a browser", line))), None)
        if found is None:
            raise SoakError(f"tools/serve.py ended with status {process.wait()}; start it alone to see why")
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise SoakError("the page did not end within a minute of SIGTERM") from None


def bodies(folder: Path, seed: int) -> dict[str, list[tuple[str, bytes]]]:
    """File names and contents of each kind of request: noise with bright discs, of several sizes."""
    rng = np.random.default_rng(seed)
    images = []
    for width, height in ((90, 120), (320, 240), (640, 480), (1200, 900)):
        image = cv2.resize(rng.integers(0, 160, (height // 8, width // 8, 3), np.uint8), (width, height))
        cv2.circle(image, (width // 2, height // 3), height // 6, (200, 220, 255), -1)
        images.append((f"{width}.jpg", cv2.imencode(".jpg", image)[1].tobytes()))
        images.append((f"{width}.png", cv2.imencode(".png", image[::2, ::2])[1].tobytes()))
    videos = []
    for suffix, frames in ((".mp4", 12), (".avi", 5)):
        with writing_video(folder / f"short{suffix}", 10) as write:
            for frame in range(frames):
                image = np.full((120, 160, 3), 40, np.uint8)
                cv2.circle(image, (20 + 8 * frame, 60), 20, (200, 220, 255), -1)
                write(image)
        videos.append((f"short{suffix}", (folder / f"short{suffix}").read_bytes()))
    return {
        "picture": images,
        "video": videos,
        "no picture": [("a.jpg", b"no picture"), ("b.mp4", b"no video"), ("c.png", b""), ("d.webm", rng.bytes(5000))],
        "cut-off picture": [(name, body[: len(body) // 2]) for name, body in images],
        "too large": [("large.jpg", bytes(LARGEST * 1_000_000 + 1000))],
    }


class Requests:
    """Sends requests to the page and looks at the answers.

    Args:
        port: Where the page listens.
        files: As :func:`bodies` makes them.

    Attributes:
        seen: How often each kind got each answer.
        wrong: What is wrong with answers, a line each.
    """

    def __init__(self, port: int, files: dict[str, list[tuple[str, bytes]]]) -> None:
        self.port = port
        self.files = files
        self.seen: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []

    def send(self, kind: str, number: int) -> None:
        """One request of a kind; ``number`` chooses the file."""
        if kind.startswith("leaves"):
            self._leave(number, after=0.6 if kind == "leaves while sending" else 1.0)
            self.seen[kind, "none"] += 1
            return
        name, body = self._file(kind, number)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            if kind == "index":
                connection.request("GET", "/")
            else:
                connection.request("POST", "/poses", *form(name, body if kind != "no file" else None))
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except (ConnectionError, http.client.HTTPException) as error:
            self.seen[kind, type(error).__name__] += 1
            if kind != "too large":  # the page may close before all of it has been sent
                self.wrong.append(f"request {number}, {kind}: {error!r}")
            return
        finally:
            connection.close()
        self.seen[kind, str(status)] += 1
        wanted = ANSWERED.get(kind, status if status in (200, 422) else 200)
        if status != wanted:
            self.wrong.append(f"request {number}, {kind}: {status} instead of {wanted}: {text[:100]!r}")
        elif status == 200 and kind != "index" and json.loads(text)["file_name"] != name:
            self.wrong.append(f"request {number}, {kind}: the answer of another request")

    def _file(self, kind: str, number: int) -> tuple[str, bytes]:
        files = self.files.get(kind, self.files["picture"])
        return files[number % len(files)]

    def _leave(self, number: int, after: float) -> None:
        """Sends a part of a request, or all of it, and goes."""
        name, body = self._file("video" if number % 3 == 0 else "picture", number)
        content, headers = form(name, body)
        head = "".join(f"{key}: {value}\r\n" for key, value in {**headers, "Content-Length": len(content)}.items())
        request = f"POST /poses HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{head}\r\n".encode() + content
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            client.sendall(request[: int(len(request) * after)])


def form(name: str, body: bytes | None) -> tuple[bytes, dict[str, str]]:
    """A form with one file, or with a field alone, and the headers that belong to it."""
    head = f'name="file"; filename="{name}"' if body is not None else 'name="other"'
    content = f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + (body or b"") + b"\r\n--b--\r\n"
    return content, {"Content-Type": "multipart/form-data; boundary=b"}


if __name__ == "__main__":
    main()
