"""ExecuTorch's file: what XNNPACK takes is delegated to it, computed convolutions stay portable."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pose.errors import require


def write_bank(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` with the weights of fully connected layers, which banks are, in 8 bits; all else is float32."""
    settings = require("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    quantize = require("torchao.quantization.pt2e.quantize_pt2e", "--bank int8 of executorch", extra="executorch")
    quantizer = settings.XNNPACKQuantizer()
    bytes_by_channel = settings.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    quantizer.set_operator_type(torch.ops.aten.linear.default, bytes_by_channel)
    prepared = quantize.prepare_pt2e(torch.export.export(network, (x,)).module(), quantizer)
    prepared(x)
    write(quantize.convert_pt2e(prepared), x, path)


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    exir = require("executorch.exir")
    xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    program = torch.export.export(network, (x,))
    lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
