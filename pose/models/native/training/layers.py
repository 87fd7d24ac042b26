"""A network's training step on a CPU by native operations, in channels_last float32: same weights, same gradients.

    model = use_native_training(model)         # parameters, buffers and their names stay

A module that has a native form for training says so by a method ``native_training(pool_cache)`` of its class, which
returns that form; all others train by torch's operations. The forms stand beside the layers that they are forms of, are
subclasses of them, and differ in training mode on a CPU in float32 alone; everywhere else they are what they were.

A dynamic layer's kernels of a batch are N x (parameters of one kernel) x 4 bytes (:func:`kernel_bytes`). The native
1 x 1 layers mix them for a few images at a time, in the forward and again in the backward pass, and keep none;
depthwise layers, whose kernels are small, keep theirs unless ``recompute_kernels`` is asked for.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models.native import NativeError, load
from pose.models.native.training.operations import Conv, PoolCache, add_bias, is_known

SOURCES = tuple(Path(__file__).with_name(name) for name in ("training.cpp", "depthwise.cpp"))
Module = TypeVar("Module", bound=nn.Module)


@functools.cache
def available() -> bool:
    """Whether the operations are built or can be; warns once where not."""
    try:
        load(*SOURCES)
    except NativeError as error:
        warnings.warn(f"{error}; training runs as torch operations, more slowly", stacklevel=3)
        return False
    return True


def use_native_training(model: nn.Module) -> nn.Module:
    """Lets a network train by native operations, where there is a compiler; one warning where there is none.

    Args:
        model: Any network. Modules that have a native form are replaced inside it; others stay.

    Returns:
        The network, or its native form where it has one itself. Its parameters and buffers are the same tensors under
        the same names.
    """
    if not available():
        return model
    pool_cache = PoolCache()
    forms: dict[nn.Module, nn.Module] = {}

    def replaced(module: nn.Module) -> nn.Module:
        if module not in forms:
            for name, child in list(module._modules.items()):
                if child is not None:
                    setattr(module, name, replaced(child))
            make = vars(type(module)).get("native_training")  # not inherited: a subclass may compute something else
            form = None if make is None else make(module, pool_cache)
            forms[module] = module if form is None else form
        return forms[module]

    return replaced(model)


def kernel_bytes(model: nn.Module, batch_size: int) -> int:
    """Bytes of the mixed kernels of a batch in all dynamic layers, which torch keeps from forward to backward pass.

    ``recompute_kernels`` saves them. Layers without a kernel per image, as decomposed ones, count nothing.
    """
    layers = [module for module in model.modules() if hasattr(module, "kernel_bytes")]
    return sum(layer.kernel_bytes(batch_size) for layer in layers)


def adopt(form: type[Module], module: nn.Module) -> Module:
    """A module of another class with a module's parameters, buffers, children, hooks and attributes.

    Args:
        form: Related to the module's class, and in need of no other attributes.
        module: Not to be used any more.
    """
    made = form.__new__(form)
    for name, value in vars(module).items():
        made.__dict__[name] = value.copy() if isinstance(value, dict) else value
    return made


def fits(module: nn.Module, x: Tensor) -> bool:
    """Whether a layer computes natively: in training mode, on a CPU, for float32 images, without autocast."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4 and x.numel() > 0
    return module.training and plain and not torch.is_autocast_enabled("cpu")


class NativeTrainedConv2d(nn.Conv2d):
    """The native training form of a depthwise or pointwise ``nn.Conv2d``."""

    @classmethod
    def of(cls, conv: nn.Module) -> nn.Module:
        """The native form of a convolution; the convolution itself where it has none."""
        return adopt(cls, conv) if type(conv) is nn.Conv2d and is_known(conv) else conv

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not fits(self, x):
            return super().forward(x)
        y = Conv.apply(x, self.weight[None], self.stride[0])
        return add_bias(y, None if self.bias is None else self.bias[None])

    def fold(self, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32) -> nn.Conv2d:
        """See :meth:`pose.models.dynamic.base.DynamicLayer.fold`: an ``nn.Conv2d``."""
        conv = adopt(nn.Conv2d, self)
        return conv if norm is None else fuse_conv_bn_eval(conv, norm)
