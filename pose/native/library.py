"""C++ libraries of this project: brought by a wheel, or compiled by the compiler at hand on first use and kept."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pose.errors import PoseError
from pose.files import make_folder
from pose.native import ahead

FOLDER = Path(__file__).parent
COMMON_FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
"""The compiler's flags for inference and training."""


class NativeError(PoseError, RuntimeError):
    """The native layers cannot be built."""


@dataclass(frozen=True)
class Library:
    """What is compiled to one shared library.

    Args:
        sources: C++ files; what else of C++ is beside them, and the headers of this folder, belong to them.
        flags: The compiler's, but for the processor that it is made for.
        torch: Whether it calls torch's C++: then it fits one version of torch alone.
    """

    sources: tuple[Path, ...]
    flags: tuple[str, ...] = (*COMMON_FLAGS, "-mtune=generic")
    torch: bool = False

    def name(self, processor: str = "") -> str:
        """Other sources, flags, or another torch need another library; all copies of the project share one.

        Args:
            processor: What it is compiled for; none for a library that is built ahead.
        """
        folder = self.sources[0].parent
        beside = sorted({*FOLDER.glob("*.h"), *folder.glob("*.h"), *folder.glob("*.cpp")} - {*self.sources})
        contents = (f"{file.name}\0{file.read_text(encoding='utf-8')}" for file in (*self.sources, *beside))
        version = _torch_version() if self.torch else ""
        parts = (*contents, *self.flags, version, processor)
        return f"pose_native_{self.sources[0].stem}_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def at_hand(self) -> bool:
        """Whether it is there already, so that nothing has to be compiled first."""
        return ahead.find(self.name()) is not None or self._kept().is_file()

    def built(self) -> Path:
        """The library's file: of a wheel if it brought one for this kind of processor, else compiled here if need be.

        Raises:
            NativeError: There is none, and no compiler, or it failed.
        """
        if (found := ahead.find(self.name())) is not None:
            return found
        library = self._kept()
        try:
            if not library.is_file():
                self._make(library)
        except (OSError, PoseError) as error:
            raise NativeError(f"native layers cannot be built ({error}); a C++ compiler is needed") from error
        return library

    def _kept(self) -> Path:
        """Where the one compiled here is kept."""
        return _folder() / f"{self.name(_processor())}.so"

    def _make(self, library: Path) -> None:
        """Compiles it, unless another process does so meanwhile.

        It is compiled in a folder of its own and gets its name when it is whole: a build that is killed leaves neither
        half a library nor a lock that the next one would wait for, and the next one removes what it left.
        """
        from pose.locks import lock_file  # only who compiles needs it

        make_folder(library.parent)
        with lock_file(library.with_suffix(".lock"), wait=True):
            if library.is_file():
                return
            for left in library.parent.glob(f"{library.stem}.*/"):
                shutil.rmtree(left, ignore_errors=True)  # by a build that was killed: whoever holds the lock is alone
            print("compiling native layers, once ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix=f"{library.stem}.", dir=library.parent) as folder:
                built = Path(folder, library.name)
                self.compile(built)
                os.replace(built, library)

    def compile(self, to: Path, march: str = "native") -> None:
        """Compiles it, every source by a process of its own.

        Args:
            to: The library; its folder exists, and takes what is made on the way.
            march: The compiler's name of the processor, and options that add to it.

        Raises:
            NativeError: There is no compiler, or it failed: with the first line that it said.
        """
        if (compiler := find_compiler()) is None:
            raise NativeError("no C++ compiler is found")
        include, link = self._of_torch() if self.torch else ([], [])
        folders = [f"-I{folder}" for folder in (FOLDER, self.sources[0].parent)]
        command = [compiler, "-std=c++20", "-fPIC", *f"-march={march}".split(), *self.flags, *include, *folders]
        objects = [to.with_suffix(f".{source.stem}.o") for source in self.sources]
        _run([[*command, "-c", str(file), "-o", str(o)] for file, o in zip(self.sources, objects, strict=True)])
        _run([[compiler, "-shared", "-fopenmp", *map(str, objects), *link, "-o", str(to)]])
        for made in objects:
            made.unlink()

    @staticmethod
    def _of_torch() -> tuple[list[str], list[str]]:
        """What the compiler and the linker are told of torch."""
        import torch

        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it tells of CUDA, which is not wanted
        from torch.utils import cpp_extension

        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
        folders = [*cpp_extension.include_paths(), sysconfig.get_path("include")]
        libraries = [f"-L{folder}" for folder in cpp_extension.library_paths()]
        return [abi, *(f"-I{folder}" for folder in folders)], [*libraries, "-lc10", "-ltorch_cpu", "-ltorch"]


def find_compiler() -> str | None:
    """The C++ compiler at hand: ``CXX``, else the system's own, GCC or Clang."""
    return shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++") or shutil.which("clang++")


def _run(commands: Sequence[Sequence[str]]) -> None:
    """Runs commands side by side.

    Raises:
        NativeError: One fails; the others are ended.
    """
    running: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        for process in running:
            said = process.communicate()[1]
            if process.returncode:
                lines = [line for line in said.splitlines() if "error" in line] or said.splitlines() or ["no message"]
                raise NativeError(lines[0].strip())
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _torch_version() -> str:
    import torch

    return torch.__version__


def _folder() -> Path:
    """Where libraries are kept: ``TORCH_EXTENSIONS_DIR``, else the person's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cache, "pose_native")


def _processor() -> str:
    """What this processor can do: home folders are shared, and another processor needs another library."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    told = {line.partition(":")[0].strip(): line for line in reversed(lines)}  # of the first processor
    return "".join(told[name] for name in TOLD if name in told) or platform.machine()


TOLD = "flags", "Features", "CPU implementer", "CPU part"
"""What Linux calls the features of processors, of x86's and of ARM's."""

INFERENCE = Library((FOLDER / "layers.cpp",))
"""The layers of a deployed network. GCC tunes for AMD's processors by tearing multiply-adds apart: hence the tuning."""


class Constant(ctypes.Structure):
    """A vector or matrix as ``arrays.h`` has it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
    )


@functools.cache
def load_inference() -> ctypes.CDLL:
    """The library of :data:`INFERENCE`; compiled in some seconds the first time where a wheel did not bring it.

    Raises:
        NativeError: It cannot be built or loaded.
    """
    path = INFERENCE.built()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        wanted = "install the system's libgomp1" if "libgomp" in str(error) else "delete it and try again"
        raise NativeError(f"{path}: cannot be loaded ({error}); {wanted}") from error
    number, numbers = ctypes.c_int64, ctypes.POINTER(ctypes.c_int64)
    handle, floats, text = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p
    signatures = {
        "pose_error": (text, ()),
        "pose_peak": (ctypes.c_double, (ctypes.c_double,)),
        "pose_has_pairs": (ctypes.c_int, ()),
        "pose_program": (handle, ()),
        "pose_free": (None, (handle,)),
        "pose_layers": (number, (handle,)),
        "pose_add": (ctypes.c_int, (handle, text, text, numbers, number, ctypes.POINTER(Constant), number)),
        "pose_begin_block": (ctypes.c_int, (handle, text, handle)),
        "pose_end_block": (ctypes.c_int, (handle,)),
        "pose_shape": (ctypes.c_int, (handle, numbers, numbers)),
        "pose_run": (ctypes.c_int, (handle, floats, number, numbers, floats, number, floats, number)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
