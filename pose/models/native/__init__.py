"""Native layers of networks in torch, for CPUs: of deployed networks and of training."""

from __future__ import annotations

import functools
import warnings

import torch
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


def chosen(wanted: bool | None, device: torch.device | str, may_compile: bool = False) -> bool:
    """Whether a network that finds people in pictures runs by native layers.

    Args:
        wanted: What a person said; None takes them on a CPU where they need not be compiled first.
        device: Where the network is to compute.
        may_compile: They may be compiled first, which takes some seconds, as there is much to do.
    """
    if wanted is not None:
        return wanted
    from pose.native.library import INFERENCE, find_compiler

    return torch.device(device).type == "cpu" and (INFERENCE.at_hand() or may_compile and find_compiler() is not None)
