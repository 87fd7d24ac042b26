"""Checkpoints of SimpleBaseline's networks as other programs save them, by this project's names, layer by layer.

Two ways of naming: mmpose's (``backbone.`` and ``head.``; ``keypoint_head.`` before its version 1), of ResNet and
MobileNetV2 with three deconvolutions, and that of Microsoft's SimpleBaseline and of HRNet's program, of ResNet alone.
Nothing here changes a number, and names that are none of theirs stay as they are: loading tells them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

WEIGHTS = "state_dict"
"""Where these programs' checkpoints keep the network."""

_FIRST_BLOCK = ("layer1.0.conv1.weight", "layer1.0.conv.0.conv.weight")
"""A tensor of the first block, of ResNet and of MobileNetV2."""

_OUTER = re.compile(r"^(module\.)?(backbone\.|head\.|keypoint_head\.)?")
_BLOCK = re.compile(r"^layer(\d+)\.(\d+)\.(.+)$")
_INVERTED = re.compile(r"^conv\.(\d)\.(conv|bn)\.(.+)$")
_RESIDUAL = re.compile(r"^(conv|bn)(\d)\.(.+)$")
_PARTS = {2: ("depthwise", "project"), 3: ("expand", "depthwise", "project")}
"""Convolutions of MobileNetV2's blocks, by how many a block has."""

_BEGINNINGS = (
    ("conv1.conv.", "backbone.stem.conv."),
    ("conv1.bn.", "backbone.stem.norm."),
    ("conv1.", "backbone.stem.conv."),
    ("bn1.", "backbone.stem.norm."),
    ("conv2.conv.", "backbone.last.conv."),
    ("conv2.bn.", "backbone.last.norm."),
    ("deconv_layers.", "head.deconvs."),
    ("final_layer.", "head.final."),
)


def by_our_names(contents: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str] | None] | None:
    """A checkpoint or bare state dict of such a program as one of this project.

    Returns:
        Its tensors by our names, and the names of its keypoints where the file states them; None where it is of
        another kind of network.
    """
    state = contents.get(WEIGHTS, contents)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        return None
    inner = {name: _OUTER.sub("", name, count=1) for name in state}
    names = set(inner.values())
    if "final_layer.weight" not in names or not names & set(_FIRST_BLOCK):
        return None
    rename = _renamer(names)
    model = {rename(short) or name: state[name] for name, short in inner.items()}
    for name in [name for name in model if name.endswith(".running_mean")]:  # torch before 0.4.1 counted no batches
        model.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return model, _keypoint_names(contents.get("meta"))


def _renamer(names: Iterable[str]) -> Callable[[str], str | None]:
    """Makes the function from a name without its outer part to ours, which is None for one that is not theirs."""
    blocks: dict[int, int] = {}
    convs: dict[tuple[int, int], int] = {}
    for found in filter(None, map(_BLOCK.match, names)):
        stage, block, rest = int(found[1]), int(found[2]), found[3]
        blocks[stage] = max(blocks.get(stage, 0), block + 1)
        inverted = _INVERTED.match(rest)
        if inverted:
            convs[stage, block] = max(convs.get((stage, block), 0), int(inverted[1]) + 1)

    def rename(name: str) -> str | None:
        found = _BLOCK.match(name)
        if not found:
            fitting = ((theirs, ours) for theirs, ours in _BEGINNINGS if name.startswith(theirs))
            return next((ours + name.removeprefix(theirs) for theirs, ours in fitting), None)
        stage, block, rest = int(found[1]), int(found[2]), found[3]
        number = sum(count for other, count in blocks.items() if other < stage) + block
        part = _part(rest, convs.get((stage, block), 0))
        return None if part is None else f"backbone.blocks.{number}.{part}"

    return rename


def _part(name: str, convs: int) -> str | None:
    """A tensor within a block: of MobileNetV2's, which has so many convolutions, or of ResNet's."""
    inverted, residual = _INVERTED.match(name), _RESIDUAL.match(name)
    if inverted and convs in _PARTS:
        return f"{_PARTS[convs][int(inverted[1])]}.{_layer(inverted[2])}.{inverted[3]}"
    if residual:
        return f"convs.{int(residual[2]) - 1}.{_layer(residual[1])}.{residual[3]}"
    for theirs, ours in (("downsample.0.", "shortcut.conv."), ("downsample.1.", "shortcut.norm.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None


def _layer(name: str) -> str:
    return "norm" if name == "bn" else name


def _keypoint_names(meta: object) -> list[str] | None:
    """What mmpose's ``meta`` says of its data set."""
    try:
        names = meta["dataset_meta"]["keypoint_id2name"]  # type: ignore[index]
        return [str(names[number]) for number in range(len(names))]
    except (KeyError, TypeError, IndexError):
        return None


class _History:
    """What becomes of mmengine's history of a figure, whose methods are in the file, too."""


def _nothing(*arguments: object) -> None:
    """What becomes of a method in a file."""


@contextmanager
def inert_values_allowed() -> Iterator[None]:
    """Lets torch read within the block what mmengine puts beside weights: NumPy's arrays, and histories of them.

    They hold data; what would run is replaced by what does nothing. Without it torch refuses the whole file.

    Raises:
        AttributeError: torch is older than 2.6, which can't be told of such values.
    """
    kinds = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdUS"]
    made = [(np.zeros(1).__reduce__()[0], "_reconstruct"), (np.float64(0).__reduce__()[0], "scalar")]
    named = [(call, f"numpy.{core}.multiarray.{name}") for call, name in made for core in ("core", "_core")]
    named += [(_History, "mmengine.logging.history_buffer.HistoryBuffer"), (_nothing, "builtins.getattr")]
    allowed: list[Any] = [np.ndarray, np.dtype, *kinds, *named]
    with torch.serialization.safe_globals(allowed):
        yield
