"""Native layers for CPUs: built by the C++ compiler at hand on first use, kept for later ones."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from pose.errors import PoseError

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "inference" / "layers.cpp"
FLAGS = (
    *("-O3", "-march=native", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
ACTIVATIONS = {nn.Identity: 0, nn.ReLU: 1, nn.ReLU6: 2, nn.Hardswish: 3}
"""Codes of the activations that are fused into a native layer, as in the sources."""


class NativeError(PoseError, RuntimeError):
    """The native layers cannot be built."""


@functools.cache
def build() -> None:
    """Compiles and loads the layers; about half a minute the first time, nothing later.

    Raises:
        NativeError: There is no compiler, or it failed.
    """
    load(SOURCE)


def load(*sources: Path) -> None:
    """Compiles and loads sources below this folder as one library, named after the first.

    Raises:
        NativeError: As for :func:`build`.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it tells of CUDA, which is not wanted
    from torch.utils import cpp_extension  # looks for compilers and CUDA when imported

    try:
        files, name = [str(source) for source in sources], _name(sources)
        root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
        if not any(root.rglob(f"{name}.so")):
            print("compiling native layers, once: about half a minute ...", file=sys.stderr, flush=True)
        includes = [str(FOLDER), str(sources[0].parent)]
        cpp_extension.load(name, files, extra_cflags=list(FLAGS), extra_include_paths=includes, is_python_module=False)
    except Exception as error:  # whatever a compiler, ninja or the linker can say
        reason = str(error).strip().partition("\n")[0].partition(": [")[0]  # not the whole command that failed
        raise NativeError(f"native layers cannot be built ({reason}); a C++ compiler and ninja are needed") from error


def _name(sources: Sequence[Path]) -> str:
    """The library's name: another source, torch or processor needs another build, and home folders are shared.

    So does another copy of the project: one build folder for two would be built anew for each in turn.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else platform.machine()
    processor = text.partition("flags")[2].partition("\n")[0] or platform.machine()
    headers = sorted([*FOLDER.glob("*.h"), *sources[0].parent.glob("*.h")])
    parts = (*(f"{file.resolve()}\0{file.read_text()}" for file in (*sources, *headers)), torch.__version__, processor)
    return f"pose_native_{sources[0].stem}_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def available() -> bool:
    """Whether the layers are built or can be; warns once where not."""
    try:
        build()
    except NativeError as error:
        warnings.warn(f"{error}; layers run as torch operations, more slowly", stacklevel=3)
        return False
    return True
