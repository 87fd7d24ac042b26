"""The trained weights that come with the project, in ``data/weights``: found by name, checked by hash."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pose.errors import CheckpointError
from pose.files import read_json, sha256
from pose.options import OptionError, nearest
from pose.resources import ROOT

FOLDER = ROOT / "data" / "weights"
INDEX = "index.json"


class Shipped(NamedTuple):
    """A network that comes with its weights.

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


def shipped(name: str | None = None) -> Shipped:
    """The weights of a name, or the ones to take where nobody asks for others.

    Raises:
        OptionError: None has this name.
        CheckpointError: They are not there or not what they were.
    """
    index = FOLDER / INDEX
    if not index.is_file():
        raise CheckpointError(f"{index}: the list of the weights is missing; give CONFIG and CHECKPOINT")
    entries = read_json(index, "list of weights")
    name = name or entries["default"]
    if name not in entries["weights"]:
        raise OptionError(f"no weights {name!r} in {index}: {nearest(name, entries['weights'])}")
    entry = entries["weights"][name]
    checkpoint = FOLDER / entry["file"]
    if not checkpoint.is_file() or sha256(checkpoint) != entry["sha256"]:
        raise CheckpointError(f"{checkpoint}: missing or changed; `git checkout {checkpoint}` brings it back")
    skeleton = ROOT / entry["skeleton"]
    return Shipped(
        name=name,
        config=ROOT / entry["config"],
        checkpoint=checkpoint,
        skeleton=str(skeleton) if skeleton.is_file() else entry["skeleton"],
        about=entry["about"],
    )
