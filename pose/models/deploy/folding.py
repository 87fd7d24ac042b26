"""A trained network for inference: normalisation folded, constants worked out, layers native.

    model = deploy(model)                                  # float32
    model = deploy(model, bank_dtype=torch.bfloat16)       # half the memory traffic of the kernels; int8: a quarter
    heatmaps = model(x)                                    # as the network in evaluation mode, to 1e-4

Dynamic layers fold themselves by ``fold``, and a block of this project says by ``native_form`` what it is as one native
sequence once its layers are folded; the network is walked here.

On a CPU with a C++ compiler (GCC or Clang) layers, static and dynamic, run natively, neighbours in one call
(:mod:`pose.models.native.inference.layers`), compiled once and kept; without one they are torch operations, and a
warning says so once.
"""

from __future__ import annotations

import copy
import itertools
import warnings

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models import native
from pose.models.dynamic.base import DynamicLayer
from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.models.layers import ConvNormAct, SqueezeExcitation

BANK_DTYPES = (torch.float32, torch.bfloat16, torch.int8)
CONVS = (nn.Conv2d, nn.ConvTranspose2d, DynamicLayer)


@torch.no_grad()
def deploy(
    model: nn.Module,
    fused: bool | None = None,
    bank_dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
) -> nn.Module:
    """A copy of a network for inference; the network itself stays as it is.

    Args:
        model: A float32 network of this project's layers and ``nn.Conv2d``; other layers pass unchanged.
        fused: Native layers for the CPU. None takes them where the network is on a CPU and they can be built, with
            one warning where they cannot; False is the form in torch operations, which runs on any device, can be
            exported, and has hooks and modules to look into.
        bank_dtype: Precision of what is large in dynamic layers' memory, float32 or bfloat16: kernels and the
            attention's first matrix, and in native form a decomposed layer's branch. ``torch.int8``, of native layers
            alone, is 8 bits for kernels and the attention, with a scale for each output channel, and bfloat16 for
            depthwise kernels and the branch. Convolutions are computed in float32 all the same; kernels of 8 bits are
            mixed, and the attention is multiplied, in whole numbers. A warning counts the dynamic layers that have no
            such form and keep float32.
        channels_last: The memory format of torch's weights; inputs may be in any.

    Returns:
        A module in evaluation mode without gradients.

    Raises:
        ValueError: ``bank_dtype`` is none of these, or is int8 where ``fused`` is False, native layers cannot be built
            or the network is on another device, or the network is not float32.
        NativeError: ``fused`` is True and the layers cannot be built.
    """
    if bank_dtype not in BANK_DTYPES:
        raise ValueError(f"bank_dtype must be float32, bfloat16 or int8, got {bank_dtype}")
    parameter = next(model.parameters(), torch.empty(0))
    if parameter.dtype != torch.float32:
        raise ValueError(f"a network to deploy must be float32, got {parameter.dtype}")
    wanted = fused
    if fused is None:
        fused = parameter.device.type == "cpu" and native.available()
    elif fused:
        from pose.native.library import load_inference  # only who asks for native layers needs it

        load_inference()
    if bank_dtype == torch.int8 and not fused:
        got = f"fused={wanted} and a network on {parameter.device.type}"
        raise ValueError(f"an int8 bank is for native layers, which need a CPU and a C++ compiler; got {got}")
    deployed = _folded(copy.deepcopy(model).eval().requires_grad_(False), bank_dtype, fused)
    if bank_dtype != torch.float32:
        _tell_of_float32_layers(deployed, bank_dtype)
    if channels_last:
        deployed = deployed.to(memory_format=torch.channels_last)
    return deployed.requires_grad_(False).eval()


def _tell_of_float32_layers(deployed: nn.Module, bank_dtype: torch.dtype) -> None:
    """Warns of folded dynamic layers that have nothing in a bank's precision."""
    layers = [module for module in deployed.modules() if isinstance(module, PerImageConv2d)]
    within = {child for layer in layers for child in layer.children()}  # a folded layer may keep the layer itself
    kept = [
        layer
        for layer in layers
        if layer not in within and all(tensor.dtype != bank_dtype for tensor in layer.state_dict().values())
    ]
    if kept:
        told = f"{len(kept)}, first {type(kept[0]).__name__}({kept[0].extra_repr()})"
        warnings.warn(f"dynamic layers without a form in {bank_dtype}, kept in float32: {told}", stacklevel=3)


def _folded(module: nn.Module, bank_dtype: torch.dtype, fused: bool) -> nn.Module:
    """The module with everything in it folded."""
    if isinstance(module, ConvNormAct):
        return _fold(module.conv, module.norm, module.activation, bank_dtype, fused)
    if isinstance(module, CONVS):
        return _fold(module, None, nn.Identity(), bank_dtype, fused)
    if isinstance(module, nn.Sequential):
        return _folded_sequence(list(module), bank_dtype, fused)
    if isinstance(module, SqueezeExcitation):  # its convolutions are of single pixels
        return module
    if fused and type(module) is nn.MaxPool2d:
        from pose.models.native.inference.layers import NativeMaxPool

        return NativeMaxPool(module) if NativeMaxPool.is_known(module) else module
    for name, child in module.named_children():
        setattr(module, name, _folded(child, bank_dtype, fused))
    form = vars(type(module)).get("native_form") if fused else None  # a subclass may compute something else
    whole = None if form is None else form(module)
    return module if whole is None else whole


def _folded_sequence(layers: list[nn.Module], bank_dtype: torch.dtype, fused: bool) -> nn.Module:
    """A sequence with everything in it folded, and native neighbours as one."""
    made: list[nn.Module] = []
    while layers:
        layer = layers.pop(0)
        if isinstance(layer, CONVS) and layers and isinstance(layers[0], nn.BatchNorm2d):
            norm = layers.pop(0)
            assert isinstance(norm, nn.BatchNorm2d)
            known = layers and type(layers[0]) in native.ACTIVATIONS
            made.append(_fold(layer, norm, layers.pop(0) if known else nn.Identity(), bank_dtype, fused))
        else:
            made.append(_folded(layer, bank_dtype, fused))
    if not fused:
        return nn.Sequential(*made)
    from pose.models.native.inference.layers import NativeModule, NativeSequence

    runs: list[nn.Module] = []
    for is_native, group in itertools.groupby(made, lambda layer: isinstance(layer, NativeModule)):
        run = list(group)
        runs += [NativeSequence(run)] if is_native else run
    return runs[0] if len(runs) == 1 else nn.Sequential(*runs)


def _fold(
    conv: nn.Module, norm: nn.BatchNorm2d | None, activation: nn.Module, bank_dtype: torch.dtype, fused: bool
) -> nn.Module:
    """A convolution, the normalisation after it and the activation."""
    fold = getattr(conv, "fold", None)
    if fold is not None:
        folded = fold(norm, torch.float32 if bank_dtype == torch.int8 else bank_dtype)  # bytes are the native form's
    elif norm is None:
        folded = conv
    else:
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        folded = fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d))
    if fused:
        from pose.models.native.inference.layers import fuse  # only who runs native layers needs them

        return fuse(folded, activation, bank_dtype)
    return folded if isinstance(activation, nn.Identity) else nn.Sequential(folded, activation)
