"""Prediction: crops become keypoints by one way, which testing, training's validation and inference share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pose import heatmap
from pose.checkpoint import load_weights
from pose.config import Settings, TestSettings
from pose.errors import CheckpointError
from pose.models.pose_net import MEAN, STD
from pose.options import OptionError

FEW = 8
"""Crops up to so many go through a network together with their mirrored ones: fewer leave cores with nothing to do."""


def to_input(crops: Tensor, device: torch.device | str) -> Tensor:
    """Crops as the network takes them (docs/protocol.md#color).

    Args:
        crops: (N, H, W, 3) uint8 BGR.
        device: Where to compute.

    Returns:
        (N, 3, H, W) float32 normalized RGB on the device.
    """
    pixels = crops.to(device, non_blocking=True).permute(0, 3, 1, 2).flip(1).float()
    mean = torch.tensor(MEAN, device=device)[:, None, None] * 255
    std = torch.tensor(STD, device=device)[:, None, None] * 255
    return pixels.sub_(mean).div_(std)


def load_network(settings: Settings, path: str | Path) -> nn.Module:
    """A configuration's network with trained weights, or an exported file of it.

    Raises:
        CheckpointError: The file is broken, of another network, or was exported with other sizes or keypoints.
        OptionError: The file's runtime is not installed.
    """
    from pose.runtimes.files import is_exported  # a demo of a checkpoint needs none of it

    if is_exported(path):
        return ExportedModule(settings, path)
    model = settings.build_model()
    load_weights(model, path)
    return model


class ExportedModule(nn.Module):
    """An exported network where one of PyTorch is expected, computed by its runtime on the CPU.

    Args:
        settings: The network's configuration, which the file must fit.
        path: A file that gives heatmaps.

    Raises:
        CheckpointError: The file is broken, gives keypoints, or was exported with other sizes or keypoints.
        OptionError: The file's runtime is not installed.
    """

    def __init__(self, settings: Settings, path: str | Path) -> None:
        super().__init__()
        from pose.runtimes.files import open_file

        self.session = open_file(path)
        known = self.session.metadata
        if self.session.gives_keypoints:
            raise CheckpointError(f"{path}: answers with keypoints; export it with --output heatmaps to test it")
        for name, own, wanted in (
            ("input size", known.input_size, tuple(settings.data.input_size)),
            ("skeleton", known.skeleton, settings.skeleton()),
        ):
            if own != wanted:
                raise CheckpointError(f"{path}: its {name} is not the configuration's: {own} and {wanted}")
        wanted = json.loads(json.dumps(settings.model))  # a tuple is a list there
        if known.model is not None and known.model != wanted:
            parts = [part for part in (known.model | wanted) if known.model.get(part) != wanted.get(part)]
            said = "; ".join(f"{part}: {known.model.get(part)} and {wanted.get(part)}" for part in parts)
            raise CheckpointError(f"{path}: its network is not the configuration's: {said}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalized crops (N, 3, H, W) to heatmaps (N, K, h, w), both on the same device."""
        return torch.from_numpy(self.session(x.cpu().contiguous().numpy())[0]).to(x.device)


def ready_for_testing(model: nn.Module, settings: TestSettings, device: torch.device | str) -> nn.Module:
    """A trained network on its device, in evaluation mode.

    Args:
        model: The network, on the CPU; it comes back itself, unless native layers are asked for.
        settings: ``native`` is used.
        device: Where it will compute.

    Raises:
        OptionError: Native layers, which are for CPUs, are asked for on another device.
    """
    if not settings.native:
        return model.to(device).eval()
    if torch.device(device).type != "cpu":
        raise OptionError(f"test.native: is for CPUs, not {device}; leave it out or choose --device cpu")
    from pose.models.deploy.folding import deploy  # and the native layers, which most have no use for

    return deploy(model)


@torch.inference_mode()
def predict_crops(
    model: Callable[[Tensor], Tensor],
    crops: Tensor,
    flip_index: np.ndarray,
    settings: TestSettings,
    device: torch.device | str,
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of a batch of crops: forward, flip average, decode, all on the device.

    Args:
        model: A network in evaluation mode, on the device, or what calls one.
        crops: (N, H, W, 3) uint8 BGR.
        flip_index: (K,) what each keypoint becomes in a mirror.
        settings: ``flip``, ``flip_shift`` and ``decode`` are used.
        device: Where to compute.

    Returns:
        coordinates (N, K, 2) in heatmap pixels and scores (N, K), float32.
    """
    images = to_input(crops, device)
    if settings.flip:
        both = images, images.flip(-1)
        parts = model(torch.cat(both)).chunk(2) if len(images) <= FEW else [model(part) for part in both]
        heatmaps, mirrored = (part.float() for part in parts)
        coordinates, scores = heatmap.decode_with_flip(
            heatmaps, mirrored, flip_index, settings.flip_shift, settings.decode
        )
    else:
        coordinates, scores = heatmap.decode(model(images).float(), settings.decode)
    return coordinates.cpu().numpy(), scores.cpu().numpy()
