"""Native layers for CPUs: built by the C++ compiler at hand on first use, kept for later ones."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from pose.errors import PoseError
from pose.files import make_folder

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "inference" / "layers.cpp"
_FLAGS = (
    *("-O3", "-march=native", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
)
FLAGS = (*_FLAGS, "-mtune=generic")
"""The compiler's flags for inference; GCC tunes for AMD's processors by tearing multiply-adds apart."""
TRAINING_FLAGS = (*_FLAGS, "-fassociative-math")
"""The compiler's flags for training, whose sums over images may be taken in any order."""
ACTIVATIONS = {nn.Identity: 0, nn.ReLU: 1, nn.ReLU6: 2, nn.Hardswish: 3}
"""Codes of the activations that are fused into a native layer, as in the sources."""


class NativeError(PoseError, RuntimeError):
    """The native layers cannot be built."""


@functools.cache
def build() -> None:
    """Compiles and loads the layers; about half a minute the first time, nothing later or where a wheel brought them.

    Raises:
        NativeError: There is no compiler, or it failed.
    """
    load(SOURCE, flags=FLAGS)


def load(*sources: Path, flags: Sequence[str] = FLAGS) -> None:
    """Loads sources below this folder as one library, named after the first; compiles it where there is none yet.

    One that a wheel brought for this kind of processor is taken before one that is compiled here.

    Args:
        sources: C++ files.
        flags: The compiler's.

    Raises:
        NativeError: As for :func:`build`.
    """
    from pose.models.native import ahead  # only who runs native layers needs it

    if (built := ahead.find(name_of(sources, flags))) is not None:
        torch.ops.load_library(str(built))
        return
    library = _folder() / f"{_name(sources, flags)}.so"
    try:
        if library.is_file() or not _compile(sources, flags, library):
            torch.ops.load_library(str(library))
    except Exception as error:  # whatever a compiler, ninja or the linker can say
        reason = str(error).strip().partition("\n")[0].partition(": [")[0]  # not the whole command that failed
        raise NativeError(f"native layers cannot be built ({reason}); a C++ compiler and ninja are needed") from error


def _compile(sources: Sequence[Path], flags: Sequence[str], library: Path) -> bool:
    """Makes a library and loads it; False where another process made it meanwhile.

    It is compiled in a folder of its own and gets its name when it is whole: a build that is killed leaves neither half
    a library nor a lock that the next one would wait for.
    """
    from pose.locks import lock_file  # only who compiles needs it

    make_folder(library.parent)
    with lock_file(library.with_suffix(".lock"), wait=True):
        if library.is_file():
            return False
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it tells of CUDA, which is not wanted
        from torch.utils import cpp_extension  # looks for compilers and CUDA when imported

        print("compiling native layers, once: about half a minute ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f"{library.stem}.", dir=library.parent) as folder:
            cpp_extension.load(
                library.stem,
                [str(source) for source in sources],
                extra_cflags=list(flags),
                extra_include_paths=[str(FOLDER), str(sources[0].parent)],
                build_directory=folder,
                is_python_module=False,
            )
            (built,) = Path(folder).glob("*.so")  # torch may have added a number to its name
            os.replace(built, library)
    return True


def _folder() -> Path:
    """Where libraries are kept: ``TORCH_EXTENSIONS_DIR``, else the person's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cache, "pose_native")


def _name(sources: Sequence[Path], flags: Sequence[str]) -> str:
    """The name of the library that is compiled here: home folders are shared, and another processor needs another."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else platform.machine()
    return name_of(sources, flags, text.partition("flags")[2].partition("\n")[0] or platform.machine())


def name_of(sources: Sequence[Path], flags: Sequence[str], processor: str = "") -> str:
    """A library's name: other sources, flags or another torch need another.

    Where the sources lie is no part of it: all copies of the project with the same sources share one library.

    Args:
        sources: Below :data:`FOLDER`; all headers count that they may include.
        flags: The compiler's.
        processor: What it is compiled for; none for a library that is built ahead.
    """
    headers = sorted([*FOLDER.glob("*.h"), *sources[0].parent.glob("*.h")])
    contents = (f"{file.relative_to(FOLDER)}\0{file.read_text()}" for file in (*sources, *headers))
    parts = (*contents, *flags, torch.__version__, processor)
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
