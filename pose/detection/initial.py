"""A trained MobileNetV2 as the detector's backbone to start from."""

from __future__ import annotations

from pathlib import Path

import torch

from pose.checkpoint import load_checkpoint
from pose.detection.network import DetectionNet, split
from pose.errors import CheckpointError
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.inflate import static_names
from pose.models.layers import ConvNormAct

LEAST_VARIANCE = 1e-2
"""No channel's variance before normalisation stays below it, so that the normalisation's constant does not count."""


def load_backbone(network: DetectionNet, path: str | Path) -> None:
    """Loads a file of weights under torchvision's names (``features.*``), of width 1, into the backbone.

    Kernels are scaled to the deviation of a fresh network's, and the statistics of the normalisation behind them
    with them: that answers the same, but an optimizer whose steps do not depend on a weight's size, like Adam, moves
    every layer alike then.

    Args:
        network: Changed.
        path: The file.

    Raises:
        CheckpointError: It is missing, damaged or of another network.
    """
    from torchvision.models import mobilenet_v2  # costs over a second to import

    state = load_checkpoint(path)["model"]
    theirs = mobilenet_v2(weights=None)
    unknown = [name for name in state if name not in theirs.state_dict()]
    if unknown:
        raise CheckpointError(f"{path}: not the weights of torchvision's mobilenet_v2 ({unknown[0]} is not one)")
    try:
        missing = theirs.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights of another width or network; take those of a MobileNetV2") from error
    missing = [name for name in missing if not name.startswith("classifier.")]
    if missing:
        raise CheckpointError(f"{path}: not whole: {missing[0]} and {len(missing) - 1} more are not in it")
    ours = MobileNetV2()
    ours.load_state_dict(static_names(ours, theirs, str(path)))
    stages, _ = split(ours)
    for stage, trained in zip(network.stages, stages, strict=True):
        _balance(trained)
        try:
            stage.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{path}: of width 1, and model.width is another") from error


@torch.no_grad()
def _balance(layers: torch.nn.Module) -> None:
    """Scales kernels, and statistics with them."""
    for layer in layers.modules():
        if not isinstance(layer, ConvNormAct):
            continue
        kernel, norm = layer.conv.weight, layer.norm
        fresh = (2 / kernel[0].numel()) ** 0.5
        factor = fresh / kernel.flatten(1).square().mean(1).sqrt().clamp(min=1e-6)
        factor = torch.maximum(factor, (LEAST_VARIANCE / norm.running_var.clamp(min=1e-8)).sqrt())
        factor = torch.where(norm.running_var < 1e-6, torch.ones_like(factor), factor)  # a channel that is always 0
        kernel.mul_(factor[:, None, None, None])
        norm.running_mean.mul_(factor)
        norm.running_var.copy_(((norm.running_var + norm.eps) * factor**2 - norm.eps).clamp(min=0))
