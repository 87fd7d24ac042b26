"""What poses are looked for in: picture files, a video, a camera or a stream, as frames one after another."""

from __future__ import annotations

import glob
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.orientation import ImageNotices, read_annotated
from pose.errors import DataError
from pose.files import LISTED_SUFFIXES
from pose.inference.images import as_image, list_images, number_images
from pose.inference.video.files import VIDEO_SUFFIXES, VideoSource

_ANIMATED = (".gif", ".avif", ".webp", ".tif", ".tiff")
"""Suffixes of files that may hold several pictures."""

SizeOf = Callable[[Path], tuple[int, int] | None]


@dataclass(frozen=True)
class Frame:
    """A picture on its way.

    Attributes:
        number: ``image_id`` of its results: a picture's number or a frame's, counted from 0.
        image: (H, W, 3) uint8 BGR.
        path: The picture's file; None for a frame of a video.
    """

    number: int
    image: np.ndarray
    path: Path | None = None


class ImageFiles:
    """Picture files as frames; those that cannot be read are told and left out.

    Args:
        paths: The files; a single one that cannot be read is an error.
        upright: Turn pictures by their EXIF mark.
        warn: Takes messages about files that are left out or were turned, and about the first file that holds
            several pictures: the first of each is taken.
        size_of: Gives the width and height that annotations say of a file, or None; they decide then which way it is
            turned, see :func:`~pose.datasets.orientation.read_annotated`.

    Attributes:
        skipped: How many files were left out so far.
    """

    def __init__(
        self, paths: list[Path], upright: bool, warn: Callable[[str], None], size_of: SizeOf | None = None
    ) -> None:
        self.paths = paths
        self.upright = upright
        self.warn = warn
        self.size_of = size_of
        self._notices = ImageNotices()
        self.skipped = 0
        self._several_told = False

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for number, path in zip(number_images(self.paths), self.paths, strict=True):
            try:
                image = self._read(path)
            except DataError as error:
                self.skip(error)
                continue
            self._tell_of_several(path)
            yield Frame(number, image, path)
        self._notices.tell_counts(self.warn)

    def _read(self, path: Path) -> np.ndarray:
        size = self.size_of(path) if self.size_of else None
        if size is None:
            return as_image(path, self.upright)
        found = read_annotated(path, size)
        self._notices.add([(found.notice, str(path))] if found.notice else [], self.warn)
        return found.image

    def _tell_of_several(self, path: Path) -> None:
        if self._several_told or path.suffix.lower() not in _ANIMATED:
            return
        count = cv2.imcount(str(path))
        if count > 1:
            self._several_told = True
            self.warn(f"{path}: holds {count} pictures; the first of it, and of others like it, is taken")

    def skip(self, error: DataError) -> None:
        """Counts and tells a picture that cannot be used; raises the error where it is the only one."""
        if len(self.paths) == 1:
            raise error
        self.skipped += 1
        self.warn(f"{error}: skipped")


def open_input(
    name: str, upright: bool, warn: Callable[[str], None], size_of: SizeOf | None = None
) -> ImageFiles | VideoSource:
    """What a name on the command line means.

    Args:
        name: A picture, a folder of pictures, a pattern such as ``"a/*.jpg"``, a video file, the number
            of a camera, or a stream's address with ``://``.
        upright: Turn pictures by their EXIF mark.
        warn: Takes messages about pictures that cannot be read or were turned.
        size_of: As for :class:`ImageFiles`.

    Raises:
        DataError: There is nothing of that name, or it is no video.
    """
    path = Path(name)
    if path.is_dir():
        return ImageFiles(list_images(path), upright, warn, size_of)
    if not path.exists():
        if name.isdecimal() or "://" in name:
            return VideoSource(int(name) if name.isdecimal() else name)
        found = sorted(Path(match) for match in glob.glob(name, recursive=True))
        images = [match for match in found if match.suffix.lower() in LISTED_SUFFIXES]
        if not images:
            raise DataError(f"{name}: no such picture, folder or video, and no pattern that matches pictures")
        return ImageFiles(images, upright, warn, size_of)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(path)
    return ImageFiles([path], upright, warn, size_of)


def read_ahead(
    frames: Iterable[Frame], most_bytes: int = 1 << 26, newest_only: bool = False
) -> Generator[Frame, None, None]:
    """The same frames, decoded in a thread while earlier ones are worked on.

    Args:
        frames: Read in the thread.
        most_bytes: Pixels that may wait; one frame waits at most where it is larger than that.
        newest_only: A frame that nobody took is replaced by the next: a camera never lags behind.

    Raises:
        Exception: What reading raises, after the frames before it.
    """
    waiting: deque[Frame] = deque()
    changed = threading.Condition()
    stopped = finished = False
    failure: list[BaseException] = []

    def has_room(frame: Frame) -> bool:
        held = sum(other.image.nbytes for other in waiting)
        return stopped or not waiting or held + frame.image.nbytes <= most_bytes

    def produce() -> None:
        nonlocal finished
        try:
            for frame in frames:
                with changed:
                    if newest_only:
                        waiting.clear()
                    changed.wait_for(lambda: has_room(frame))  # noqa: B023 - called before the next frame
                    if stopped:
                        return
                    waiting.append(frame)
                    changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again where the frames are used
            failure.append(error)
        finally:
            with changed:
                finished = True
                changed.notify_all()

    thread = threading.Thread(target=produce, name="decoding", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting or finished)
                if not waiting:
                    break
                frame = waiting.popleft()
                changed.notify_all()
            yield frame
        if failure:
            raise failure[0]
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        thread.join(timeout=2)  # a stream that hangs is left to the daemon
