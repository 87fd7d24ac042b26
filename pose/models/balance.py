"""A trained static network's kernels at the scale of fresh ones, its outputs unchanged.

Adam's steps are of one size whatever the weights' size is. A network whose channels are scaled unevenly, as those are
whose weights come from a file with its normalisation folded in, is turned far by the first steps where kernels are
small and hardly at all where they are large. The normalisation after a convolution undoes any scale of its channels, so
that kernels can have the deviation that He initialisation (arXiv 1502.01852, eq. 10) would give them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from pose.models.leaves import leaf_layers

LEAST_VARIANCE = 1e-2
"""No channel's running variance becomes smaller: beside less, a normalisation's eps would count."""

DEAD = 1e-6
"""Channels with a smaller running variance, or a smaller kernel, give a constant and are left alone."""


@torch.no_grad()
def balance(model: nn.Module) -> None:
    """Rescales every kernel that is followed by batch normalisation, in place.

    Each output channel's kernel gets the deviation sqrt(2 / fan-in) around zero, or the least larger one with which its
    running variance is :data:`LEAST_VARIANCE`. Running statistics are scaled alike, so that the outputs in evaluation
    mode stay the same.

    Args:
        model: A network in which a static convolution that is registered directly before an ``nn.BatchNorm2d`` is
            followed by it, as in this project's and torchvision's. Dynamic layers stay as they are.
    """
    layers = [layer for _, layer in leaf_layers(model)]
    for conv, norm in pairwise(layers):
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            continue
        deviation = conv.weight.flatten(1).square().mean(1).sqrt()
        wanted: float = (2 / conv.weight[0].numel()) ** 0.5
        alive = (variance >= DEAD) & (deviation >= DEAD)
        least = ((LEAST_VARIANCE + norm.eps) / (variance + norm.eps)).sqrt()
        factor = torch.where(alive, torch.maximum(wanted / deviation.clamp(min=DEAD), least), torch.ones_like(variance))
        conv.weight.mul_(factor[:, None, None, None])
        if conv.bias is not None:
            conv.bias.mul_(factor)
        mean.mul_(factor)
        variance.copy_(torch.where(alive, (variance + norm.eps) * factor.square() - norm.eps, variance))
