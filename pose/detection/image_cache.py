"""Training pictures decoded once, no larger than they are used, in one file that is mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose.datasets.orientation import read_annotated
from pose.errors import DataError
from pose.files import DAMAGED, make_folder, replacing
from pose.locks import lock_file

_BROKEN = (0, 0)


class ImageCache:
    """Pictures by row.

    Args:
        pixels: The file of pixels.
        table: (M, 3) int64: where a picture begins, its height and its width; height 0 of a broken one.
        sizes: (M, 2) int64 width and height of the picture itself.
        notices: (notice, path) of pictures that were turned or may be, see
            :class:`pose.datasets.orientation.ImageNotices`.
    """

    def __init__(
        self, pixels: Path, table: np.ndarray, sizes: np.ndarray, notices: list[tuple[str, str]] | None = None
    ) -> None:
        self.table, self.sizes, self.notices = table, sizes, notices or []
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


def open_image_cache(
    folder: str | Path,
    paths: list[str],
    longest_side: int,
    annotated: np.ndarray | None = None,
    tell: Callable[[str], None] = tqdm.write,
) -> tuple[ImageCache, list[str]]:
    """Makes the cache, where it is not there whole, and opens it.

    Args:
        folder: Where; it is named after what is in it.
        paths: The pictures.
        longest_side: Larger pictures are shrunk to it by averages.
        annotated: (M, 2) int width and height as the annotations count pixels, see
            :func:`pose.datasets.orientation.read_annotated`; 0, 0 where that is not known, as without them.
        tell: Takes a line about caches of other pictures that are in the folder, where one is made.

    Returns:
        The cache, and what is wrong with pictures that cannot be used.

    Raises:
        DataError: No picture can be used.
        OutputError: The place cannot be written.
    """
    folder = make_folder(folder)
    sizes = np.zeros((len(paths), 2), int) if annotated is None else annotated
    key = json.dumps([longest_side, [(path, _stamp(path)) for path in paths], sizes.tolist()])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    pixels, index = folder / f"pictures-{name}.bin", folder / f"pictures-{name}.npz"
    with lock_file(folder / ".lock", wait=True):
        if not _is_whole(pixels, index):
            for half in folder.glob(".pictures-*"):  # of a process that was killed
                half.unlink()
            _write(pixels, index, paths, longest_side, sizes)
            _tell_others(folder, pixels, tell)
    with np.load(index) as saved:
        table, sizes = saved["table"], saved["sizes"]
        broken, notices = (json.loads(str(saved[name])) for name in ("broken", "notices"))
    if not table[:, 1].any():
        raise DataError(f"no picture can be used; the first: {broken[0] if broken else 'there is none'}")
    return ImageCache(pixels, table, sizes, [tuple(notice) for notice in notices]), broken


def _is_whole(pixels: Path, index: Path) -> bool:
    """Whether both files are there, and the pixels are as many as the index says."""
    try:
        with np.load(index) as saved:
            return bool(pixels.stat().st_size == 3 * (saved["table"][:, 1] * saved["table"][:, 2]).sum())
    except DAMAGED:
        return False


def _tell_others(folder: Path, pixels: Path, tell: Callable[[str], None]) -> None:
    """Caches of other pictures or settings stay: another training may use them."""
    others = [path for path in sorted(folder.glob("pictures-*.bin")) if path != pixels]
    if others:
        size = sum(path.stat().st_size for path in others) / 1e6
        names = ", ".join(path.name for path in others)
        tell(f"{folder}: {size:,.0f} MB are of other pictures or settings; delete what no training needs: {names}")


def _stamp(path: str) -> tuple[int, int]:
    """What tells whether a file is another one than before."""
    try:
        found = os.stat(path)
    except OSError:
        return _BROKEN
    return found.st_size, found.st_mtime_ns


def _write(pixels: Path, index: Path, paths: list[str], longest_side: int, annotated: np.ndarray) -> None:
    table, sizes = np.zeros((len(paths), 3), np.int64), np.ones((len(paths), 2), np.int64)
    broken: list[str] = []
    notices: list[tuple[str, str]] = []
    place = 0
    with replacing(pixels) as temporary, open(temporary, "wb") as file:
        for row, path in enumerate(tqdm(paths, desc="decoding", unit="picture", leave=False, disable=None)):
            try:
                image, notice, _ = read_annotated(path, tuple(annotated[row].tolist()))
            except DataError as error:
                broken.append(str(error))
                continue
            if notice:
                notices.append((notice, path))
            sizes[row] = image.shape[1], image.shape[0]
            factor = longest_side / sizes[row].max()
            if factor < 1:
                size = np.maximum((sizes[row] * factor).round(), 1).astype(int).tolist()
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            table[row] = place, *image.shape[:2]
            file.write(image.tobytes())
            place += image.nbytes
    told, said = np.array(json.dumps(broken)), np.array(json.dumps(notices))
    with replacing(index) as temporary, open(temporary, "wb") as file:
        np.savez(file, table=table, sizes=sizes, broken=told, notices=said)
