"""Pictures that carry an EXIF mark of how to turn them, and the two ways in which annotations count their pixels.

COCO's annotations count pixels as they are stored. Tools that show pictures upright annotate them upright. Width and
height of the annotation file tell which it was, except where they are equal or the picture is upside down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pose.datasets.image_names import find_image
from pose.datasets.image_records import image_sizes
from pose.datasets.images import decode_checked, read_bytes, reduction_of
from pose.errors import DataError

TURNED = "turned upright by their EXIF mark, as their annotations' width and height say"
UNSURE = "have an EXIF mark and are read as stored: their annotations' width and height do not say whether upright"


class AnnotatedImage(NamedTuple):
    """A picture as its annotations count its pixels.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        notice: :data:`TURNED`, :data:`UNSURE` or nothing.
        reduction: What its sides were divided by.
    """

    image: np.ndarray
    notice: str = ""
    reduction: int = 1


def exif_orientation(data: bytes) -> int:
    """How a JPEG is to be turned, 1 to 8 as EXIF 2.3 numbers it; 1, as it is stored, where nothing is said."""
    place = 2
    while (
        data[:2] == b"\xff\xd8"
        and data[place : place + 1] == b"\xff"
        and data[place + 1 : place + 2] not in (b"\xda", b"")
    ):
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        block = data[place + 4 : place + 2 + length]
        if data[place + 1] == 0xE1 and block.startswith(b"Exif\0\0"):
            return _orientation_of_tiff(block[6:])
        place += 2 + length
        if place + 2 > len(data):
            break
    return 1


def _orientation_of_tiff(block: bytes) -> int:
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(block[place : place + size], order)

    first = number(4, 4)
    for entry in range(first + 2, first + 2 + 12 * min(number(first, 2), 1000), 12):
        if number(entry, 2) == 0x0112:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def read_annotated(path: str | Path, size: tuple[int, int], reduction: int = 1) -> AnnotatedImage:
    """Decodes a picture as its annotations count its pixels.

    Args:
        path: A file that OpenCV can decode.
        size: Width and height that the annotations say; 0, 0 where they do not know.
        reduction: As for :func:`~pose.datasets.images.read_image`.

    Raises:
        DataError: The file cannot be read, or is of another size whichever way it is turned.
    """
    data = read_bytes(path)
    reduction = reduction_of(data, reduction)
    orientation = exif_orientation(data)
    image = decode_checked(data, path, False, reduction)
    width, height = size
    if size == (0, 0) or _fits(image, width, height, reduction):
        unsure = orientation != 1 and (orientation < 5 or width == height)
        return AnnotatedImage(image, UNSURE if unsure else "", reduction)
    exchanged = _fits(image, height, width, reduction)
    if exchanged and orientation >= 5:
        return AnnotatedImage(decode_checked(data, path, True, reduction), TURNED, reduction)
    found = "" if reduction == 1 else f" (at 1/{reduction})"
    raise DataError(
        f"{path}: picture is {image.shape[1]} x {image.shape[0]}{found}, its annotations say {width} x {height}; "
        + (
            "width and height are exchanged, and the picture has no mark that turns it: correct the annotation file"
            if exchanged
            else "it is not the picture that was annotated"
        )
    )


def read_named(root: str | Path, name: str, size: tuple[int, int], reduction: int = 1) -> AnnotatedImage:
    """The picture that an annotation file means, the way up in which it was annotated.

    Args:
        root: The folder of the pictures.
        name: Its ``file_name``, see :func:`~pose.datasets.image_names.find_image`.
        size, reduction: As for :func:`read_annotated`.

    Raises:
        DataError: There is no such file, it cannot be read, or is of another size whichever way it is turned.
    """
    return read_annotated(find_image(str(root), name), size, reduction)


def size_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """``width`` and ``height`` of an annotation file's image record that was read; 0, 0 where it does not say both."""
    (size,) = image_sizes([record], "annotations").values()
    return size


def _fits(image: np.ndarray, width: int, height: int, reduction: int) -> bool:
    return image.shape[:2] == (-(-height // reduction), -(-width // reduction))


class ImageNotices:
    """Counts pictures by what is said of them, and tells the first of each kind at once.

    Attributes:
        found: The pictures' paths by notice.
    """

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        self._told: dict[str, int] = {}

    def add(self, notices: Iterable[tuple[str, str]], tell: Callable[[str], None]) -> None:
        """Counts (notice, path) pairs."""
        for notice, path in notices:
            if notice not in self.found:
                tell(f"{path} and perhaps more pictures {notice}")
            self.found.setdefault(notice, set()).add(path)

    @property
    def lines(self) -> list[str]:
        """What is said, with how many pictures it is said of."""
        return [f"{len(paths):,} pictures {notice}" for notice, paths in self.found.items()]

    def tell_counts(self, tell: Callable[[str], None]) -> None:
        """Tells how many there are of each kind, where that is more than was told."""
        for notice, paths in self.found.items():
            if len(paths) > self._told.get(notice, 1):
                self._told[notice] = len(paths)
                tell(f"{len(paths):,} pictures {notice}")
