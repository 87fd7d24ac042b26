"""Native libraries that a wheel carries, built ahead for kinds of processors, so that nobody waits for a compiler.

``pip wheel .`` makes them where there is a C++ compiler, see ``setup.py``. A library fits the sources that it was made
of, and that of training one version of torch, whose C++ it calls; elsewhere it is passed over and compiled as ever.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pose.errors import PoseError

if TYPE_CHECKING:
    from pose.native.library import Library

FOLDER = Path(__file__).parent / "built"
AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
LEVELS = {
    "amx": (
        "x86-64-v4 -mavx512vnni -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16",
        AVX512 | {"avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"},
    ),
    "avx512_bf16": ("x86-64-v4 -mavx512vnni -mavx512bf16", AVX512 | {"avx512_vnni", "avx512_bf16"}),
    "avx512_vnni": ("x86-64-v4 -mavx512vnni", AVX512 | {"avx512_vnni"}),
    "avx512": ("x86-64-v4", AVX512),
    "avx_vnni": ("x86-64-v3 -mavxvnni", frozenset({"avx_vnni"})),
    "avx2": ("x86-64-v3", frozenset()),
}
"""The compiler's name of each kind of processor, with what is added, and what the last one lacks; the fastest first."""
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
        name: See :meth:`pose.native.library.Library.name`.
        features: The processor's features; by default this one's.
    """
    found = [(level, FOLDER / f"{name}.{level}.so") for level in LEVELS]
    found = [(level, path) for level, path in found if path.is_file()]
    if not found:
        return None
    features = processor_features() if features is None else features
    return next((path for level, path in found if features >= AVX2 | LEVELS[level][1]), None)


def build_all(libraries: Sequence[Library], folder: Path) -> list[Path]:
    """Compiles every library for every level that it gains by, as far as a compiler is there; those that were made.

    What cannot be made is told in one line and left out: whoever installs the wheel compiles it at first use.

    Args:
        libraries: What is compiled.
        folder: Where they go; made if missing.
    """
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for library in libraries:
        name = library.name()
        for level, (march, _) in LEVELS.items():
            if library.torch and (level == "amx" or level.endswith("vnni")):
                continue  # training has no products of bytes, and its tiles are in the library for AVX512-BF16
            path = folder / f"{name}.{level}.so"
            try:
                library.compile(path, march)
            except PoseError as error:
                print(f"no native layers ahead for {level}: {error}", file=sys.stderr)
            else:
                made.append(path)
    return made
