"""Videos: frames in, frames out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from pose.errors import DataError, OutputError
from pose.files import replacing

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".3gp")

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
"""What OpenCV's own wheels write, by suffix; their H.264 and AV1 writers do not open."""

BROWSER_SUFFIXES = (".webm",)
"""The codecs that browsers play; encoding by them takes thirty times as long as MP4."""

DEFAULT_FPS = 25.0
"""Frames a second of files and cameras that do not say."""


def quiet_opencv() -> None:
    """Keeps OpenCV and its FFmpeg from writing to standard error: the tools tell what went wrong themselves."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class VideoSource:
    """Frames of a video file, a camera or a stream, in order.

    Args:
        source: A file, a camera's number or a stream's address.

    Attributes:
        name: What messages call it.
        title: What the files that are made of it are called.
        path: The file, or None.
        live: A camera or a stream: it has no end, and what is not taken in time is gone.
        fps: Frames a second.
        size: Width and height of the frames.
        frame_count: Frames that a file says it has (a cut-off one yields fewer), or None.

    Raises:
        DataError: The source is missing or no video.
    """

    def __init__(self, source: str | Path | int) -> None:
        self.path = None if isinstance(source, int) or "://" in str(source) else Path(source)
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self.title = self.path.stem if self.path else "camera" if isinstance(source, int) else "stream"
        if self.path is None:
            capture = cv2.VideoCapture(source)
            self._read = lambda: capture.read()[1]
            opened, fps = capture.isOpened(), capture.get(cv2.CAP_PROP_FPS)
            count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            wrong = "cannot be opened; is it there, and free?"
        else:
            if not self.path.is_file():
                raise DataError(f"{source}: video not found; give the path of a video file")
            import mmcv  # it imports torch where that is, which takes seconds

            reader = mmcv.VideoReader(str(source), cache_capacity=1)
            self._read = reader.read
            opened, fps, count = reader.opened, reader.fps, reader.frame_cnt
            if opened and count <= 0:  # as browsers record WebM: no duration, and a clock of 1000 a second
                count, fps = measure_video(self.path)
            wrong = "not a video that OpenCV can decode, or cut off before its first frame"
        self._first = self._read() if opened else None
        if self._first is None:
            raise DataError(f"{self.name}: {wrong}")
        self.fps = fps if np.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS
        self.size = (self._first.shape[1], self._first.shape[0])
        self.frame_count = int(count) if count > 0 else None
        self.live = self.frame_count is None

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 BGR, each frame once; a source is read once."""
        image, self._first = self._first, None
        while image is not None:
            yield image
            image = self._read()


@contextmanager
def writing_video(path: str | Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that appends frames (H, W, 3) uint8 BGR, all of the first one's size.

    The file takes its name when the ``with`` block ends without an error and all of its frames can be read again:
    OpenCV's writer says nothing when the disk is full or the file may not grow.

    Args:
        path: Where to write; its suffix is one of :data:`CODECS`.
        fps: Frames a second.

    Raises:
        OutputError: No codec for this suffix, the writer does not open, no frame came, or not every frame that was
            written is in the file; what was there stays.
    """
    path = Path(path)
    if path.suffix not in CODECS:
        raise OutputError(f"{path}: a video can be written as {' or '.join(CODECS)}")
    writer: cv2.VideoWriter | None = None
    size = (0, 0)
    count = 0
    with replacing(path) as temporary:

        def write(image: np.ndarray) -> None:
            nonlocal writer, size, count
            if writer is None:
                size = (image.shape[1], image.shape[0])
                with _silenced_errors():  # OpenCV grumbles about WebM's codec tag and then writes it well
                    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, size)
                if not writer.isOpened():
                    raise OutputError(f"{path}: no {CODECS[path.suffix]} video can be written there")
            writer.write(image if image.shape[1::-1] == size else cv2.resize(image, size))
            count += 1

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
        if not count:
            raise OutputError(f"{path}: no frame came to be written")
        found = count_frames(temporary)
        if found != count:
            raise OutputError(
                f"{path}: only {found} of {count} frames could be written (a full disk or a limit of sizes); "
                "choose another place"
            )


def measure_video(path: str | Path) -> tuple[int, float]:
    """Frames that can be decoded and frames a second by their times (0 where these say nothing), for files that do not
    say; takes as long as decoding."""
    capture = cv2.VideoCapture(str(path))
    times = []
    try:
        while capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        capture.release()
    lasting = times[-1] - times[0] if times else 0.0
    return len(times), 1000 * (len(times) - 1) / lasting if lasting > 0 else 0.0


def count_frames(path: str | Path) -> int:
    """How many frames of a video file can be decoded; 0 where it is none."""
    if not Path(path).is_file():
        return 0
    capture = cv2.VideoCapture(str(path))
    try:
        return sum(1 for _ in iter(capture.grab, False))
    finally:
        capture.release()


@contextmanager
def _silenced_errors() -> Iterator[None]:
    """Keeps the process's standard error, native code's too, from being seen meanwhile."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
