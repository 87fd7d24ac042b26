"""The pictures of a data set: where a person's pixels come from, and what happens to broken ones."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from pose.datasets.coco import Persons
from pose.datasets.image_names import find_image
from pose.datasets.images import missing_image
from pose.datasets.orientation import AnnotatedImage, read_annotated
from pose.datasets.workers import usable_workers
from pose.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

REDUCTIONS = (8, 4, 2)
"""What a JPEG decoder can divide a picture's sides by while it decodes."""


class View(NamedTuple):
    """A picture or a part of it, perhaps smaller.

    Attributes:
        image: (h, w, 3) uint8 BGR.
        scale, offset: (2,) float64; the picture's point p lies at ``p * scale + offset`` of the image. None for
            the picture itself.
    """

    image: np.ndarray
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None

    def seen(self, affine: np.ndarray) -> np.ndarray:
        """A map (2, 3) from the picture's pixels to others, as one from the image's pixels."""
        if self.scale is None:
            return affine
        linear = affine[:, :2] / self.scale
        return np.concatenate([linear, (affine[:, 2] - linear @ self.offset)[:, None]], axis=1)


class Source(Protocol):
    """Where the pixels of persons come from."""

    def view(self, row: int, step: float) -> View:
        """What a crop of a person needs.

        Args:
            row: Which person it is, in its :class:`~pose.datasets.coco.Persons`.
            step: Picture pixels per crop pixel: finer detail is not needed.

        Raises:
            DataError: The picture is absent or broken.
        """


def reduction_for(step: float) -> int:
    """How much smaller a picture may be decoded for a crop with ``step`` picture pixels per pixel."""
    return next((factor for factor in REDUCTIONS if factor <= step), 1)


class ImageFolder:
    """Decodes whole pictures.

    Args:
        persons: The persons on them.
        root: The folder that their file names are relative to.
        reduced_decode: Decode smaller where the crop allows it.

    Attributes:
        notices: (notice, path) of pictures that were turned or may be, since somebody emptied it.

    Raises:
        DataError: There is no such folder.
    """

    def __init__(self, persons: Persons, root: str | Path, reduced_decode: bool = False) -> None:
        self.persons = persons
        self.root = str(root)
        self.reduced_decode = reduced_decode
        self.notices: list[tuple[str, str]] = []
        self._last: tuple[str, int, AnnotatedImage] | None = None
        if not Path(root).is_dir():
            raise DataError(f"{root}: picture folder not found; see data/README.md for the layout")

    def path(self, index: int) -> str:
        """The file of a picture, by its row in the table of pictures."""
        return find_image(self.root, self.persons.file_names[index].decode())

    def missing(self) -> list[DataError]:
        """An error for each picture with persons that is not there."""
        paths = map(self.path, np.unique(self.persons.image_index))
        return [missing_image(path) for path in paths if not os.path.isfile(path)]

    def read(self, index: int, reduction: int = 1) -> AnnotatedImage:
        """A picture, by its row in the table of pictures.

        Args:
            index: The picture's row.
            reduction: As for :func:`~pose.datasets.images.read_image`.

        Returns:
            The picture, turned by its EXIF mark where its annotations were made so.

        Raises:
            DataError: It is absent, broken or of another size than its annotations say.
        """
        path = self.path(index)
        if self._last is not None and self._last[:2] == (path, reduction):  # in order, a picture's persons follow
            return self._last[2]
        width, height = self.persons.image_sizes[index].tolist()
        found = read_annotated(path, (width, height), reduction)
        if found.notice:
            self.notices.append((found.notice, path))
        self._last = (path, reduction, found)
        return found

    def view(self, row: int, step: float) -> View:
        """The whole picture of a person; see :class:`Source`."""
        index = self.persons.image_index[row]
        reduction = reduction_for(step) if self.reduced_decode else 1
        image, _, reduced = self.read(index, reduction)
        if reduced == 1:
            return View(image)
        scale = np.full(2, 1 / reduced)
        return View(image, scale, (scale - 1) / 2)


def broken_images(images: ImageFolder, workers: int, indices: np.ndarray) -> list[str]:
    """What is wrong with pictures; every one is decoded.

    Args:
        images: Where they are read from.
        workers: Processes; 0 for this one.
        indices: Rows of the table of pictures.
    """
    problems = mapped(partial(_problem, images), indices.tolist(), workers)
    return [problem for problem in problems if problem is not None]


def _problem(images: ImageFolder, index: int) -> str | None:
    try:
        images.read(index)
    except DataError as error:
        return str(error)
    return None


def mapped(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """``map`` by several processes, no more than processors, which share this one's memory; 0 for this one."""
    workers = usable_workers(workers)
    if workers == 0:
        yield from map(work, items)
        return
    cv2.setNumThreads(1)  # a forked copy of a thread pool that was in use waits forever
    with multiprocessing.get_context("fork").Pool(workers, _leave_signals) as pool:
        yield from pool.imap(work, items, chunksize=16)


def _leave_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes: the main one ends the others,
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with SIGTERM
