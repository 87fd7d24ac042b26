"""Weights for a classifier to start from: a checkpoint of the same or of the static network, or torchvision's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pose.checkpoint import load_checkpoint, trained_state
from pose.engine.initial import TORCHVISION
from pose.errors import CheckpointError
from pose.models.classifier import ImageClassifier
from pose.models.dynamic.inflate import load_or_inflate, load_torchvision

IMAGENET_CLASSES = 1000

CLASSES = "classes"
"""A checkpoint's names of the network's classes, in the order of its logits."""


def load_initial(
    model: ImageClassifier,
    initial_weights: str,
    initial_noise: float = 0.0,
    initial_balanced: bool = False,
    classes: Sequence[str] | None = None,
) -> list[str]:
    """Loads what ``initial_weights`` names into a fresh classifier.

    Args:
        model: The network that takes them, static or dynamic.
        initial_weights: ``torchvision:NAME`` downloads torchvision's ImageNet weights, ``torchvision:NAME=FILE`` reads
            them from a file; anything else is a classifier's checkpoint. A classifier of other classes, or of
            another number of them, gives its backbone alone.
        initial_noise: Parts the copies of a static kernel, as a fraction of its standard deviation.
        initial_balanced: Rescale torchvision's kernels, see :func:`pose.models.balance.balance`.
        classes: Names of the model's, in the order of its outputs; None compares numbers alone. Of torchvision's
            they are ImageNet's where all are names of WordNet, such as n01440764.

    Returns:
        What was left, a line each.

    Raises:
        CheckpointError: A file is missing, broken or of another network, or the download failed.
    """
    own = model.num_classes
    left = [f"initial weights {initial_weights}: the backbone's alone, the classifier of {own} classes starts fresh"]
    if initial_weights.startswith(TORCHVISION):
        name, _, path = initial_weights.removeprefix(TORCHVISION).partition("=")
        whole = own == IMAGENET_CLASSES and all(re.fullmatch(r"n\d{8}", each) for each in classes or ())
        load_torchvision(model if whole else model.backbone, name, path or None, initial_noise, initial_balanced)
        return [] if whole else left
    checkpoint = load_checkpoint(initial_weights)
    state, stated = trained_state(checkpoint), checkpoint.get(CLASSES)
    if any(name.startswith("head.") for name in state):
        raise CheckpointError(
            f"{initial_weights}: a pose network's; a classifier starts a pose network, not the other way round, since "
            "a backbone trained on persons knows less of other things than chance has to learn"
        )
    weight = state.get("classifier.conv.weight")
    others = isinstance(stated, list) and classes is not None and stated != list(classes)
    if weight is not None and (others or weight.shape[-4] != own):
        inner = "backbone."
        backbone = {name.removeprefix(inner): value for name, value in state.items() if name.startswith(inner)}
        load_or_inflate(model.backbone, backbone, initial_noise, initial_weights)
        return [f"{left[0]}: {initial_weights} is of other classes" if weight.shape[-4] == own else left[0]]
    load_or_inflate(model, state, initial_noise, initial_weights)
    return []
