"""An exported network where a PyTorch one is expected: in the test tool."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pose.checkpoint import load_weights
from pose.config import Settings
from pose.errors import CheckpointError
from pose.inference.onnx_models import OnnxNetwork


class OnnxModule(nn.Module):
    """Normalised crops (N, 3, H, W) to heatmaps (N, K, h, w), computed by ONNX Runtime on the CPU.

    Args:
        network: A file that answers with heatmaps.
    """

    def __init__(self, network: OnnxNetwork) -> None:
        super().__init__()
        self.session = network.session

    def forward(self, x: Tensor) -> Tensor:
        """Heatmaps on x's device."""
        name = self.session.get_inputs()[0].name
        return torch.from_numpy(self.session.run(None, {name: x.cpu().contiguous().numpy()})[0]).to(x.device)


def load_network(settings: Settings, path: str | Path) -> nn.Module:
    """A configuration's network with trained weights, or the exported file of it where ``path`` ends in .onnx.

    Raises:
        CheckpointError: The file is broken, of another network, or was exported with other sizes or keypoints.
        OptionError: ONNX Runtime is not installed.
    """
    if Path(path).suffix != ".onnx":
        model = settings.build_model()
        load_weights(model, path)
        return model
    network = OnnxNetwork(path, "cpu")
    if network.decoded:
        raise CheckpointError(f"{path}: answers with keypoints; export it with --output heatmaps to test it")
    for name, own, wanted in (
        ("input size", network.input_size, tuple(settings.data.input_size)),
        ("skeleton", network.skeleton, settings.skeleton()),
    ):
        if own != wanted:
            raise CheckpointError(f"{path}: its {name} is not the configuration's: {own} and {wanted}")
    return OnnxModule(network)
