"""ExecuTorch's file: what XNNPACK takes is delegated to it, computed convolutions stay portable."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from pose.errors import require
from pose.export.banks import check_found
from pose.models.dynamic.graph_bytes import quantized_matrices


def write_bank(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` with the matrices that the layers name for it in 8 bits, as of LiteRT; all else is float32.

    Raises:
        ExportError: The exporter has made another matrix of one of them.
    """
    write(round_bank(network, x, path) if quantized_matrices(network) else network, x, path)


def round_bank(network: nn.Module, x: Tensor, path: Path) -> GraphModule:
    """A network's graph with what :func:`write_bank` rounds in 8 bits, a scale for each row; ``path`` is for errors."""
    settings = require("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    quantize = require("torchao.quantization.pt2e.quantize_pt2e", "--bank int8 of executorch")
    graph, linear = torch.export.export(network, (x,)).module(), torch.ops.aten.linear.default
    products = quantized_matrices(network)
    check_found(products, {node.args[1].target for node in graph.graph.nodes if node.target == linear}, path, "torch")
    wanted = {name for product in products for name in product}
    quantizer = settings.XNNPACKQuantizer()
    bytes_by_channel = settings.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    quantizer.set_operator_type(linear, bytes_by_channel)
    quantizer.set_filter_function(lambda node: node.args[1].target in wanted)
    prepared = quantize.prepare_pt2e(graph, quantizer)
    prepared(x)
    return quantize.convert_pt2e(prepared)


def drop_unused(network: GraphModule) -> None:
    """Takes away the constants that a graph does not use, which would be written.

    They are what was float32 of bytes, a bank whose kernels are constants of their own, and factors that are kernels of
    convolutions.
    """
    network.graph.eliminate_dead_code()
    taken = [node for node in network.graph.nodes if node.op == "get_attr"]
    for node in taken:
        if not node.users:
            network.graph.erase_node(node)
    network.recompile()
    used = {node.target for node in taken if node.users}
    for name, _ in [*network.named_parameters(), *network.named_buffers()]:
        if name not in used:
            owner, _, leaf = name.rpartition(".")
            delattr(network.get_submodule(owner), leaf)


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    exir = require("executorch.exir")
    xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    graph = torch.export.export(network, (x,)).module()
    drop_unused(graph)
    program = torch.export.export(graph, (x,))
    lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
