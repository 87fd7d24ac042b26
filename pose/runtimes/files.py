"""A file of any runtime, opened by the ending of its name."""

from __future__ import annotations

import importlib
from pathlib import Path

from pose.errors import CheckpointError, PoseError
from pose.options import nearest
from pose.runtimes.session import NetworkSession

RUNTIMES = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".param": "ncnn",
    ".tflite": "litert",
    ".pte": "executorch",
    ".mnn": "mnn",
    ".pt2": "torch_program",
    ".native": "native",
}
"""Modules of this room by the ending of the files that they open."""


def is_exported(path: str | Path) -> bool:
    """Whether a file's name ends as that of an exported network."""
    return Path(path).suffix in RUNTIMES


def open_file(path: str | Path, threads: int = 0, device: str = "cpu") -> NetworkSession:
    """An exported pose network, ready to run.

    Args:
        path: A file that ``tools/export.py`` wrote.
        threads: The runtime's threads; 0 leaves it to the runtime.
        device: ``cpu``, or anything else for a GPU where ONNX Runtime has one; the others run on the CPU.

    Raises:
        CheckpointError: The file is missing, broken, or of no runtime that is known here.
        MissingExtra: The runtime is not installed.
    """
    suffix = Path(path).suffix
    if suffix not in RUNTIMES:
        raise CheckpointError(f"{path}: not an exported network, going by {suffix!r}: {nearest(suffix, RUNTIMES)}")
    if not Path(path).exists():  # before a runtime is imported, which can take many seconds
        raise CheckpointError(f"{path}: exported network not found")
    module = importlib.import_module(f"pose.runtimes.{RUNTIMES[suffix]}")
    try:
        return module.open_file(path, threads, device) if suffix == ".onnx" else module.open_file(path, threads)
    except (PoseError, MemoryError):
        raise
    except Exception as error:  # every runtime has exceptions of its own
        raise CheckpointError(f"{path}: cannot be opened ({' '.join(str(error).split())[:200]})") from error
