"""Boxes to target maps, and how far the network's maps are from them.

A person's center is a Gaussian as wide as its box, and its box is learned at every cell of that Gaussian's core, by
weights that sum to about the same for a small and a large person (Liu, 'Training-Time-Friendly Network', arXiv
1909.00700, after Zhou, 'Objects as Points', arXiv 1904.07850): more to learn from each picture than the center alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pose.detection.decode import MAX_LOG

NOTHING, PERSON, UNSURE, REGION = range(4)
"""Kinds of boxes: padding, a person, perhaps a person, and a region of persons that are not told apart."""

CORE = 0.54
"""The part of a box's width and height in which its Gaussian lives (arXiv 1909.00700, 3.2: alpha and beta)."""

SIGMAS = 6.0
"""Widths of a core in standard deviations."""

REGRESSION_WEIGHT = 5.0
"""The weight of the boxes' loss beside the centers' (arXiv 1909.00700, 4.1)."""


class Targets(NamedTuple):
    """What a batch of maps should be.

    Attributes:
        centers: (N, h, w) in [0, 1]: 1 at a person's center cell.
        considered: (N, h, w) 0 where nobody knows whether a person is there, else 1.
        boxes: (N, 4, h, w) x1, y1, x2, y2 in cells of the person whose core a cell belongs to.
        weights: (N, h, w) of those boxes; 0 outside all cores.
    """

    centers: Tensor
    considered: Tensor
    boxes: Tensor
    weights: Tensor


def encode(boxes: Tensor, kinds: Tensor, size: tuple[int, int], stride: int) -> Targets:
    """Boxes to target maps, all pictures of a batch at once.

    Args:
        boxes: (N, M, 4) float32 x1, y1, x2, y2 in input pixels, padded to M a picture.
        kinds: (N, M) int64, of :data:`NOTHING`, :data:`PERSON`, :data:`UNSURE`, :data:`REGION`.
        size: h and w of the maps.
        stride: Input pixels per cell.
    """
    boxes = boxes / stride
    x, y = cell_centers(*size, boxes.device)
    limits = torch.tensor([size[1], size[0]], device=boxes.device)
    extent = boxes[..., 2:] - boxes[..., :2]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    peak = torch.minimum(center.clamp(min=0).floor(), limits - 1) + 0.5  # the center's cell, where the Gaussian is 1
    across, down = x - peak[..., :1], y - peak[..., 1:]
    sigma = (extent * (CORE / SIGMAS)).clamp(min=1e-3)
    gaussian = torch.exp(-(down**2 / (2 * sigma[..., 1:] ** 2))[..., None])
    gaussian = gaussian * torch.exp(-(across**2 / (2 * sigma[..., :1] ** 2))[..., None, :])
    reach = (extent * (CORE / 2)).clamp(min=0.5)
    core = (down.abs() <= reach[..., 1:])[..., None] & (across.abs() <= reach[..., :1])[..., None, :]
    gaussian = gaussian * core  # (N, M, h, w)

    is_person = (kinds == PERSON)[..., None, None]
    persons = gaussian * is_person
    centers = persons.amax(1)
    inside = (x >= boxes[..., :1]) & (x <= boxes[..., 2:3])
    inside = inside[..., None, :] & ((y >= boxes[..., 1:2]) & (y <= boxes[..., 3:4]))[..., None]
    unknown = (core & (kinds == UNSURE)[..., None, None]) | (inside & (kinds == REGION)[..., None, None])
    considered = (~unknown.any(1) | (persons > 0).any(1)).float()

    area = extent.prod(-1)
    claims = torch.where(persons > 0, area[..., None, None], torch.inf)
    owner = claims.argmin(1)  # (N, h, w): of several persons the smallest
    owned = torch.isfinite(claims.amin(1))
    one_hot = F.one_hot(owner, boxes.shape[1]).movedim(-1, 1) * owned[:, None]
    shares = persons * one_hot
    shares = shares / shares.sum((-1, -2), keepdim=True).clamp(min=1e-6)
    weights = (shares * (1 + area.clamp(min=1)).log()[..., None, None]).sum(1)
    wanted = torch.gather(boxes, 1, owner.flatten(1)[..., None].expand(-1, -1, 4))
    return Targets(centers, considered, wanted.unflatten(1, size).movedim(-1, 1), weights)


def loss(predicted: Tensor, centers: Tensor, considered: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """Focal loss of the centers (arXiv 1904.07850, equation 1) plus 5 times the boxes' generalized IoU loss.

    Args:
        predicted: (N, 5, h, w) a network's maps, see :class:`pose.detection.network.DetectionNet`.
        centers, considered, boxes, weights: See :class:`Targets`.

    Returns:
        A scalar, per person and per unit of weight.
    """
    from torchvision.ops import generalized_box_iou_loss  # seconds to import, and only training needs it

    predicted = predicted.float()
    logit = predicted[:, 0]
    is_center = centers == 1
    chance = logit.sigmoid()
    found = F.logsigmoid(logit) * (1 - chance) ** 2
    rejected = F.logsigmoid(-logit) * chance**2 * (1 - centers) ** 4
    focal = -(torch.where(is_center, found, rejected) * considered).sum() / is_center.sum().clamp(min=1)
    rows = weights > 0
    apart = generalized_box_iou_loss(corners(predicted[:, 1:]).movedim(1, -1)[rows], boxes.movedim(1, -1)[rows])
    return focal + REGRESSION_WEIGHT * (apart * weights[rows]).sum() / weights.sum().clamp(min=1e-6)


def corners(distances: Tensor) -> Tensor:
    """Logarithms of distances (N, 4, h, w) to boxes (N, 4, h, w): x1, y1, x2, y2 in cells."""
    left, top, right, bottom = distances.clamp(max=MAX_LOG).exp().unbind(1)
    height, width = distances.shape[-2:]
    x, y = cell_centers(height, width, distances.device)
    return torch.stack([x - left, y[:, None] - top, x + right, y[:, None] + bottom], 1)


def cell_centers(height: int, width: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """x (w,) and y (h,) of the cells' centers, in cells."""
    return torch.arange(width, device=device) + 0.5, torch.arange(height, device=device) + 0.5
