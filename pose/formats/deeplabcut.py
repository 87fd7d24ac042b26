"""DeepLabCut's tables of found poses, CSV or HDF5: a row a frame, columns scorer, individual, bodypart and coordinate.

``movement`` 0.15 loads both as poses of the dimensions time, space, keypoints and individuals.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from pose.errors import DataError, require
from pose.files import replacing
from pose.formats.dataset import PoseDataset
from pose.formats.options import WriteOptions

SCORER = "pose"
_COORDINATES = ("x", "y", "likelihood")
HDF_KEY = "df_with_missing"
"""Under which DeepLabCut keeps its table."""

LONGEST = 24 * 60 * 60 * 120
"""Larger numbers at the ends of names are no frames: a day of 120 frames a second has fewer."""


def write(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes the table; what is not labeled is empty in CSV and NaN in HDF5.

    With tracks, the images are frames of a video by the numbers that their names end with, every frame from 0 on has a
    row (movement counts rows and takes no note of their numbers), and a track is an individual. Where the names number
    no frames (times, say, or no numbers), the images are rows in their order. Without tracks likewise, and persons are
    individuals in their order, which does not tell who is the same person in the next image.

    Returns:
        What the format cannot hold.

    Raises:
        DataError: The images are of several videos.
        OutputError: The place cannot be written.
        MissingExtra: HDF5 needs pandas and PyTables.
    """
    kept = dataset.take(dataset.persons)
    tracked = bool(len(kept)) and bool((kept.tracks >= 0).all())
    numbered = _frames(dataset) if tracked else None
    frames = np.arange(len(dataset.images)) if numbered is None else numbered
    individuals, names = _individuals(kept, tracked)
    first = np.unique(np.stack([kept.owners, individuals]), axis=1, return_index=True)[1]
    twice = len(kept) - len(first)
    kept, individuals = kept.take(first), individuals[first]
    rows = frames[kept.owners]
    table = np.full((int(frames.max(initial=-1)) + 1, len(names), dataset.skeleton.num_keypoints, 3), np.nan)
    scores = np.where(np.isfinite(kept.joint_scores), kept.joint_scores, 1.0)
    values = np.dstack([kept.keypoints[..., :2], scores])
    table[rows, individuals] = np.where(kept.labeled[..., None], values, np.nan)
    columns = [
        (SCORER, individual, joint, coordinate)
        for individual in names
        for joint in dataset.skeleton.keypoints
        for coordinate in _COORDINATES
    ]
    flat = table.reshape(len(table), len(columns))
    index = np.arange(len(table))
    write = _write_hdf if path.suffix.lower() in (".h5", ".hdf5") else _write_csv
    write(path, columns, flat, index)
    return Counter(
        {
            "boxes": int(np.isfinite(kept.boxes).all(1).sum()),
            "areas": int(np.isfinite(kept.areas).sum()),
            "hidden joints (seen now)": int((kept.keypoints[..., 2] == 1).sum()),
            "names of images (rows are numbers)": len(dataset.images),
            "limbs": len(dataset.skeleton.limbs),
            "persons and regions without keypoints": int((~dataset.persons).sum()),
            "persons of a track that has another one on their image": twice,
            "frames without a number (rows in the images' order)": len(frames) if tracked and numbered is None else 0,
        }
    )


def _frames(dataset: PoseDataset) -> np.ndarray | None:
    """(M,) int64 frame numbers, which the images' names end with; None where they number no frames of a video.

    Raises:
        DataError: They number frames of several videos: names differ in more than the number.
    """
    stems = (PurePosixPath(image.file_name).with_suffix("").as_posix() for image in dataset.images)
    found = [re.fullmatch(r"(.*?)(\d+)", stem) for stem in stems]
    pairs = [(match[1], int(match[2])) for match in found if match]
    if len(pairs) < len(found) or max(number for _, number in pairs) >= LONGEST:
        return None
    videos = list(dict.fromkeys(video for video, _ in pairs))
    if len(videos) > 1:
        raise DataError(
            f"images of {len(videos)} videos ({videos[0]!r}, {videos[1]!r} ...), and a table is of one; write one for "
            "each"
        )
    numbers = np.array([number for _, number in pairs], np.int64)
    return numbers if len(np.unique(numbers)) == len(numbers) else None


def _individuals(kept: PoseDataset, tracked: bool) -> tuple[np.ndarray, list[str]]:
    """(N,) each person's individual, and the individuals' names."""
    if tracked:
        tracks, numbers = np.unique(kept.tracks, return_inverse=True)
        return numbers, [f"track_{track}" for track in tracks]
    numbers = np.zeros(len(kept), np.int64)
    so_far: Counter[int] = Counter()
    for row, owner in enumerate(kept.owners.tolist()):
        numbers[row] = so_far[owner]
        so_far[owner] += 1
    return numbers, [f"person_{number + 1}" for number in range(max(so_far.values(), default=0))]


def _write_csv(path: Path, columns: Sequence[tuple[str, ...]], values: np.ndarray, index: np.ndarray) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        for level, name in enumerate(("scorer", "individuals", "bodyparts", "coords")):
            table.writerow([name, *(column[level] for column in columns)])
        for number, row in zip(index.tolist(), values.round(6).tolist(), strict=True):
            table.writerow([number, *("" if value != value else value for value in row)])


def _write_hdf(path: Path, columns: Sequence[tuple[str, ...]], values: np.ndarray, index: np.ndarray) -> None:
    pandas = require("pandas", "writing DeepLabCut's HDF5")
    require("tables", "writing DeepLabCut's HDF5")
    heads = pandas.MultiIndex.from_tuples(columns, names=["scorer", "individuals", "bodyparts", "coords"])
    frame = pandas.DataFrame(values, columns=heads, index=index)
    with replacing(path) as temporary:
        frame.to_hdf(temporary, key=HDF_KEY, mode="w", format="fixed")
