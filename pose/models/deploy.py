"""A trained network as inference wants it: normalisation folded, constants worked out, dynamic layers fused.

    model = deploy(model)                                  # float32
    model = deploy(model, bank_dtype=torch.bfloat16)       # half the memory traffic of the kernels
    heatmaps = model(x)                                    # as the network in evaluation mode, to 1e-4

On a CPU with a C++ compiler every dynamic layer is one native call (:mod:`pose.models.native`), built once and
kept; without one the same layers run as a few torch operations each, and a warning says so once.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models import native
from pose.models.dcd import DCDConv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.folded import FoldedDynamicConv2d
from pose.models.folded_dcd import FoldedDCDConv2d, fold_dcd
from pose.models.layers import ConvNormAct, InvertedResidual

BANK_DTYPES = (torch.float32, torch.bfloat16)
CONVS = (nn.Conv2d, nn.ConvTranspose2d, DynamicConv2d, DCDConv2d)


@torch.no_grad()
def deploy(
    model: nn.Module,
    fused: bool | None = None,
    bank_dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
) -> nn.Module:
    """A copy of a network for inference; the network itself stays as it is.

    Args:
        model: Of this project's layers, float32; others pass unchanged.
        fused: Native dynamic layers for the CPU. None takes them where the network is on a CPU and they can be
            built, with one warning where they cannot; False is the form in torch operations, which runs on any
            device and can be exported.
        bank_dtype: Of the dynamic kernels in memory, float32 or bfloat16; they are mixed in float32.
        channels_last: The memory format of weights; inputs may be in any.

    Returns:
        A module in evaluation mode without gradients.

    Raises:
        ValueError: ``bank_dtype`` is neither.
        NativeError: ``fused`` is True and the layers cannot be built.
    """
    if bank_dtype not in BANK_DTYPES:
        raise ValueError(f"bank_dtype must be float32 or bfloat16, got {bank_dtype}")
    parameter = next(model.parameters(), torch.empty(0))
    if fused is None:
        fused = parameter.device.type == "cpu" and native.available()
    elif fused:
        native.build()
    deployed = _folded(copy.deepcopy(model).eval(), bank_dtype, fused)
    if channels_last:
        deployed = deployed.to(memory_format=torch.channels_last)
    return deployed.requires_grad_(False).eval()


def _folded(module: nn.Module, bank_dtype: torch.dtype, fused: bool) -> nn.Module:
    """The module with everything in it folded."""
    if isinstance(module, ConvNormAct):
        return _fold(module.conv, module.norm, module.activation, bank_dtype, fused)
    if isinstance(module, CONVS):
        return _fold(module, None, nn.Identity(), bank_dtype, fused)
    if isinstance(module, nn.Sequential):
        return _folded_sequence(list(module), bank_dtype, fused)
    for name, child in module.named_children():
        setattr(module, name, _folded(child, bank_dtype, fused))
    return native.chain(module) if fused and isinstance(module, InvertedResidual) else module


def _folded_sequence(layers: list[nn.Module], bank_dtype: torch.dtype, fused: bool) -> nn.Module:
    made = []
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, CONVS) and layers and isinstance(layers[0], nn.BatchNorm2d):
            made.append(_fold(layer, layers.pop(0), nn.Identity(), bank_dtype, fused))
        else:
            made.append(_folded(layer, bank_dtype, fused))
    return nn.Sequential(*made)


def _fold(
    conv: nn.Module, norm: nn.BatchNorm2d | None, activation: nn.Module, bank_dtype: torch.dtype, fused: bool
) -> nn.Module:
    """A convolution, the normalisation after it and the activation."""
    if isinstance(conv, DynamicConv2d):
        folded = FoldedDynamicConv2d(conv, norm, bank_dtype)
        if fused:
            return native.fuse(folded, activation)
    elif isinstance(conv, DCDConv2d):
        folded = fold_dcd(conv, norm)
        if fused and isinstance(folded, FoldedDCDConv2d):
            return native.fuse(folded, activation)
    else:
        folded = conv if norm is None else fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d))
    return folded if isinstance(activation, nn.Identity) else nn.Sequential(folded, activation)
