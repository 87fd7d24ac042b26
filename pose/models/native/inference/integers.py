"""Kernels as signed bytes, as ``pose/native/bytes.h`` reads them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 127
"""The largest whole number."""


def to_bytes(kernels: Tensor, largest: int = LARGEST) -> tuple[Tensor, Tensor]:
    """Kernels as whole numbers, rounded to the nearest, with one scale for each output channel.

    Args:
        kernels: (..., C_out, C_in, kh, kw); all that come before the outputs share the scales.
        largest: The largest whole number.

    Returns:
        int8 of the same shape, and (C_out,) float32: what one is worth, no finite number where a weight is none.
    """
    channels = kernels.dim() - 4
    others = [axis for axis in range(kernels.dim()) if axis != channels]
    most = kernels.abs().amax(others)
    scales = torch.where(most == 0, 1.0, most / largest).float()
    whole = (kernels / scales[:, None, None, None]).round().clamp(-largest, largest)
    return whole.nan_to_num(0).to(torch.int8), scales


def side_by_side(values: Tensor, count: int) -> Tensor:
    """(K, ...) to (K / count, ..., count): neighbours of the first axis side by side, zeros for those missing."""
    filled = F.pad(values, (0, 0) * (values.dim() - 1) + (0, -len(values) % count))
    return filled.unflatten(0, (-1, count)).movedim(1, -1).contiguous()
