"""What a network asks of its backbone."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """Images (N, 3, H, W) to features (N, C, H / s, W / s).

    Attributes:
        out_channels: C.
        out_stride: s, image pixels per pixel of the features.
    """

    out_channels: int
    out_stride: int
