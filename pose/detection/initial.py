"""A trained backbone for the detector to start from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from pose.checkpoint import is_detectors, load_checkpoint
from pose.detection.detector import trained_network
from pose.detection.network import DetectionNet, split
from pose.errors import CheckpointError
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.inflate import load_torchvision
from pose.options import OptionError


def load_backbone(network: DetectionNet, path: str | Path) -> None:
    """Loads a trained backbone, and leaves the rest of the network as it is.

    Args:
        network: The network, which is changed.
        path: A detector's checkpoint, or a file of weights under torchvision's names (``features.*``), of width 1,
            whose kernels are balanced, see :func:`pose.models.balance.balance`.

    Raises:
        CheckpointError: It is missing, damaged or of another network; the network is unchanged then.
    """
    state, own = _stages(path).state_dict(), network.stages.state_dict()
    if any(state[name].shape != value.shape for name, value in own.items()):
        raise CheckpointError(f"{path}: its backbone has another width than model.width")
    network.stages.load_state_dict(state)


def _stages(path: str | Path) -> nn.ModuleList:
    """The backbone's stages in a file."""
    checkpoint = load_checkpoint(path)
    if is_detectors(checkpoint):
        try:
            return trained_network(checkpoint, checkpoint["settings"].get("model", {}), path).stages
        except OptionError as error:
            raise CheckpointError(f"{path}: {error}") from error
    trained = MobileNetV2()
    try:
        load_torchvision(trained, "mobilenet_v2", path, balanced=True)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; a detector's checkpoint is taken, too") from error
    return nn.ModuleList(split(trained)[0])
