"""Reading pictures as COCO counts their pixels, with a word about those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pose.errors import DataError

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"

_COLOR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_image(path: str | Path, orient: bool = False, reduction: int = 1) -> np.ndarray:
    """Decodes a picture.

    Args:
        path: A file that OpenCV can decode.
        orient: Turn the picture upright by its EXIF mark. COCO's annotations count pixels as they
            are stored, so data sets leave this off.
        reduction: 1, 2, 4 or 8: what a JPEG's sides are divided by, and rounded up. The decoder then skips
            work, and pixel i covers pixels i * reduction to (i + 1) * reduction - 1. Other formats come whole.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        DataError: The file is absent, cut off, too large or no picture.
    """
    return decode_checked(read_bytes(path), path, orient, reduction)


def read_bytes(path: str | Path) -> bytes:
    """A picture's file.

    Raises:
        DataError: It is absent, cannot be read or is cut off.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except FileNotFoundError as error:
        raise missing_image(path) from error
    except OSError as error:
        raise DataError(f"{path}: picture cannot be read ({error.strerror or error})") from error
    check_complete(data, path)
    return data


def check_complete(data: bytes, path: str | Path) -> None:
    """Raises DataError where a JPEG or PNG ends before its end mark; ``path`` is for the message."""
    if _is_cut_off(data):
        raise DataError(f"{path}: picture is cut off ({len(data)} bytes, no end mark); fetch it again")


def decode_checked(data: bytes, path: str | Path, orient: bool = False, reduction: int = 1) -> np.ndarray:
    """Decodes a picture's file, see :func:`read_image`; ``path`` is for messages.

    Raises:
        DataError: It is too large or no picture.
    """
    try:
        image = decode_image(np.frombuffer(data, np.uint8), orient, reduction)
    except (cv2.error, MemoryError) as error:  # OpenCV stops at 2^20 pixels a side and 2^30 in all
        raise DataError(f"{path}: picture is too large to be decoded; shrink it") from error
    if image is None:
        raise DataError(f"{path}: not a picture that OpenCV can decode; remove or replace it")
    return image


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end mark. Phones write films and more behind that mark."""
    if data.startswith(_PNG):
        return b"IEND" not in data
    if not data.startswith(_JPEG):
        return False
    place = len(_JPEG)
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] not in (b"\xda", b""):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")  # a segment; a thumbnail has an end mark too
    return data.rfind(b"\xff\xd9", place) < 0  # which coded pixels never contain; from behind, where it mostly is


def missing_image(path: str | Path) -> DataError:
    """What is told about a picture that is not there."""
    return DataError(f"{path}: picture not found; is the picture folder the right one and complete?")


def decode_image(data: np.ndarray, orient: bool = False, reduction: int = 1) -> np.ndarray | None:
    """Decodes the bytes of a picture, (n,) uint8; None where they are none. See :func:`read_image`."""
    if not len(data):
        return None
    flags = _COLOR[reduction_of(data[:2].tobytes(), reduction)]
    return cv2.imdecode(data, flags | (0 if orient else cv2.IMREAD_IGNORE_ORIENTATION))


def reduction_of(data: bytes, reduction: int) -> int:
    """What :func:`decode_image` divides the sides by: ``reduction`` where the bytes begin a JPEG, else 1."""
    return reduction if data.startswith(_JPEG) else 1


def warp(image: np.ndarray, affine: np.ndarray, size: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """One bilinear resampling with a black border.

    Args:
        image: (H, W, 3) uint8.
        affine: (2, 3) from picture to crop pixels.
        size: Width and height of the crop.
        out: Where to write it.

    Returns:
        (height, width, 3) uint8.
    """
    return cv2.warpAffine(image, affine, size, out, flags=cv2.INTER_LINEAR)
