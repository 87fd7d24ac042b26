"""Weights for a classifier to start from: a checkpoint of the same or of the static network, or torchvision's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pose.checkpoint import load_checkpoint, load_state, trained_state
from pose.engine.initial import TORCHVISION
from pose.errors import CheckpointError
from pose.models.classifier import ImageClassifier
from pose.models.dynamic.inflate import inflate, load_torchvision

IMAGENET_CLASSES = 1000


def load_initial(
    model: ImageClassifier, initial_weights: str, initial_noise: float = 0.0, initial_balanced: bool = False
) -> list[str]:
    """Loads what ``initial_weights`` names into a fresh classifier.

    Args:
        model: The network that takes them, static or dynamic.
        initial_weights: ``torchvision:NAME`` downloads torchvision's ImageNet weights, ``torchvision:NAME=FILE`` reads
            them from a file; anything else is a classifier's checkpoint. A classifier of another number of classes
            gives its backbone alone.
        initial_noise: Parts the copies of a static kernel, as a fraction of its standard deviation.
        initial_balanced: Rescale torchvision's kernels, see :func:`pose.models.balance.balance`.

    Returns:
        What was left, a line each.

    Raises:
        CheckpointError: A file is missing, broken or of another network, or the download failed.
    """
    own = model.classifier.conv.out_channels
    left = [f"initial weights {initial_weights}: the backbone's alone, the classifier of {own} classes starts fresh"]
    if initial_weights.startswith(TORCHVISION):
        name, _, path = initial_weights.removeprefix(TORCHVISION).partition("=")
        whole = own == IMAGENET_CLASSES
        load_torchvision(model if whole else model.backbone, name, path or None, initial_noise, initial_balanced)
        return [] if whole else left
    state = trained_state(load_checkpoint(initial_weights))
    if any(name.startswith("head.") for name in state):
        raise CheckpointError(
            f"{initial_weights}: a pose network's; a classifier starts a pose network, not the other way round, since "
            "a backbone trained on persons knows less of other things than chance has to learn"
        )
    weight = state.get("classifier.conv.weight")
    if weight is not None and weight.shape[-4] != own:
        inner = "backbone."
        backbone = {name.removeprefix(inner): value for name, value in state.items() if name.startswith(inner)}
        _load(model.backbone, backbone, initial_noise, initial_weights)
        return left
    _load(model, state, initial_noise, initial_weights)
    return []


def _load(model: nn.Module, state: Mapping[str, Tensor], noise: float, source: str) -> None:
    """Into the same network, or into a dynamic one of the same architecture."""
    if state.keys() == model.state_dict().keys():
        load_state(model, state, source)
    else:
        inflate(model, state, noise, source)
