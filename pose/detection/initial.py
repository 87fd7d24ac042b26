"""A trained MobileNetV2 as the detector's backbone to start from."""

from __future__ import annotations

from pathlib import Path

from pose.detection.network import DetectionNet, split
from pose.errors import CheckpointError
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.inflate import load_torchvision


def load_backbone(network: DetectionNet, path: str | Path) -> None:
    """Loads a file of weights under torchvision's names (``features.*``), of width 1, into the backbone.

    Its kernels are balanced, see :func:`pose.models.balance.balance`.

    Args:
        network: The network, which is changed.
        path: The file.

    Raises:
        CheckpointError: It is missing, damaged or of another network.
    """
    trained = MobileNetV2()
    load_torchvision(trained, "mobilenet_v2", path, balanced=True)
    for stage, layers in zip(network.stages, split(trained)[0], strict=True):
        try:
            stage.load_state_dict(layers.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{path}: of width 1, and model.width is another") from error
