"""The proof after an export: the file answers in its runtime as the network does in PyTorch, or it gets no name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pose.export.errors import ExportError
from pose.export.head import CropKeypoints
from pose.models.pose_net import HEATMAP_STRIDE
from pose.runtimes.files import open_file

CHECKED_BATCHES = (1, 3, 8)
TOLERANCE = 1e-4
"""The greatest difference of a heatmap's value or of a score."""
PIXELS = 0.01
"""The greatest difference of x or y, in pixels of the crop."""
REPEATS = 6
"""How often a keypoint is decoded from heatmaps that differ by as little as the file's do."""
CHECKED_CROPS = 8
"""How many crops are held out of those that set the ranges of 8 bits, to check the file by."""
MOST_CHANGED = 0.5
"""What quantization may change any keypoint's heatmaps by: root mean squares, as a part of the heatmaps' own.

A keypoint that is never answered has 1. What passes is whole and no more: how good it is, AP says. Files that keep
their AP have .03 to .24 on crops, and .26 with a bank of 8 bits on random numbers, where heatmaps are next to nothing.
"""
LEAST_NOISE = 1e-6
"""What float32 answers differ by anyway, whatever the scores say."""


class Noisy(nn.Module):
    """A network whose heatmaps are off by normal random numbers, always the same.

    Args:
        network: Normalized crops to heatmaps.
        deviation: The numbers' standard deviation.
    """

    def __init__(self, network: nn.Module, deviation: float) -> None:
        super().__init__()
        self.network, self.deviation = network, deviation
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, K, h, w)."""
        heatmaps = self.network(x)
        return heatmaps + self.deviation * torch.randn(heatmaps.shape, generator=self.generator)


def as_pixels(x: Tensor) -> Tensor:
    """Normal random numbers (N, 3, H, W) as crops (N, H, W, 3) uint8."""
    return (x * 64 + 128).clip(0, 255).byte().permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def compare(path: str | Path, reference: nn.Module, input_size: tuple[int, int], output: str = "heatmaps") -> float:
    """The largest difference between a file's answers in its runtime and PyTorch's: of heatmaps, or of scores.

    Keypoints have to be at the same place as well, within :data:`PIXELS`. Where two pixels of a heatmap are equally
    high, either may be found, and beside a flat peak the step to its neighbor is any: so the place may be whatever
    PyTorch itself finds once its heatmaps differ by as little as the file's scores do.

    Args:
        path: The file, with its metadata.
        reference: The network in PyTorch, with the file's output; a
            :class:`~pose.export.head.CropKeypoints` where that is ``keypoints``.
        input_size: Width and height.
        output: ``heatmaps``, or ``keypoints``.

    Raises:
        ExportError: The answers have another shape, or keypoints are elsewhere.
    """
    session = open_file(path, threads=1)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in (1,) if session.one_image else CHECKED_BATCHES:
        x = torch.randn(batch, 3, input_size[1], input_size[0], generator=generator)
        x = as_pixels(x) if output == "keypoints" else x
        (result,) = session(x.numpy())
        expected = reference(x).numpy()
        if result.shape != expected.shape:
            raise ExportError(f"{path}: answers {result.shape} where PyTorch answers {expected.shape}; not written")
        if output == "keypoints":
            difference = float(np.abs(result - expected)[..., 2].max())
            _check_places(path, result[..., :2], expected[..., :2], reference, x, difference)
        else:
            difference = float(np.abs(result - expected).max())
        worst = difference if np.isnan(difference) else max(worst, difference)
    return worst


def hold_out(crops: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Crops (N, 3, H, W) as those that a file of 8 bits is checked by and those that set its ranges.

    The first are :data:`CHECKED_CROPS`, or half of them where they are few. Of None, which is a file of no 8 bits, both
    are None.

    Raises:
        ExportError: There are not two.
    """
    if crops is None:
        return None, None
    if len(crops) < 2:
        raise ExportError(f"8 bits need two persons, one to set ranges and one to check them: got {len(crops)}")
    count = min(CHECKED_CROPS, len(crops) // 2)
    return crops[:count], crops[count:]


@torch.no_grad()
def check_quantized(
    path: str | Path, reference: nn.Module, input_size: tuple[int, int], crops: Tensor | None = None
) -> None:
    """Refuses a file of 8 bits or bfloat16 in which some keypoint is not what it is in PyTorch.

    Args:
        path: The file, with its metadata.
        reference: The network in PyTorch, which answers with heatmaps.
        input_size: Width and height.
        crops: (N, 3, H, W), which the file has not been made by; None for random numbers.

    Raises:
        ExportError: A keypoint's heatmaps differ by more than :data:`MOST_CHANGED`.
    """
    x = torch.randn(4, 3, input_size[1], input_size[0], generator=torch.Generator().manual_seed(0))
    x = x if crops is None else crops
    session, expected = open_file(path, threads=1), reference(x).numpy()
    step = 1 if session.one_image else len(x)
    result = np.concatenate([session(part.numpy())[0] for part in x.split(step)])
    changed, own = (np.sqrt(np.square(maps).mean((0, 2, 3))) for maps in (result - expected, expected))
    changed /= np.maximum(own, LEAST_NOISE)
    worst = int(np.argmax(np.nan_to_num(changed, nan=np.inf)))
    if not changed[worst] <= MOST_CHANGED:
        raise ExportError(
            f"{path}: quantized, the heatmaps of keypoint {worst} differ by {changed[worst]:.2g} of their size, more "
            f"than {MOST_CHANGED:g}; not written"
        )


def _check_places(
    path: str | Path, result: np.ndarray, expected: np.ndarray, reference: nn.Module, x: Tensor, difference: float
) -> None:
    """Refuses keypoints (N, K, 2) that are not where PyTorch finds them."""
    if not np.isfinite(result).all():
        raise ExportError(f"{path}: x or y of a keypoint is no number; not written")
    if np.abs(result - expected).max() <= PIXELS:
        return
    assert isinstance(reference, CropKeypoints)
    head, network = reference.network, reference.network.network
    head.network = Noisy(network, max(difference, LEAST_NOISE))
    try:
        found = np.stack([expected, *(reference(x).numpy()[..., :2] for _ in range(REPEATS))])
    finally:
        head.network = network
    nearest = np.abs(found - result).max(-1).min(0)
    between = np.maximum(found.min(0) - result, result - found.max(0)).max(-1)
    off = np.where(nearest < HEATMAP_STRIDE, between, nearest)  # of two peaks either, and nothing in the middle
    if off.max() > PIXELS:
        raise ExportError(
            f"{path}: {(off > PIXELS).sum()} of {off.size} keypoints are up to {off.max():.3g} pixels of the crop from "
            f"PyTorch's, more than {PIXELS:g}; not written"
        )
