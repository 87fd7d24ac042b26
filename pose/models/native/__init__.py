"""Native layers of networks in torch, for CPUs: of deployed networks and of training."""

from __future__ import annotations

import functools
import warnings

from torch import nn

ACTIVATIONS = {nn.Identity: 0, nn.ReLU: 1, nn.ReLU6: 2, nn.Hardswish: 3}
"""Codes of the activations that are fused into a native layer, as in the sources."""


@functools.cache
def available() -> bool:
    """Whether the layers for inference are built or can be; warns once where not."""
    from pose.native.library import NativeError, load_inference  # only who runs native layers needs it

    try:
        load_inference()
    except NativeError as error:
        warnings.warn(f"{error}; layers run as torch operations, more slowly", stacklevel=3)
        return False
    return True
