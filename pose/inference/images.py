"""Pictures as people have them: any kind of pixels becomes upright 8-bit BGR; drawn ones are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.images import read_image
from pose.errors import DataError, OutputError
from pose.files import LISTED_SUFFIXES, replacing
from pose.inference.boxes import trailing_number
from pose.poses import distinct_ids

Image = str | Path | np.ndarray

_QUALITY = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95]}


def as_image(image: Image, upright: bool = True) -> np.ndarray:
    """A picture's pixels, whatever they were.

    Args:
        image: A file that OpenCV can decode (grey, alpha, 16-bit and CMYK ones too), or an array (H, W),
            (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA of uint8 or uint16. Alpha is left out.
        upright: Turn a file's picture by its EXIF mark; its keypoints count from the upright corner then.

    Returns:
        (H, W, 3) uint8 BGR, contiguous; an array that is that already comes back itself.

    Raises:
        DataError: The file cannot be read, is too large, or the array is of another kind.
    """
    if isinstance(image, (str, Path)):
        return read_image(image, orient=upright)
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        if image is None:
            what = "None, which cv2.imread gives where it cannot read a file; give the path itself, and this says why"
        raise DataError(f"a picture must be a path or an array (H, W, 3) uint8 BGR, got {what}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if not image.size or channels not in (1, 3, 4):
        raise DataError(f"a picture must have pixels of 1, 3 or 4 channels, got the shape {image.shape}")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if channels == 1:
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def list_images(folder: str | Path) -> list[Path]:
    """The pictures of a folder in the order of their names.

    Args:
        folder: The folder; those in it are not looked into.

    Raises:
        DataError: There is none, or no such folder.
    """
    try:
        images = sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in LISTED_SUFFIXES)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read as a folder of pictures ({error.strerror or error})") from error
    if not images:
        raise DataError(f"{folder}: no picture in this folder; known are {', '.join(LISTED_SUFFIXES)}")
    return images


def number_images(images: Sequence[Path]) -> list[int]:
    """An ``image_id`` for each: the numbers that the names end with where they differ, else 0, 1, 2 ..."""
    return distinct_ids([trailing_number(image.name) for image in images], first=0)


def check_image_suffix(path: str | Path) -> None:
    """Refuses a name for an image that tells no format.

    Raises:
        OutputError: OpenCV writes no images with this suffix.
    """
    if not cv2.haveImageWriter(f"a{Path(path).suffix}"):
        raise OutputError(f"{path}: no suffix of an image that can be written; take .jpg or .png")


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 BGR in the format of the suffix, beside and renamed.

    Raises:
        OutputError: The place cannot be written.
    """
    path = Path(path)
    check_image_suffix(path)
    encoded, data = cv2.imencode(path.suffix, image, _QUALITY.get(path.suffix.lower(), []))
    if not encoded:
        raise OutputError(f"{path}: the picture cannot be written in this format")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
