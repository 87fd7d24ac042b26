"""A trained backbone for the detector to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from pose.detection.detector import read_checkpoint, trained_network
from pose.detection.network import DetectionNet, split
from pose.errors import CheckpointError
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.inflate import load_torchvision


def load_backbone(network: DetectionNet, path: str | Path) -> None:
    """Loads a trained backbone, and leaves the rest of the network as it is.

    Args:
        network: The network, which is changed.
        path: A detector's checkpoint, or a file of weights under torchvision's names (``features.*``), of width 1,
            whose kernels are balanced, see :func:`pose.models.balance.balance`.

    Raises:
        CheckpointError: It is missing, damaged or of another network.
    """
    for theirs, own in zip(_stages(path), network.stages, strict=True):
        try:
            own.load_state_dict(theirs.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{path}: its backbone has another width than model.width") from error


def _stages(path: str | Path) -> Sequence[nn.Module]:
    """The backbone's stages in a file."""
    try:
        checkpoint, sections = read_checkpoint(path)
    except CheckpointError:  # what is wrong with a file that is neither is told of the other kind
        trained = MobileNetV2()
        load_torchvision(trained, "mobilenet_v2", path, balanced=True)
        return split(trained)[0]
    return list(trained_network(checkpoint, sections.get("model", {}), path).stages)
