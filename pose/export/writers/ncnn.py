"""ncnn's files, made by its converter pnnx of a traced module."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pose.errors import require
from pose.export.errors import ExportError


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` and its .bin, in float32.

    Raises:
        ExportError: The converter stops, or leaves a layer that ncnn does not have; the message names it.
    """
    converter = require("pnnx").EXEC_PATH
    ncnn = require("ncnn")
    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder, "network.pt")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants it traces, all of which are meant, and of its age
            torch.jit.trace(network, x, check_trace=False).save(str(traced))
        shape = ",".join(map(str, x.shape))
        parts = {"ncnnparam": path, "ncnnbin": path.with_suffix(".bin")}
        options = [f"{name}={value.absolute()}" for name, value in parts.items()]
        done = subprocess.run(
            [converter, str(traced), f"inputshape=[{shape}]f32", "fp16=0", *options],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or not path.is_file():
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise ExportError(f"{path}: pnnx stopped with {done.returncode} ({said})")
    kinds = {line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()[2:] if line.strip()}
    unknown = sorted(kind for kind in kinds if ncnn.layer_to_index(kind) < 0) if hasattr(ncnn, "layer_to_index") else []
    unknown = unknown or sorted(kind for kind in kinds if "." in kind or "::" in kind)
    if unknown:
        raise ExportError(f"{path}: ncnn has no layer for {', '.join(unknown)}; --format onnx or torch may take it")
