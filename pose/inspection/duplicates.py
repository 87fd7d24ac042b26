"""Images that are there twice, by perceptual hashes of images and of their mirrors, within a data set or across splits.

The hash is pHash (Zauner, 2010): of a 32 x 32 grey image the signs of 64 low frequencies about their median. It stays
nearly the same when an image is scaled, compressed again or a little brighter, and not when it is cropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from pose.datasets.orientation import read_annotated
from pose.errors import DataError

NEAR = 6
"""The most of 64 bits in which the hashes of near-duplicates differ."""

_SIDE, _LOW, _BLOCK, _WORKERS = 32, 8, 1024, 4
_ONES = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)


@dataclass(frozen=True)
class Duplicate:
    """Two images that look the same.

    Attributes:
        first: Row in the list of all images.
        second: Row in the list of all images, larger.
        distance: How many of the hashes' 64 bits differ.
        mirrored: Whether one looks like the other's mirror.
    """

    first: int
    second: int
    distance: int
    mirrored: bool


def perceptual_hash(image: np.ndarray) -> int:
    """The 64 bits of (H, W, 3) uint8 BGR; 0 for an image of one color."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    if np.abs(low[1:]).max() < 1:
        return 0
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


class ImageFile(NamedTuple):
    """An image as its annotations count its pixels.

    Attributes:
        path: The file.
        size: Width and height that the annotations say; 0, 0 where they do not know.
    """

    path: Path
    size: tuple[int, int] = (0, 0)

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR; raises DataError as :func:`~pose.datasets.orientation.read_annotated`."""
        return read_annotated(self.path, self.size).image


def hash_images(files: Sequence[ImageFile]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Hashes of image files, with progress.

    Returns:
        (M,) uint64 hashes and (M,) of the mirrored images, 0 where a file cannot be used; what was wrong with those.
    """

    def both(file: ImageFile) -> tuple[int, int, str]:
        try:
            image = file.read()
        except DataError as error:
            return 0, 0, str(error)
        return perceptual_hash(image), perceptual_hash(image[:, ::-1]), ""

    with ThreadPoolExecutor(_WORKERS) as pool:
        found = list(tqdm(pool.map(both, files), total=len(files), desc="hashing", unit="image", disable=None))
    hashes, mirrored = (np.array([each[side] for each in found], np.uint64) for side in (0, 1))
    return hashes, mirrored, [each[2] for each in found if each[2]]


def find_duplicates(hashes: np.ndarray, mirrored: np.ndarray, near: int = NEAR) -> list[Duplicate]:
    """All pairs that differ in at most ``near`` bits, the most alike first; images without a hash are in none.

    Args:
        hashes: (M,) uint64, see :func:`hash_images`.
        mirrored: (M,) uint64 of the mirrored images.
        near: The largest distance.
    """
    found: dict[tuple[int, int], Duplicate] = {}
    for flipped, others in ((False, hashes), (True, mirrored)):
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK]
            distances = _distances(block, others)
            distances[block == 0] = distances[:, hashes == 0] = 64
            for row, column in zip(*np.nonzero(distances <= near), strict=True):
                pair = start + int(row), int(column)
                if pair[0] < pair[1]:
                    found.setdefault(pair, Duplicate(*pair, int(distances[row, column]), flipped))
    return sorted(found.values(), key=lambda each: (each.distance, each.mirrored, each.first, each.second))


def _distances(block: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(B, M) uint8: in how many bits each hash of a block differs from each other one."""
    differ = block[:, None] ^ others[None]
    return sum((_ONES[(differ >> np.uint64(shift)) & np.uint64(0xFFFF)] for shift in (0, 16, 32, 48)), np.uint8(0))


def split_duplicates(duplicates: Iterable[Duplicate], splits: np.ndarray) -> tuple[list[Duplicate], list[Duplicate]]:
    """The duplicates across splits and those within one; ``splits`` (M,) numbers the split of each image."""
    across: list[Duplicate] = []
    within: list[Duplicate] = []
    for each in duplicates:
        (across if splits[each.first] != splits[each.second] else within).append(each)
    return across, within
