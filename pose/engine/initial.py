"""Weights to start training from: a checkpoint of the same or of the static network, or torchvision's backbone.

A checkpoint's keypoints may be others: channels of the last layer go by keypoint name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pose.checkpoint import KEYPOINTS, load_checkpoint, trained_state
from pose.errors import CheckpointError
from pose.models.dynamic.inflate import load_or_inflate, load_torchvision
from pose.models.pose_net import PoseNet
from pose.skeleton import Skeleton, load_skeleton
from pose.weights import shipped, shipped_names

TORCHVISION = "torchvision:"

CLASSIFIER = "classifier."
"""What a classifier's state dict has in place of a head."""

FINAL = "head.final."
"""Where every head keeps its last layer, a channel a keypoint."""


def load_initial(
    model: PoseNet,
    initial_weights: str,
    initial_noise: float = 0.0,
    initial_balanced: bool = False,
    skeleton: Skeleton | None = None,
) -> list[str]:
    """Loads what ``initial_weights`` names into a fresh network.

    ``torchvision:NAME`` downloads torchvision's ImageNet weights for the backbone, ``torchvision:NAME=FILE`` reads
    them from a file; the name of weights that come with the project, such as ``base``, means those; anything else is a
    checkpoint. Its network is this one or the static one of the same architecture; a dynamic network that takes static
    weights answers as the static one does. Its keypoints may be others, see :func:`by_keypoint_names`. A classifier's
    checkpoint gives its backbone.

    Args:
        model: The network that takes them.
        initial_weights: Where they are, in one of these ways.
        initial_noise: Parts the copies of a static kernel, as a fraction of its standard deviation.
        initial_balanced: Rescale torchvision's kernels so that Adam can move them alike, see
            :func:`pose.models.balance.balance`.
        skeleton: What the model's keypoints are; without it the number of keypoints has to be the checkpoint's.

    Returns:
        What was taken and what was left where that is not everything, a line each.

    Raises:
        CheckpointError: A file is missing, broken or of another network, or the download failed.
    """
    if initial_weights.startswith(TORCHVISION):
        name, _, path = initial_weights.removeprefix(TORCHVISION).partition("=")
        load_torchvision(model.backbone, name, path or None, initial_noise, initial_balanced)
        return []
    checkpoint, keypoints = _read(initial_weights)
    state: Mapping[str, Tensor] = trained_state(checkpoint)
    told: list[str] = []
    if any(name.startswith(CLASSIFIER) for name in state):
        return [_load_backbone(model, state, initial_noise, initial_weights)]
    if skeleton is not None:
        state, told = by_keypoint_names(state, keypoints, model, skeleton.keypoints)
    same = load_or_inflate(model, state, initial_noise, initial_weights)
    if not same:
        told.append("those of the static network, which dynamic layers start from")
    elif not told:
        told.append("taken as they are")
    return [f"initial weights {initial_weights}: {line}" for line in told]


def _load_backbone(model: PoseNet, state: Mapping[str, Tensor], noise: float, source: str) -> str:
    """Loads the backbone of a classifier's state dict; what was taken and what was left."""
    inner = "backbone."
    backbone = {name.removeprefix(inner): value for name, value in state.items() if name.startswith(inner)}
    same = load_or_inflate(model.backbone, backbone, noise, source)
    classes = state[f"{CLASSIFIER}conv.bias"].shape[-1]
    how = "as they are" if same else "static ones into dynamic layers"
    return (
        f"initial weights {source}: all {len(backbone)} tensors of the backbone, {how}; left: the classifier of "
        f"{classes} classes ({len(state) - len(backbone)} tensors); fresh: the head"
    )


def by_keypoint_names(
    state: Mapping[str, Tensor], theirs: Sequence[str] | None, model: PoseNet, ours: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict whose last layer's channels are this network's keypoints: of equal names theirs, the others fresh.

    Args:
        state: Another training's state dict; returned as it is where its keypoints are the same in the same order.
        theirs: Its keypoints. None where nobody knows: as many channels are taken as they are, others start fresh.
        model: Has the fresh channels.
        ours: The model's keypoints.

    Returns:
        The state dict, and a line about what was taken and left, none where everything was taken as it is.
    """
    state, own = dict(state), model.state_dict()
    names = [f"{FINAL}{part}" for part in ("weight", "bias")]
    if any(name not in state or name not in own for name in names):
        return state, []
    channels = len(state[names[0]])
    if theirs is not None and len(theirs) != channels:
        theirs = None  # of a network without these keypoints: its names say nothing
    if theirs is None and channels == len(ours) or theirs is not None and list(theirs) == list(ours):
        return state, []
    shared = [name for name in ours if name in (theirs or ())]
    taken, given = [list(theirs or ()).index(name) for name in shared], [list(ours).index(name) for name in shared]
    for name in names:
        if state[name].shape[1:] == own[name].shape[1:]:  # else another network, which loading tells
            fresh = own[name].clone()
            fresh[given] = state[name][taken].to(fresh)
            state[name] = fresh
    if theirs is None:
        return state, [
            f"all but the last layer, whose {channels} keypoints the file does not name; all {len(ours)} start fresh"
        ]
    fresh_names = [name for name in ours if name not in shared]
    left = [name for name in theirs if name not in shared]
    parts = [f"all but the last layer, and of that {len(shared)} of {len(ours)} keypoints by name"]
    parts += [f"fresh: {', '.join(fresh_names)}"] if fresh_names else []
    parts += [f"not taken: {', '.join(left)}"] if left else []
    return state, ["; ".join(parts)]


def _read(initial_weights: str) -> tuple[dict[str, Any], Sequence[str] | None]:
    """A checkpoint, by path or by the name of weights that come with the project, and its keypoints' names."""
    if initial_weights in shipped_names() and not Path(initial_weights).exists():
        found = shipped(initial_weights)
        return load_checkpoint(found.checkpoint), load_skeleton(found.skeleton).keypoints
    try:
        checkpoint = load_checkpoint(initial_weights)
    except CheckpointError as error:
        if Path(initial_weights).exists():
            raise
        raise CheckpointError(f"{error}, or the name of shipped weights: {', '.join(shipped_names())}") from error
    return checkpoint, _keypoints(checkpoint)


def _keypoints(checkpoint: Mapping[str, Any]) -> Sequence[str] | None:
    """The names of a checkpoint's keypoints: those it states, or of the skeleton in the settings of an older one."""
    if KEYPOINTS in checkpoint:
        return checkpoint[KEYPOINTS]
    try:
        return load_skeleton(checkpoint["settings"]["data"]["skeleton"]).keypoints
    except (KeyError, TypeError, ValueError, OSError):  # weights alone, or the file is elsewhere by now
        return None
