"""Layers whose pixels and kernels are computed in several pieces, by any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from pose.models.deploy.folding import deploy
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.native.program import Program, Step

LAYERS = {
    "static": lambda: nn.Conv2d(64, 64, 1),  # four panels
    "static, two panels": lambda: nn.Conv2d(40, 20, 3, padding=1),  # fewer than threads: pixels are shared out
    "dynamic": lambda: DynamicConv2d(64, 64, 1, temperature=1.0),
    "dynamic, two panels": lambda: DynamicConv2d(40, 20, 3, padding=1, temperature=1.0),
    "dynamic depthwise": lambda: DynamicConv2d(64, 64, 3, padding=1, groups=64, temperature=1.0),
}
large_layers = pytest.mark.parametrize("layer", LAYERS)
many_threads = pytest.mark.parametrize("threads", [1, 3, 7])


@torch.no_grad()
def assert_large_layer(
    layer: str,
    threads: int,
    most: float,
    bank: torch.dtype = torch.float32,
    form: Callable[[list[Step], np.ndarray], list[Step]] = lambda steps, images: steps,
) -> None:
    """Compares a layer with torch at every pixel and in every channel, as a part of the answers' deviation.

    Args:
        layer: A key of :data:`LAYERS`.
        threads: How many compute it.
        most: The difference that passes.
        bank: The precision of kernels.
        form: Makes other steps of it, with images (N, H, W, C): of the same values, elsewhere, so that what is left in
            memory of them is no answer.
    """
    torch.manual_seed(0)
    conv, x = LAYERS[layer](), torch.randn(2, 64, 33, 29)
    x = x[:, : conv.in_channels]
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    expected = conv(x).permute(0, 2, 3, 1).numpy()
    steps = form(deploy(nn.Sequential(conv), bank_dtype=bank).steps(), np.ascontiguousarray(images[:, ::-1, ::-1]))
    found = Program(steps).run(images, threads)
    np.testing.assert_allclose(found, Program(steps).run(images, 2), rtol=0, atol=1e-4 * np.abs(expected).max())
    error = np.square(found - expected) / expected.var()
    assert np.sqrt(error.mean(3).max()) <= most and np.sqrt(error.mean((1, 2)).max()) <= most
