"""OpenVINO's files, made of an ONNX graph of one image; in 8 bits by NNCF."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from torch import Tensor, nn

from pose.errors import require
from pose.export.writers import onnx_single
from pose.runtimes.openvino import library


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` and its .bin, in float32."""
    openvino = library()
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "network.onnx")
        onnx_single.write(network, x, graph)
        model = openvino.Core().read_model(graph)
        openvino.save_model(model, str(path), compress_to_fp16=False)


def write_int8(network: nn.Module, x: Tensor, crops: Tensor, path: Path) -> None:
    """Writes ``path`` and its .bin in 8 bits, its weights of 7.

    Seven, since processors without an instruction for sums of 8-bit products add two of them in 16 bits, which
    overflow, and a file must answer alike everywhere.

    Args:
        network: The network.
        x: An input.
        crops: (N, 3, H, W) to find the activations' ranges with.
        path: The file.
    """
    openvino, nncf = library(), require("nncf", "--int8 of openvino")
    write(network, x, path)
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # the file that is read is replaced
    sevens = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    images = [crop.numpy() for crop in crops.split(1)]
    nncf.set_log_level(logging.ERROR)
    model = nncf.quantize(
        core.read_model(path), nncf.Dataset(images), subset_size=len(images), advanced_parameters=sevens
    )
    openvino.save_model(model, str(path), compress_to_fp16=False)
