"""Exported files in each runtime, as modules that ``pose.benchmark`` times side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pose.onnx_format import open_session
from pose.runtimes.openvino import infer_request


class Running(nn.Module):
    """An exported file in a runtime, on the CPU.

    Args:
        run: Crops to the file's first output.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.run = run
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to the first output."""
        return torch.from_numpy(self.run(x.numpy()))


def in_onnxruntime(path: str | Path, threads: int = 1) -> Running:
    """A file in ONNX Runtime.

    Raises:
        CheckpointError: The file is missing or broken.
        OptionError: ONNX Runtime is not installed.
    """
    session = open_session(path, "cpu", threads)
    return Running(lambda x: session.run(None, {"crops": x})[0])


def in_openvino(path: str | Path, threads: int = 1) -> Running:
    """A file in OpenVINO, in float32 as the others: by itself it takes bfloat16 where the processor has it.

    Raises:
        MissingExtra: It is not installed.
    """
    request = infer_request(path, threads)
    return Running(lambda x: request.infer({"crops": x})[0].copy())


OPENERS: dict[str, Callable[..., Running]] = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}
"""Ways to open a file, by the runtime's name."""
