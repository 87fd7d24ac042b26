"""A free batch size for a graph of one image: ONNX's ``Scan`` runs it for every image of the batch.

Little is lost by that on a CPU, where a batch of eight persons takes about eight times as long as one.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

OPSET = 17
DOMAIN = "pose"


class PerImage(nn.Module):
    """Stands for a network in a graph, as one operation that :func:`expand` gives its meaning.

    Args:
        shape: (C', H', W') of an image's output.
    """

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        return _Each.apply(x, self.shape)


class _Each(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: torch.Size) -> Tensor:
        return x.new_zeros(len(x), *shape)

    @staticmethod
    def symbolic(g: Any, x: Any, shape: torch.Size) -> Any:
        output = g.op(f"{DOMAIN}::{PerImage.__name__}", x)
        return output.setType(x.type().with_sizes([None, *shape]))


def trace(
    network: nn.Module,
    x: Tensor,
    inputs: list[str],
    outputs: list[str],
    free: bool,
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> onnx.ModelProto:
    """A network as a graph.

    Args:
        network: The network, in evaluation mode.
        x: An input to trace it with.
        inputs, outputs: The names of its inputs and outputs.
        free: Whether the first dimension of all of them is free.
        axes: Other dimensions that are free, with their names, by input or output.
    """
    buffer = io.BytesIO()
    # it prints the whole graph before an error
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of constants it traces, all of which are meant, and of its age
        torch.onnx.export(
            network,
            (x,),
            buffer,  # type: ignore[arg-type]  # written to by this exporter, which is not said of the newer one
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)} if free else axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def expand(file: onnx.ModelProto, body: onnx.ModelProto) -> None:
    """Puts a ``Scan`` over the batch in place of a file's :class:`PerImage`.

    Args:
        file: The traced network.
        body: The graph of one image: one input (1, C, H, W) and one output (1, C', H', W').
    """
    graph = onnx.compose.add_prefix_graph(body.graph, f"{DOMAIN}/")  # whatever the file calls its own
    names = {}
    for values, op, place in ((graph.input, "Unsqueeze", 0), (graph.output, "Squeeze", len(graph.node) + 1)):
        (value,) = values
        names[op], value.name = value.name, f"{value.name}/one"
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        ends = [value.name, names[op]] if op == "Unsqueeze" else [names[op], value.name]
        graph.node.insert(place, onnx.helper.make_node(op, [ends[0], f"{DOMAIN}/axis"], [ends[1]]))
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape[1:]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), f"{DOMAIN}/axis"))
    for index, node in enumerate(file.graph.node):
        if node.domain == DOMAIN:
            scan = onnx.helper.make_node("Scan", node.input, node.output, body=graph, num_scan_inputs=1)
            file.graph.node.remove(node)
            file.graph.node.insert(index, scan)
            break
    versions = {entry.domain: entry.version for entry in (*file.opset_import, *body.opset_import)}
    versions.pop(DOMAIN, None)
    del file.opset_import[:]
    file.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in versions.items())
