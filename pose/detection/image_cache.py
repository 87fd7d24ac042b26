"""Training pictures decoded once, no larger than they are used, in one file that is mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.images import read_image
from pose.errors import DataError
from pose.files import make_folder, replacing
from pose.locks import lock_file

_BROKEN = (0, 0)


class ImageCache:
    """Pictures by row.

    Args:
        pixels: The file of pixels.
        table: (M, 3) int64: where a picture begins, its height and its width; height 0 of a broken one.
        sizes: (M, 2) int64 width and height of the picture itself.
    """

    def __init__(self, pixels: Path, table: np.ndarray, sizes: np.ndarray) -> None:
        self.table, self.sizes = table, sizes
        self._pixels = np.memmap(pixels, np.uint8, "r")

    @property
    def usable(self) -> np.ndarray:
        """(M,) bool."""
        return self.table[:, 1] > 0

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 BGR, and by what (2,) its width and height were scaled."""
        start, height, width = self.table[row].tolist()
        image = self._pixels[start : start + 3 * height * width].reshape(height, width, 3)
        return image, np.array([width, height]) / self.sizes[row]


def open_image_cache(folder: str | Path, paths: list[str], longest_side: int) -> tuple[ImageCache, list[str]]:
    """Makes the cache, where it is not there, and opens it.

    Args:
        folder: Where; it is named after what is in it.
        paths: The pictures.
        longest_side: Larger pictures are shrunk to it by averages.

    Returns:
        The cache, and what is wrong with pictures that cannot be read.

    Raises:
        DataError: No picture can be read.
        OutputError: The place cannot be written.
    """
    folder = make_folder(folder)
    key = json.dumps([longest_side, [(path, _stamp(path)) for path in paths]])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    pixels, index = folder / f"pictures-{name}.bin", folder / f"pictures-{name}.npz"
    with lock_file(folder / ".lock", wait=True):
        if not index.exists():
            _write(pixels, index, paths, longest_side)
    with np.load(index) as saved:
        table, sizes, broken = saved["table"], saved["sizes"], json.loads(str(saved["broken"]))
    if not table[:, 1].any():
        raise DataError(f"no picture can be read; the first: {broken[0] if broken else 'there is none'}")
    return ImageCache(pixels, table, sizes), broken


def _stamp(path: str) -> tuple[int, int]:
    """What tells whether a file is another one than before."""
    try:
        found = os.stat(path)
    except OSError:
        return _BROKEN
    return found.st_size, found.st_mtime_ns


def _write(pixels: Path, index: Path, paths: list[str], longest_side: int) -> None:
    table, sizes, broken = np.zeros((len(paths), 3), np.int64), np.ones((len(paths), 2), np.int64), []
    place = 0
    with replacing(pixels) as temporary, open(temporary, "wb") as file:
        for row, path in enumerate(paths):
            try:
                image = read_image(path)
            except DataError as error:
                broken.append(str(error))
                continue
            sizes[row] = image.shape[1], image.shape[0]
            factor = longest_side / sizes[row].max()
            if factor < 1:
                size = np.maximum((sizes[row] * factor).round(), 1).astype(int).tolist()
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            table[row] = place, *image.shape[:2]
            file.write(image.tobytes())
            place += image.nbytes
    with replacing(index) as temporary, open(temporary, "wb") as file:
        np.savez(file, table=table, sizes=sizes, broken=json.dumps(broken))
