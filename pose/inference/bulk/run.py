"""A run over very many pictures: which parts are this process's, what is done already, and how fast it goes.

The folder of a run holds ``run.json``, which says what it is of, and for each part its rows and a JSON file that is
written after them: a part that has one is done. Whatever ends a process, its parts that are not done are begun again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pose.errors import DataError, OutputError
from pose.files import make_folder, read_json, write_json
from pose.inference.bulk.finder import FindPoses
from pose.inference.bulk.sources import File, Part
from pose.inference.bulk.writers import writing
from pose.locks import HeldError, lock_file
from pose.wording import counted

RUN, SUMMARY = "run.json", "summary.json"

MAX_WARNINGS = 20
"""How many bad pictures each process tells as they come; all of them are in the rows and in the summary."""


def shard() -> tuple[int, int]:
    """Which process this is, from 0, and how many there are, as ``torchrun`` says it."""
    try:
        rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    except ValueError as error:
        raise DataError(f"RANK and WORLD_SIZE must be whole numbers, as torchrun sets them ({error})") from error
    return rank, count


@dataclass
class Counts:
    """What a process did.

    Attributes:
        images: Looked at, bad ones among them.
        persons: The persons that were found.
        bad: Pictures that could not be used.
        seconds: The time that passed.
        cpu_seconds: The processor time of all of this process's threads.
    """

    images: int = 0
    persons: int = 0
    bad: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def describe(self, finder: FindPoses) -> str:
        """Two lines: what was done, and how fast against a program that did nothing but decode."""
        shares = ((self.images, "picture"), (self.persons, "person"), (self.bad, "bad picture"))
        lines = ", ".join(counted(*share) for share in shares)
        if not self.images:
            return lines
        ceiling = finder.decoded / max(finder.decode_seconds, 1e-9)
        speed = self.images / max(self.cpu_seconds, 1e-9)
        return (
            f"{lines} in {self.seconds:.1f} s\n{self.images / self.seconds:.1f} pictures a second; "
            f"{speed:.1f} a second of a CPU core, decoding alone would allow {ceiling:.1f} ({speed / ceiling:.0%})"
        )


def open_run(folder: Path, about: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """Makes the folder of a run, or finds that it is this run's.

    Args:
        folder: The run's folder.
        about: What the rows depend on: network, options, format.
        parts: The input's parts.

    Raises:
        OutputError: The folder holds another run, or cannot be written.
    """
    names = hashlib.sha256("\n".join(name for part in parts for name in (str(part.number), *part.names)).encode())
    about = {**about, "parts": len(parts), "input_sha256": names.hexdigest()}
    path = make_folder(folder) / RUN
    if not path.exists():
        write_json(path, about)  # processes that come at once write the same
        return
    known = read_json(path, "description of a run")
    differing = [key for key in about if not isinstance(known, dict) or known.get(key) != about[key]]
    if differing:
        raise OutputError(f"{folder}: holds another run ({', '.join(differing)} differ); choose another --out")


def run_parts(
    finder: FindPoses, parts: Sequence[Part], folder: Path, suffix: str, batch: int, warn: Callable[[str], None]
) -> Counts:
    """Does this process's parts that are not done.

    Args:
        finder: Finds poses.
        parts: All parts of the input.
        folder: The run's folder.
        suffix: The suffix of the files of rows, one of :data:`~pose.inference.bulk.writers.FORMATS`.
        batch: Pictures that are looked at together.
        warn: Takes messages about the first bad pictures.

    Raises:
        OutputError: Another process does the same part of the work, or the folder cannot be written.
    """
    rank, count = shard()
    counts, started, cpu = Counts(), time.perf_counter(), time.process_time()
    own = [part for part in parts[rank::count] if not done_path(folder, part).exists()]
    try:
        with lock_file(folder / f".lock.{rank}", wait=False), tqdm(
            desc=f"part {rank + 1} of {count}" if count > 1 else "pictures",
            unit="image", disable=True if rank else None, leave=False,
        ) as bar:  # fmt: skip
            for part in own:
                for half in folder.glob(f".{part_name(part)}.*"):  # of a process that was killed
                    half.unlink()
                found = _do(finder, part, folder, suffix, batch, bar)
                for image, error in found["bad"][: max(MAX_WARNINGS - counts.bad, 0)]:
                    warn(error if image in error else f"{image}: {error}")
                counts.images += found["pictures"]
                counts.persons += found["persons"]
                counts.bad += len(found["bad"])
    except HeldError as error:
        raise OutputError(f"{folder}: {error.holder} works in it; wait for it or choose another --out") from error
    counts.seconds, counts.cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return counts


def _do(finder: FindPoses, part: Part, folder: Path, suffix: str, batch: int, bar: tqdm) -> dict[str, Any]:
    """A part: its rows, then the file that says so."""
    found: dict[str, Any] = {"pictures": 0, "persons": 0, "bad": []}
    with writing(folder / f"{part_name(part)}{suffix}", finder.predictor.network.skeleton) as add:
        for rows in _rows(finder, part.files(), batch):
            add(rows)
            found["pictures"] += len(rows)
            found["persons"] += sum(len(row["scores"]) for row in rows)
            found["bad"] += [[row["image"], row["error"]] for row in rows if row["error"] is not None]
            bar.update(len(rows))
    write_json(done_path(folder, part), found)
    return found


def _rows(finder: FindPoses, files: Iterable[tuple[str, File]], batch: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of batch after batch; the next one is decoded meanwhile."""
    files = iter(files)
    waiting = finder.begin(list(islice(files, batch)))
    while waiting:
        following = finder.begin(list(islice(files, batch)))
        yield finder.finish(waiting)
        waiting = following


def part_name(part: Part) -> str:
    """What a part's files begin with."""
    return f"part-{part.number:06}"


def done_path(folder: Path, part: Part) -> Path:
    """The file that is there when a part is done."""
    return folder / f"{part_name(part)}.done.json"


def summarize(folder: Path, parts: Sequence[Part]) -> dict[str, Any] | None:
    """Writes and gives what all processes did together; None while a part is not done."""
    if not all(done_path(folder, part).exists() for part in parts):
        return None
    total: dict[str, Any] = {"pictures": 0, "persons": 0, "bad": []}
    for part in parts:
        found = read_json(done_path(folder, part), "count of a part")
        total = {key: total[key] + found[key] for key in total}
    write_json(folder / SUMMARY, total)
    return total
