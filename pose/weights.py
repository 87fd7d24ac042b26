"""The trained networks that come with the project, in ``data/weights``: found by name, checked by hash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pose.errors import CheckpointError
from pose.files import read_json, sha256
from pose.options import OptionError, nearest
from pose.resources import ROOT

FOLDER = ROOT / "data" / "weights"
INDEX = "index.json"
"""Holds ``weights`` and ``detectors``, each by name, and which of them are the ``default`` and ``default_detector``."""


class Shipped(NamedTuple):
    """A pose network that comes with its weights.

    Attributes:
        name: What it is called.
        config: Its configuration.
        checkpoint: Its weights.
        skeleton: Its skeleton file, or a built-in skeleton's name.
        about: What it is, in a line.
    """

    name: str
    config: Path
    checkpoint: Path
    skeleton: str
    about: str


class ShippedDetector(NamedTuple):
    """A person detector that comes with its weights.

    Attributes:
        name: What it is called.
        config: The configuration that it was trained with.
        checkpoint: Its weights.
        about: What it is, in a line.
    """

    name: str
    config: Path
    checkpoint: Path
    about: str


def shipped_names() -> tuple[str, ...]:
    """The names of the pose networks that come with their weights."""
    index = FOLDER / INDEX
    return tuple(read_json(index, "list of weights")["weights"]) if index.is_file() else ()


def shipped(name: str | None = None) -> Shipped:
    """The pose network of a name, or the one to take where nobody asks for another.

    Raises:
        OptionError: None has this name.
        CheckpointError: The weights are not there or not what they were.
    """
    index = FOLDER / INDEX
    if not index.is_file():
        raise CheckpointError(f"{index}: the list of the weights is missing; give CONFIG and CHECKPOINT")
    entries = read_json(index, "list of weights")
    name = name or entries["default"]
    if name not in entries["weights"]:
        raise OptionError(f"no weights {name!r} in {index}: {nearest(name, entries['weights'])}")
    entry = entries["weights"][name]
    skeleton = ROOT / entry["skeleton"]
    return Shipped(
        name=name,
        config=ROOT / entry["config"],
        checkpoint=_whole_file(entry),
        skeleton=str(skeleton) if skeleton.is_file() else entry["skeleton"],
        about=entry["about"],
    )


def shipped_detector(name: str | None = None) -> ShippedDetector | None:
    """The person detector of a name, or the one to take where nobody asks for another; None where there is none.

    Raises:
        CheckpointError: Its weights are not there, or not what they were.
    """
    index = FOLDER / INDEX
    entries = read_json(index, "list of weights") if index.is_file() else {}
    name = name or entries.get("default_detector")
    entry = entries.get("detectors", {}).get(name)
    if name is None or entry is None:
        return None
    return ShippedDetector(name, ROOT / entry["config"], _whole_file(entry), entry["about"])


def _whole_file(entry: Mapping[str, Any]) -> Path:
    """The weights' file of an entry of the index, if it holds what it held when it was entered."""
    checkpoint = FOLDER / entry["file"]
    if not checkpoint.is_file() or sha256(checkpoint) != entry["sha256"]:
        raise CheckpointError(f"{checkpoint}: missing or changed; `git checkout {checkpoint}` brings it back")
    return checkpoint
