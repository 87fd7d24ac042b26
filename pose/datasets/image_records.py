"""The records of pictures in an annotation file, read by one rule in training, scoring, demo and converting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pose.datasets.image_names import plain_name
from pose.errors import DataError

UNKNOWN = (0, 0)
"""The size of a picture whose record does not say it."""


class ListedImage(NamedTuple):
    """A picture of an annotation file.

    Attributes:
        id: The file's.
        name: Its file's, with slashes; :func:`pose.datasets.image_names.find_image` finds it.
        size: Width and height as its annotations count pixels; :data:`UNKNOWN` where the file does not say both.
    """

    id: int
    name: str
    size: tuple[int, int]


def is_id(value: object) -> bool:
    """Whether it is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def short(value: object) -> str:
    """A value for a message, in at most 80 letters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def image_sizes(images: Sequence[Any], path: str | Path) -> dict[int, tuple[int, int]]:
    """Width and height of each picture by its id; the records need no names.

    Args:
        images: The file's.
        path: For messages.

    Raises:
        DataError: A record has no id, an id is there twice, or a size is not two whole numbers; names the record.
    """
    sizes: dict[int, tuple[int, int]] = {}
    for row, image in enumerate(images):
        if not isinstance(image, Mapping):
            raise _wrong(path, row, "is no record", image)
        if not is_id(image.get("id")):
            raise _wrong(path, row, f"has {short(image.get('id'))} as id", image)
        if image["id"] in sizes:
            raise DataError(f"{path}: two image records have the same id, {image['id']}; ids must be different")
        sides = [_side(image.get(key)) for key in ("width", "height")]
        if None in sides:
            said = ", ".join(short(image.get(key)) for key in ("width", "height"))
            raise _wrong(path, row, f"has {said} as width and height", image)
        sizes[image["id"]] = (sides[0] or 0, sides[1] or 0) if all(sides) else UNKNOWN
    return sizes


def listed_images(file: Mapping[str, Any], path: str | Path) -> list[ListedImage]:
    """The pictures of an annotation file, which ``path`` names in messages.

    Raises:
        DataError: As for :func:`image_sizes`, or a record has no file name.
    """
    sizes = image_sizes(file["images"], path)
    for row, image in enumerate(file["images"]):
        name = image.get("file_name")
        if not isinstance(name, str) or not name or "\0" in name:
            raise _wrong(path, row, f"has {short(name)} as file_name", image)
    return [ListedImage(each["id"], plain_name(each["file_name"]), sizes[each["id"]]) for each in file["images"]]


def _side(value: object) -> int | None:
    """A width or height, 0 where it is not said; None where it is no such number."""
    if value is None:
        return 0
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if good else None  # type: ignore[return-value]


def _wrong(path: str | Path, row: int, what: str, image: object) -> DataError:
    return DataError(
        f"{path}: an image record needs id, file_name, width and height; number {row} {what}: {short(image)}"
    )
