"""Layers in the forms that runtimes compute fastest, in a graph of one image.

With one image a kernel made for it is one kernel, and its layer an ordinary convolution whose weight is computed:
runtimes fuse bias, activation and shortcut into it, which they do not do for batched matrix products. A free batch
size is the business of :mod:`pose.export.batch_scan`. What is measured, by layer, is in docs/benchmarks/export.md:

* 1 x 1 and k x k: a convolution with a computed weight, which on many pixels costs no more than the static one;
* depthwise in OpenVINO: the same;
* depthwise in ONNX Runtime, which copies every channel's windows for computed weights: K convolutions with constant
  kernels, their inputs scaled by the shares and each added to the last, save for small kernels on many pixels.
"""

from __future__ import annotations

import copy

from torch import nn

RUNTIMES = ("onnxruntime", "onnxruntime-here", "openvino")
"""What a file is made for. Files for ``onnxruntime`` and ``openvino`` run in both, and on any processor."""


def one_image(deployed: nn.Module, runtime: str) -> nn.Module:
    """A copy of a network in the forms that are fastest for one image: its layers say theirs by ``graph_form``.

    Args:
        deployed: A network deployed with ``fused=False``.
        runtime: One of :data:`RUNTIMES`.
    """
    return _replaced(copy.deepcopy(deployed), runtime)


def _replaced(module: nn.Module, runtime: str) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, runtime))
    form = getattr(module, "graph_form", None)
    return module if form is None else form(runtime)
