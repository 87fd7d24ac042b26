"""Layers in the forms that runtimes compute fastest, in a graph of one image.

With one image a kernel made for it is one kernel, and its layer an ordinary convolution whose weight is computed:
runtimes fuse bias, activation and shortcut into it, which they do not do for batched matrix products. A free batch
size is the business of :mod:`pose.export.batch_scan`. What is measured, by layer, is in docs/benchmarks/export.md, by
runtime in docs/benchmarks/runtimes.md.
"""

from __future__ import annotations

import copy
from functools import partial

from torch import nn

from pose.models.dynamic.graph_forms import COMPUTED, GraphForms, convolve_any_batch, convolve_one_image
from pose.models.dynamic.per_image_conv import PerImageConv2d

COPIED_PIXELS = 768
"""The pixels from which copying the windows of a kernel up to 3 x 3 costs ONNX Runtime less than K convolutions."""

FORMS = {
    "onnxruntime": GraphForms(depthwise="chain", copied_pixels=COPIED_PIXELS),
    "onnxruntime-here": GraphForms(depthwise="chain", copied_pixels=COPIED_PIXELS),
    "openvino": COMPUTED._replace(linear="convolution", mixing="sum"),
    "onnx-single": COMPUTED,
    "ncnn": COMPUTED,
    "mnn": COMPUTED,
    "litert": GraphForms(pointwise="product", channels_last=True, averages="kept", decomposed="constant"),
    "executorch": GraphForms(
        depthwise="chain", pointwise="product", averages="kept", parts="slices", decomposed="constant"
    ),
    "coreml": GraphForms(computed_bias=False),
    "torch": GraphForms(batch="any"),
}
"""What each runtime is given: by measurement OpenVINO, ncnn, LiteRT, ExecuTorch and MNN (docs/benchmarks/runtimes.md)
and ONNX Runtime (docs/benchmarks/export.md); the others get what every converter takes."""


CONSTANT_PIXELS = 32
"""The pixels up to which products of bytes with all kernels cost LiteRT and ExecuTorch less than mixing them."""

BANKS = {
    "onnxruntime": FORMS["onnxruntime"]._replace(bank="integers"),
    "openvino": FORMS["openvino"]._replace(bank="gathered"),
    "litert": FORMS["litert"]._replace(bank="linear", constant_pixels=CONSTANT_PIXELS),
    "executorch": FORMS["executorch"]._replace(bank="linear", constant_pixels=CONSTANT_PIXELS),
}
"""The same with a bank of bytes, see :mod:`pose.models.dynamic.graph_bytes`; the others have none."""


def in_forms(deployed: nn.Module, forms: GraphForms) -> nn.Module:
    """A copy of a network whose layers are in given forms: they say theirs by ``graph_form``.

    Args:
        deployed: A network deployed with ``fused=False``.
        forms: What to write the layers as.
    """
    network = copy.deepcopy(deployed)
    one = partial(convolve_one_image, forms=forms)
    operation = convolve_any_batch if forms.batch == "any" else one
    for layer in network.modules():
        if isinstance(layer, PerImageConv2d):
            layer.operation = operation
    return _replaced(network, forms)


def one_image(deployed: nn.Module, runtime: str, in_bytes: bool = False) -> nn.Module:
    """:func:`in_forms`, in those of a runtime, one of :data:`FORMS`, or with banks of bytes, of :data:`BANKS`."""
    return in_forms(deployed, (BANKS if in_bytes else FORMS)[runtime])


def _replaced(module: nn.Module, forms: GraphForms) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, forms))
    form = getattr(module, "graph_form", None)
    return module if form is None else form(forms)
