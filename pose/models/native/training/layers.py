"""A network's training step on a CPU by native operations, in channels_last float32: same weights, same gradients.

    model = use_native_training(model)         # parameters, buffers and their names stay

A module that has a native form for training says so by a method ``native_training(pool_cache)`` of its class, which
returns that form; all others train by torch's operations. This project's forms are in
:mod:`pose.models.native.training.forms`.

A dynamic layer's kernels of a batch are N x (parameters of one kernel) x 4 bytes (:func:`kernel_bytes`). The native
1 x 1 layers mix them for a few images at a time, in the forward and again in the backward pass, and keep none;
depthwise layers, whose kernels are small, keep theirs unless ``recompute_kernels`` is asked for.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from pathlib import Path

import torch
from torch import nn

from pose import glibc
from pose.models.native.training.operations import PoolCache
from pose.native.library import COMMON_FLAGS, Library, NativeError

SOURCES = ("static_operations", "dynamic_operations", "rows", "row_products", "pair_products", "matrix_tiles")
"""What torch calls, in two files that include the others, and the arithmetic that these call."""

TRAINING = Library(
    tuple(Path(__file__).with_name(f"{name}.cpp") for name in SOURCES),
    # sums over images may be taken in any order; GCC tunes for AMD's processors by tearing multiply-adds apart
    (*COMMON_FLAGS, "-fassociative-math", "-mtune=generic"),
    torch=True,
)
"""The operations of training."""


@functools.cache
def load() -> None:
    """Makes the operations known to torch; compiled in half a minute the first time. Freed memory stays the process's.

    Raises:
        NativeError: They cannot be built or loaded.
    """
    path = TRAINING.built()
    try:
        torch.ops.load_library(str(path))
    except Exception as error:  # whatever the loader can say
        raise NativeError(f"{path}: cannot be loaded ({error}); delete it and try again") from error
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Lets the GNU C library keep what a step frees for the next one, which wants the same again, in large pages.

    Otherwise it gives large pieces back to the system, which fills each page with zeros when it is asked for it anew:
    a tenth of a small network's step. And one core writes to memory twice as fast where pages are of 2 MiB: what the
    library has next to give, 1 GiB, is asked to be so, room that is not taken before it is written; what a process
    needs beyond it lies in small pages, as do single tensors of more. Of glibc from 2.35 on: older ones map pieces
    larger than 32 MiB apart, and nothing is done, as with other C libraries.
    """
    most, huge_page, advice = 1 << 30, 2 << 20, 14  # MADV_HUGEPAGE
    if not glibc.set_option(glibc.MMAP_THRESHOLD, most):
        return
    glibc.set_option(glibc.TRIM_THRESHOLD, (1 << 31) - 1)
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    size = most - huge_page
    if place := library.malloc(ctypes.c_size_t(size)):
        begin = -(-place // huge_page) * huge_page
        library.madvise(
            ctypes.c_void_p(begin), ctypes.c_size_t((place + size - begin) // huge_page * huge_page), advice
        )
        library.free(ctypes.c_void_p(place))


@functools.cache
def available() -> bool:
    """Whether the operations are built or can be; warns once where not."""
    try:
        load()
    except NativeError as error:
        warnings.warn(f"{error}; training runs as torch operations, more slowly", stacklevel=3)
        return False
    return True


def has_pairs() -> bool:
    """Whether this processor has products of bfloat16, as :func:`pose.native.pairs.has_pairs` says of inference.

    Raises:
        NativeError: The operations cannot be built or loaded.
    """
    load()
    return torch.ops.pose_training.has_pairs.default()


def use_native_training(model: nn.Module, pairs: bool = False) -> nn.Module:
    """Lets a network train by native operations, where there is a compiler; one warning where there is none.

    Args:
        model: Any network. Modules that have a native form are replaced inside it; others stay.
        pairs: Products of 1 x 1 convolutions in both passes are of values rounded to bfloat16 and added up in
            float32, and what convolutions alone read, with its gradients, is bfloat16 in memory; on a processor that
            has no such instructions this gains memory alone.

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

    model = replaced(model)
    from pose.models.native.training.forms import NativeTrained  # who names its form imports it, and no one else

    for module in model.modules():
        if isinstance(module, NativeTrained):
            module.pairs = pairs
    return model


def kernel_bytes(model: nn.Module, batch_size: int) -> int:
    """Bytes of the mixed kernels of a batch in all dynamic layers, which torch keeps from forward to backward pass.

    ``recompute_kernels`` saves them. Layers without a kernel per image, as decomposed ones, count nothing.
    """
    asked = (getattr(module, "kernel_bytes", None) for module in model.modules())
    return sum(ask(batch_size) for ask in asked if ask is not None)
