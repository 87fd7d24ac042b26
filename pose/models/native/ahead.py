"""Native libraries that a wheel carries, built ahead for kinds of processors, so that nobody waits for a compiler.

``pip wheel --no-build-isolation .`` makes them where there are torch and a C++ compiler, see ``setup.py``. A library
fits one version of torch, whose C++ it calls, and the sources that it was made of; elsewhere it is passed over and the
layers are compiled as ever.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "built"
LEVELS = {
    "avx512": ("x86-64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
    "avx2": ("x86-64-v3", frozenset()),
}
"""The compiler's name of each kind of processor and what the next one lacks of it; the fastest comes first."""
AVX2 = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"})


def processor_features() -> frozenset[str]:
    """What this processor can do, in Linux's words; nothing where it does not say so."""
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpuinfo.is_file():
        return frozenset()
    return frozenset(cpuinfo.read_text().partition("\nflags")[2].partition("\n")[0].split())


def find(name: str, features: frozenset[str] | None = None) -> Path | None:
    """The library built ahead that this processor runs fastest; None where there is none for it.

    Args:
        name: The name of sources, flags and torch's version, see :func:`pose.models.native.name_of`.
        features: The processor's features; by default this one's.
    """
    found = [(level, FOLDER / f"{name}.{level}.so") for level in LEVELS]
    found = [(level, path) for level, path in found if path.is_file()]
    if not found:
        return None
    features = processor_features() if features is None else features
    return next((path for level, path in found if features >= AVX2 | LEVELS[level][1]), None)


def compile_library(sources: Sequence[Path], flags: Sequence[str], level: str, to: Path) -> None:
    """Compiles sources for a level of :data:`LEVELS`, without ninja and without a look at this processor.

    Args:
        sources: C++ files.
        flags: The compiler's, as :data:`pose.models.native.FLAGS`; ``-march`` is replaced.
        level: What it is for.
        to: The library; its folder exists.

    Raises:
        OSError: There is no compiler.
        subprocess.CalledProcessError: It failed; what it said is in ``stderr``.
    """
    import torch
    from torch.utils import cpp_extension

    flags = [flag for flag in flags if not flag.startswith("-march")]
    folders = [*cpp_extension.include_paths(), sysconfig.get_path("include"), Path(__file__).parent, sources[0].parent]
    libraries = cpp_extension.library_paths()
    command = [
        *(cpp_extension.get_cxx_compiler(), "-std=c++20", "-shared", "-fPIC", f"-march={LEVELS[level][0]}", *flags),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(f"-I{folder}" for folder in folders),
        *map(str, sources),
        *(f"-L{folder}" for folder in libraries),
        *("-lc10", "-ltorch_cpu", "-ltorch", "-o", str(to)),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)


def build_all(libraries: Mapping[str, tuple[Sequence[Path], Sequence[str]]], folder: Path) -> list[Path]:
    """Compiles every library for every level, as far as a compiler is there; those that were made.

    What cannot be made is told in one line and left out: it is compiled at first use, then.

    Args:
        libraries: Sources and flags by name, see :func:`find`.
        folder: Where they go; made if missing.
    """
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (sources, flags) in libraries.items():
        for level in LEVELS:
            path = folder / f"{name}.{level}.so"
            try:
                compile_library(sources, flags, level, path)
            except (OSError, subprocess.CalledProcessError) as error:
                said = (getattr(error, "stderr", None) or str(error)).strip().partition("\n")[0]
                print(f"no native layers ahead for {level}: {said}", file=sys.stderr)
            else:
                made.append(path)
    return made
