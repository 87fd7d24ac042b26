"""What every format asks of images: their sizes, and links to them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pose.datasets.images import missing_image
from pose.errors import DataError, OutputError, require
from pose.formats.dataset import ImageRecord

_UPRIGHT_SWAPS = (5, 6, 7, 8)  # values of EXIF's orientation that exchange width and height
_ORIENTATION = 0x0112


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image file as its EXIF mark turns it, from its header alone.

    Raises:
        DataError: It is absent or no image.
        MissingExtra: Pillow is not installed.
    """
    pillow = require("PIL.Image", "reading the sizes of images")
    try:
        with pillow.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _UPRIGHT_SWAPS
    except FileNotFoundError as error:
        raise missing_image(path) from error
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: broken PNGs
        raise DataError(f"{path}: not an image that Pillow can read ({error}); remove or replace it") from error
    return (height, width) if turned else (width, height)


def measured(name: str, images: Path | None, number: int | None = None) -> ImageRecord:
    """The record of an image whose format says no size.

    Args:
        name: File name relative to the image folder.
        images: The folder.
        number: The image's id, if the format says one.

    Raises:
        DataError: No folder was given, or the file is absent or no image.
    """
    if images is None:
        raise DataError(f"{name}: this format does not say how large an image is; give the image folder by --images")
    return ImageRecord(name, *image_size(images / name), number)


def link_image(source: Path, target: Path) -> None:
    """Puts an image at another place: as a relative symbolic link, or as a copy where there are none.

    What stands there already as a link is replaced; a file stays and is an error, unless it is the same one.

    Raises:
        DataError: The image is absent.
        OutputError: It cannot be put there.
    """
    if not source.is_file():
        raise missing_image(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            if target.samefile(source):
                return
            raise OutputError(f"{target}: is there already and is no link; choose an empty folder")
        try:
            target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
        except (OSError, NotImplementedError):
            shutil.copy2(source, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{target}: cannot be written ({error.strerror or error}); choose another place") from error
