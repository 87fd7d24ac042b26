"""The network's maps to boxes: peaks, their boxes, and of boxes of one person the best."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pose.detection.letterbox import MAX_LOG
from pose.detection.suppression import MAX_PERSONS, OVERLAP
from pose.detection.suppression import suppress as suppress_arrays


def decode(
    predicted: Tensor, stride: int, threshold: float = 0.0, overlap: float = OVERLAP, max_persons: int = MAX_PERSONS
) -> list[Tensor]:
    """Maps to boxes, all pictures of a batch at once.

    Args:
        predicted: (N, 5, h, w), see :class:`pose.detection.network.DetectionNet`.
        stride: Input pixels per cell.
        threshold: Boxes of a lower score are left out.
        overlap: The worse of two boxes with a larger IoU is left out.
        max_persons: The number of boxes of a picture at most; the best are kept.

    Returns:
        For each picture (P, 5) x1, y1, x2, y2 in input pixels and the score in (0, 1), the best first.
    """
    scores = predicted[:, 0].float().sigmoid()
    peaks = F.max_pool2d(scores[:, None], 3, 1, 1)[:, 0] == scores
    ranked, places = (scores * peaks).flatten(1).topk(min(2 * max_persons, scores[0].numel()))
    boxes = corners(predicted[:, 1:].float()).flatten(2) * stride
    boxes = torch.gather(boxes, 2, places[:, None].expand(-1, 4, -1)).movedim(1, -1)
    image = torch.arange(len(predicted), device=predicted.device)[:, None].expand_as(places)
    rows = (ranked > max(threshold, 1e-6)).flatten().nonzero().flatten()
    found = torch.cat([boxes.flatten(0, 1), ranked.flatten()[:, None]], 1)[rows]
    owners = image.flatten()[rows]
    kept = suppress(found, owners, overlap)
    found, owners = found[kept], owners[kept]
    return [found[owners == number][:max_persons] for number in range(len(predicted))]


def suppress(boxes: Tensor, owners: Tensor, overlap: float) -> Tensor:
    """:func:`pose.detection.suppression.suppress` of tensors; (M,) int64 on their device."""
    rows = suppress_arrays(boxes.double().cpu().numpy(), owners.cpu().numpy(), overlap)
    return torch.from_numpy(rows).to(boxes.device)


def corners(distances: Tensor) -> Tensor:
    """Logarithms of distances (N, 4, h, w) to boxes (N, 4, h, w): x1, y1, x2, y2 in cells."""
    left, top, right, bottom = distances.clamp(max=MAX_LOG).exp().unbind(1)
    height, width = distances.shape[-2:]
    x, y = cell_centers(height, width, distances.device)
    return torch.stack([x - left, y[:, None] - top, x + right, y[:, None] + bottom], 1)


def cell_centers(height: int, width: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """x (w,) and y (h,) of the cells' centers, in cells."""
    return torch.arange(width, device=device) + 0.5, torch.arange(height, device=device) + 0.5
