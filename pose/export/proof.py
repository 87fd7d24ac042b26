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
ROUGH = 0.1
"""What rounded kernels may change heatmaps by, root mean squares, as a part of their standard deviation."""
ROUGH_OF_NOISE = 0.5
"""The same for random numbers, where a trained network's heatmaps are next to nothing."""
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


@torch.no_grad()
def rough_difference(
    path: str | Path, reference: nn.Module, input_size: tuple[int, int], crops: Tensor | None = None
) -> tuple[float, float]:
    """What a file of rounded kernels changes heatmaps by, root mean squares as a part of their standard deviation.

    Args:
        path: The file, with its metadata.
        reference: The network in PyTorch.
        input_size: Width and height.
        crops: (N, 3, H, W), the first eight are used; None for random numbers.

    Returns:
        The difference, and the greatest that passes: :data:`ROUGH`, or :data:`ROUGH_OF_NOISE`.
    """
    x = torch.randn(4, 3, input_size[1], input_size[0], generator=torch.Generator().manual_seed(0))
    x = x if crops is None else crops[:8]
    expected = reference(x).numpy()
    (result,) = open_file(path, threads=1)(x.numpy())
    difference = float(np.sqrt(np.square(result - expected).mean()) / max(float(expected.std()), LEAST_NOISE))
    return difference, ROUGH_OF_NOISE if crops is None else ROUGH


def check_rounded(
    name: str | Path, path: str | Path, reference: nn.Module, input_size: tuple[int, int], crops: Tensor | None = None
) -> None:
    """Refuses a file by :func:`rough_difference`, with its name in the message.

    Raises:
        ExportError: The heatmaps differ by more than rounded kernels may.
    """
    rough, most = rough_difference(path, reference, input_size, crops)
    if not rough <= most:
        told = f"heatmaps differ by {rough:.2g} of their spread, more than {most:g}"
        raise ExportError(f"{name}: rounded, {told}; not written")


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
