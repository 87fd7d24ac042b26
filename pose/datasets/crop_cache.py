"""A cache of every person's part of its picture: all that augmentation can reach, no finer than it can use; one file.

Made in one pass over the pictures. Decoding such a part takes about a quarter of the time of
decoding its picture.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.datasets.augment import Augmentation
from pose.datasets.crop_regions import crop_regions
from pose.datasets.image_folder import ImageFolder, View, mapped, reduction_for
from pose.datasets.images import decode_image
from pose.errors import DataError
from pose.files import DAMAGED, make_folder, replacing
from pose.locks import lock_file

VERSION = 1
"""Raised whenever the same data and settings would give another file."""

QUALITY = 95
"""The JPEG quality of what is cached."""

_FILE = "crops.bin"


class CropCache:
    """Reads the cached parts of pictures; a :class:`~pose.datasets.image_folder.Source`.

    Args:
        path: A file of :func:`open_crop_cache`.
        reduced_decode: Decode smaller where the crop allows it.
    """

    def __init__(self, path: Path, reduced_decode: bool = False) -> None:
        self.path = path
        self.reduced_decode = reduced_decode
        self._bytes = np.memmap(path, mode="r")
        index = _read_index(self._bytes)
        self.places, self.scales, self.offsets = index["places"], index["scales"], index["offsets"]
        self.broken: dict[str, str] = json.loads(str(index["broken"]))
        """What was wrong with the pictures of persons, by row, when the cache was made."""
        said = json.loads(str(index["notices"])) if "notices" in index else []
        self.notices: list[tuple[str, str]] = [(notice, path) for notice, path in said]
        """(notice, path) of pictures that were turned or may have to be; none in a cache of before they were kept."""

    def view(self, row: int, step: float) -> View:
        """The cached part of a person's picture; see :class:`~pose.datasets.image_folder.Source`."""
        start, length = self.places[row].tolist()
        if not length:
            raise DataError(self.broken[str(row)])
        scale, offset = self.scales[row], self.offsets[row]
        reduction = reduction_for(step * scale[0]) if self.reduced_decode else 1
        image = decode_image(self._bytes[start : start + length], reduction=reduction)
        if image is None:
            raise DataError(f"{self.path}: the crop cache is damaged; delete it, it will be made again")
        if reduction > 1:
            scale, offset = scale / reduction, offset / reduction + (1 / reduction - 1) / 2
        return View(image, scale, offset)


def open_crop_cache(
    folder: Path,
    images: ImageFolder,
    upper_body: np.ndarray,
    input_size: tuple[int, int],
    settings: Augmentation | None,
    workers: int,
    reduced_decode: bool = False,
    tell: Callable[[str], None] = print,
) -> CropCache:
    """The cache of these persons; made where there is none, or one of other annotations, pictures or settings.

    Args:
        folder: The folder, which gets ``crops.bin``.
        images: What to make it from.
        upper_body: (K,) bool, the keypoints of half-body crops.
        input_size: Width and height of the crops.
        settings: What augmentation may do.
        workers: Processes that make it.
        reduced_decode: As for :class:`CropCache`.
        tell: Takes a line about what is done.

    Raises:
        OutputError: The folder cannot be written or the disk is full.
    """
    path = make_folder(folder) / _FILE
    with lock_file(folder / ".lock", wait=True):
        persons = images.persons
        regions, steps = crop_regions(persons, upper_body, input_size, settings)
        key = _key(images, regions, steps)
        found = _key_of(path)
        if found != key:
            for half in folder.glob(f".{path.stem}.*"):  # of a process that was killed
                half.unlink()
            tell(f"{'making' if found is None else 'data or settings changed: making'} the crop cache {path}")
            _write(path, key, images, regions, steps, workers)
            tell(f"made it: {path.stat().st_size / 2**20:.0f} MiB for {len(persons)} persons")
    return CropCache(path, reduced_decode)


def _key(images: ImageFolder, regions: np.ndarray, steps: np.ndarray) -> str:
    """Names everything that the file depends on; of pictures, size and time."""
    persons = images.persons
    digest = hashlib.sha256(f"{VERSION} {QUALITY}".encode())
    for array in (regions, steps, persons.image_index, persons.image_sizes, persons.file_names):
        digest.update(np.ascontiguousarray(array).tobytes())
    for index in np.unique(persons.image_index):
        try:
            status = os.stat(images.path(index))
            digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
        except OSError:
            digest.update(b"missing ")
    return digest.hexdigest()


def _read_index(data: np.ndarray) -> Any:
    start = int.from_bytes(data[-8:].tobytes(), "little")
    return np.load(io.BytesIO(data[start:-8].tobytes()))


def _key_of(path: Path) -> str | None:
    """What a file was made for; None where there is none whose whole index can be read."""
    try:
        index = _read_index(np.memmap(path, mode="r"))
        return str({name: index[name] for name in index.files}["key"])
    except DAMAGED:
        return None


def _write(path: Path, key: str, images: ImageFolder, regions: np.ndarray, steps: np.ndarray, workers: int) -> None:
    """Cuts out every person's part; the index goes to the end of the file, and where it starts to the last 8 bytes."""
    count = len(regions)
    places = np.zeros((count, 2), dtype=np.int64)
    scales, offsets = np.ones((count, 2)), np.zeros((count, 2))
    broken: dict[int, str] = {}
    notices: dict[tuple[str, str], None] = {}
    order = np.argsort(images.persons.image_index, kind="stable")
    tasks = np.split(order, np.flatnonzero(np.diff(images.persons.image_index[order])) + 1)
    work = partial(_cut, images, regions, steps)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for results, said in mapped(work, tasks, workers):
            notices |= dict.fromkeys(said)
            for row, encoded, scale, offset in results:
                if isinstance(encoded, str):
                    broken[row] = encoded
                    continue
                places[row] = file.tell(), len(encoded)
                scales[row], offsets[row] = scale, offset
                file.write(encoded)
        start = file.tell()
        index = io.BytesIO()
        told = {"broken": np.array(json.dumps(broken)), "notices": np.array(json.dumps(list(notices)))}
        arrays = {"key": np.array(key), "places": places, "scales": scales, "offsets": offsets, **told}
        np.savez(index, **arrays)  # type: ignore[arg-type]  # none of them is called allow_pickle
        file.write(index.getvalue() + start.to_bytes(8, "little"))


def _cut(
    images: ImageFolder, regions: np.ndarray, steps: np.ndarray, rows: np.ndarray
) -> tuple[list[tuple[int, bytes | str, np.ndarray | None, np.ndarray | None]], list[tuple[str, str]]]:
    """The cached parts of a picture, one for each of its persons: row, JPEG (or what is wrong), scale and offset.

    And what is said of the picture, as (notice, path).
    """
    try:
        image = images.read(images.persons.image_index[rows[0]]).image
    except DataError as error:
        return [(int(row), str(error), None, None) for row in rows], []
    said, images.notices = images.notices, []
    limits = np.array(image.shape[1::-1])
    firsts = np.minimum(regions[rows, :2], limits - 1)  # regions of a picture of unknown size may go beyond it
    lasts = np.minimum(regions[rows, 2:], limits)
    results: list[tuple[int, bytes | str, np.ndarray | None, np.ndarray | None]] = []
    for row, (left, top), (right, bottom) in zip(rows.tolist(), firsts.tolist(), lasts.tolist(), strict=True):
        part = image[top:bottom, left:right]
        size = np.array((right - left, bottom - top))
        if steps[row] > 1:
            smaller = np.ceil(size / steps[row]).astype(int)
            part = cv2.resize(part, smaller.tolist(), interpolation=cv2.INTER_AREA)
            scale = smaller / size
        else:
            scale = np.ones(2)
        encoded = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        results.append((row, encoded, scale, (scale - 1) / 2 - (left, top) * scale))
    return results, said
