"""From crops to keypoints: the one way that testing, training's validation and inference share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pose import heatmap
from pose.config import TestSettings
from pose.models.deploy.folding import deploy
from pose.options import OptionError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of RGB in [0, 1] (docs/protocol.md#color)."""


def to_input(crops: Tensor, device: torch.device | str) -> Tensor:
    """Crops as the network takes them.

    Args:
        crops: (N, H, W, 3) uint8 BGR.
        device: Where to compute.

    Returns:
        (N, 3, H, W) float32 normalised RGB on the device.
    """
    pixels = crops.to(device, non_blocking=True).permute(0, 3, 1, 2).flip(1).float()
    mean = torch.tensor(MEAN, device=device)[:, None, None] * 255
    std = torch.tensor(STD, device=device)[:, None, None] * 255
    return pixels.sub_(mean).div_(std)


def ready_for_testing(model: nn.Module, settings: TestSettings, device: torch.device | str) -> nn.Module:
    """A trained network on its device, in evaluation mode.

    Args:
        model: On the CPU; it is the answer, unless native layers are asked for.
        settings: ``native`` is used.
        device: Where it will compute.

    Raises:
        OptionError: Native layers, which are for CPUs, are asked for on another device.
    """
    if not settings.native:
        return model.to(device).eval()
    if torch.device(device).type != "cpu":
        raise OptionError(f"test.native: is for CPUs, not {device}; leave it out or choose --device cpu")
    return deploy(model)


@torch.inference_mode()
def predict_crops(
    model: nn.Module, crops: Tensor, flip_index: np.ndarray, settings: TestSettings, device: torch.device | str
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of a batch of crops: forward, flip average, decode, all on the device.

    Args:
        model: In evaluation mode, on the device.
        crops: (N, H, W, 3) uint8 BGR.
        flip_index: (K,) what each keypoint becomes in a mirror.
        settings: ``flip``, ``flip_shift`` and ``decode`` are used.
        device: Where to compute.

    Returns:
        coordinates (N, K, 2) in heatmap pixels and scores (N, K), float32.
    """
    images = to_input(crops, device)
    heatmaps = model(images).float()
    if settings.flip:
        mirrored = model(images.flip(-1)).float()
        coordinates, scores = heatmap.decode_with_flip(
            heatmaps, mirrored, flip_index, settings.flip_shift, settings.decode
        )
    else:
        coordinates, scores = heatmap.decode(heatmaps, settings.decode)
    return coordinates.cpu().numpy(), scores.cpu().numpy()
