"""A network that ends in keypoints: flip averaging and decoding as operations of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.heatmap import blur_matrix
from pose.skeleton import Skeleton


class KeypointNetwork(nn.Module):
    """Normalised crops to keypoints, as :func:`pose.heatmap.decode` and ``average_flip`` have them.

    Args:
        network: Normalised crops (N, 3, H, W) to heatmaps (N, K, h, w).
        skeleton: Says what each keypoint becomes in a mirror.
        flip: Average with the heatmaps of the mirrored crop.
        flip_shift: Pixels that those are shifted to the right.
        decode: One of :data:`DECODERS`.

    Raises:
        ValueError: There is no such decoder for graphs.
    """

    def __init__(self, network: nn.Module, skeleton: Skeleton, flip: bool, flip_shift: int, decode: str) -> None:
        super().__init__()
        if decode not in DECODERS:
            raise ValueError(f"test.decode must be one of {', '.join(DECODERS)} to be exported, got {decode!r}")
        self.network = network
        self.flip = flip
        self.shift = flip_shift
        self.decode = decode
        self.register_buffer("flip_index", torch.from_numpy(skeleton.flip_index))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to coordinates (N, K, 2) in heatmap pixels and scores (N, K)."""
        if not self.flip:
            return self._decode(self.network(x))
        heatmaps, mirrored = self.network(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1))
        mirrored = mirrored.index_select(1, self.flip_index).flip(3)
        width = mirrored.shape[3]
        mirrored = torch.cat([mirrored[..., : self.shift], mirrored[..., : width - self.shift]], 3)
        return self._decode((mirrored + heatmaps) * 0.5)

    def _decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        flat, width = heatmaps.flatten(2), int(heatmaps.shape[3])
        scores, peak = flat.max(2, keepdim=True)
        x, y = peak % width, torch.div(peak, width, rounding_mode="floor")
        point = torch.cat([x, y], 2).to(flat.dtype)
        if self.decode != "none":
            point = point + _STEPS[self.decode](heatmaps, peak, x, y)
        return point * (scores > 0).to(flat.dtype), scores[..., 0]


def _sign_step(heatmaps: Tensor, peak: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The step of :func:`pose.heatmap.decode` by ``sign``; arguments as for :func:`_dark_step`."""
    flat, height, width = heatmaps.flatten(2), int(heatmaps.shape[2]), int(heatmaps.shape[3])
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    padded = F.pad(flat, (width, width))
    around = [padded.gather(2, peak + width + step) for step in (1, -1, width, -width)]
    ahead = torch.cat([around[0] - around[1], around[2] - around[3]], 2).sign()
    return 0.25 * ahead * inside.to(flat.dtype)


def _second_highest_step(heatmaps: Tensor, peak: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The step of :func:`pose.heatmap.decode` by ``second_highest``; arguments as for :func:`_dark_step`."""
    flat, width = heatmaps.flatten(2), int(heatmaps.shape[3])
    second = flat.topk(2, 2).indices[..., 1:]
    step = torch.cat([second % width - x, torch.div(second, width, rounding_mode="floor") - y], 2).to(flat.dtype)
    return 0.25 * step / step.square().sum(2, keepdim=True).sqrt()


def _dark_step(heatmaps: Tensor, peak: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The step of :func:`pose.heatmap.decode` by ``dark`` from the highest pixels.

    Args:
        heatmaps: (N, K, h, w).
        peak: (N, K, 1) places of the highest pixels in the flat heatmaps.
        x, y: (N, K, 1) columns and rows of the highest pixels.

    Returns:
        (N, K, 2).
    """
    height, width = int(heatmaps.shape[2]), int(heatmaps.shape[3])
    blur = torch.from_numpy(blur_matrix())  # (15, 5)
    side = blur.shape[0]
    margin = side // 2
    padded = F.pad(heatmaps, (margin, margin, margin, margin)).flatten(2)
    span = torch.arange(side)
    window = (span[:, None] * (width + 2 * margin) + span).flatten()
    patch = padded.gather(2, y * (width + 2 * margin) + x + window).reshape(-1, int(heatmaps.shape[1]), side, side)
    log = torch.matmul(torch.matmul(blur.t(), patch), blur).clamp(min=1e-10).log().flatten(2)

    def at(line: int, column: int) -> Tensor:
        place = 5 * (line + 2) + column + 2
        return log[..., place : place + 1]

    center = at(0, 0)
    dx, dy = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    dxx, dyy = (at(0, 2) - 2 * center + at(0, -2)) / 4, (at(2, 0) - 2 * center + at(-2, 0)) / 4
    dxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = dxx * dyy - dxy * dxy
    usable = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (determinant != 0)
    step = torch.cat([dxy * dy - dyy * dx, dxy * dx - dxx * dy], 2)
    kept = usable.to(step.dtype)
    return step / (determinant * kept + (1 - kept)) * kept


_STEPS = {"sign": _sign_step, "second_highest": _second_highest_step, "dark": _dark_step}

DECODERS = ("none", *_STEPS)
"""The decoders of :data:`pose.heatmap.DECODERS` that a graph can have."""


class EachImage(nn.Module):
    """A network of one image for a batch whose size is known: it runs once for each.

    Args:
        network: (1, 3, H, W) to (1, K, h, w).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, K, h, w)."""
        return torch.cat([self.network(image) for image in x.split(1)])


class CropKeypoints(nn.Module):
    """Crops as they are to keypoints in their pixels: all that a device needs but cutting the crop out.

    Args:
        network: Normalized crops to coordinates in heatmap pixels and scores.
        mean, std: The mean and standard deviation of RGB in [0, 1].
        stride: Crop pixels per heatmap pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: KeypointNetwork, mean: Sequence[float], std: Sequence[float], stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, float(stride)
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None])

    def forward(self, crops: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, K, 3): x and y in pixels of the crop, and the score."""
        points, scores = self.network((crops.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        return torch.cat([points * self.stride, scores[..., None]], 2)
