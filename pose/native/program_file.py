"""Programs in files: ``NAME.native``, a zip archive that numpy and json read, with nothing in it that is executed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.errors import CheckpointError
from pose.files import DAMAGED
from pose.native.program import Step

VERSION = 2
"""The newest version of how constants lie, and of the kinds of steps; a file says the oldest that has its own."""

FIRST = {
    **dict(begin=0, end=0, static=2, dynamic=7, decomposed=11, squeeze=4),
    **dict(max_pool=0, nearest=0, bilinear=0, interleave=0),
}
"""The kinds of version 1 and how many constants they have, of float32 or bfloat16."""

STEPS, DETAILS = "program.json", "details.json"


def save_program(path: str | Path, steps: Sequence[Step]) -> None:
    """Writes a program, to which :func:`add_details` belongs.

    Args:
        path: The file; it is replaced.
        steps: What it does.
    """
    with zipfile.ZipFile(path, "w") as archive:
        count = 0

        def written(step: Step) -> dict[str, Any]:
            nonlocal count
            names: list[str | None] = []
            for constant in step.constants:
                names.append(None if constant is None else f"{count}.npy")
                if constant is not None:
                    with archive.open(f"{count}.npy", "w") as file:
                        np.lib.format.write_array(file, constant, allow_pickle=False)
                    count += 1
            shortcut = [written(inner) for inner in step.shortcut]
            return {"kind": step.kind, "numbers": list(step.numbers), "constants": names, "shortcut": shortcut}

        text = json.dumps({"version": _version(steps), "steps": [written(step) for step in steps]})
        archive.writestr(STEPS, text)


def add_details(path: str | Path, details: Mapping[str, str]) -> None:
    """Writes texts of whoever makes a file into it, by name, once."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(DETAILS, json.dumps(dict(details)))


def load_program(path: str | Path) -> tuple[list[Step], dict[str, str]]:
    """Reads what :func:`save_program` and :func:`add_details` wrote.

    Returns:
        The steps, and the details.

    Raises:
        CheckpointError: The file is missing, damaged, no such file or of a newer version.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: exported network not found")
    try:
        with zipfile.ZipFile(path) as archive:
            program, details = json.loads(archive.read(STEPS)), json.loads(archive.read(DETAILS))
            version = int(program["version"])
            if version < 1:
                raise ValueError(f"version {version}")
            if version > VERSION:
                told = f"is of version {version}, made by a newer version of pose, and this one reads up to {VERSION}"
                raise CheckpointError(f"{path}: {told}; update pose, or export the network again")
            steps = [_step(archive, step) for step in program["steps"]]
            return steps, {str(name): str(text) for name, text in details.items()}
    except CheckpointError:
        raise
    except (*DAMAGED, MemoryError) as error:
        raise CheckpointError(f"{path}: no network of native layers ({error!r}); export it again") from error


def _version(steps: Sequence[Step]) -> int:
    """The oldest version that has all kinds and types of some steps."""

    def is_first(step: Step) -> bool:
        types = {constant.dtype for constant in step.constants if constant is not None}
        known = FIRST.get(step.kind) == len(step.constants) and types <= {np.dtype(np.float32), np.dtype(np.int16)}
        return known and all(map(is_first, step.shortcut))

    return 1 if all(map(is_first, steps)) else VERSION


def _step(archive: zipfile.ZipFile, step: Any) -> Step:
    constants = tuple(None if name is None else _constant(archive, str(name)) for name in step["constants"])
    shortcut = tuple(_step(archive, inner) for inner in step["shortcut"])
    return Step(str(step["kind"]), tuple(map(int, step["numbers"])), constants, shortcut)


def _constant(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as file:
        return np.ascontiguousarray(np.lib.format.read_array(file, allow_pickle=False))
