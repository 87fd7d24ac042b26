"""The native headers' arithmetic as functions of arrays, compiled for every kind of processor the compiler knows."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pose.native import ahead, library

ON_X86 = platform.machine() == "x86_64"
MARCHES = {march: ahead.AVX2 | features for march, features in ahead.LEVELS.values()}
RUNNABLE = {"x86-64": frozenset(), **MARCHES}
"""Compilers' names of processors and what they need; the first has none of the instructions."""
PROCESSORS = list(RUNNABLE) if ON_X86 else ["native"]


def compiled(
    march: str,
    to: Path,
    source: str = "native_arithmetic",
    folders: Sequence[Path] = (),
    optimized: bool = True,
) -> Path:
    """The library of a file of data/ for a processor, made once; with less care where it is not to run.

    ``folders`` have headers of its own.
    """
    with FileLock(f"{to}.lock"):  # tests of several processes share it
        if not to.exists():
            _compile(march, to, source, folders, optimized)
    return to


def _compile(march: str, to: Path, source: str, folders: Sequence[Path], optimized: bool) -> None:
    command = [
        library.find_compiler(),
        "-std=c++20",
        *library.INFERENCE.flags,
        *(() if optimized else ("-O1",)),
        "-shared",
        "-fPIC",
        *f"-march={march}".split(),
        *(f"-I{folder}" for folder in (library.FOLDER, *folders)),
        Path(__file__).parent / "data" / f"{source}.cpp",
        "-o",
    ]
    subprocess.run([*map(str, command), str(to)], check=True, capture_output=True, text=True)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, one for all of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def amx_granted() -> bool:
    """Whether this process may use AMX's tile registers: asked of the system as the sources do."""
    arch_prctl, asks, tile_data = 158, 0x1023, 18  # x86-64's number, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    has = {"amx_tile", "amx_int8", "amx_bf16"} <= ahead.processor_features()
    return has and ON_X86 and ctypes.CDLL(None).syscall(arch_prctl, asks, tile_data) == 0


@pytest.fixture(scope="session", params=PROCESSORS)
def arithmetic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions of data/native_arithmetic.cpp, for one kind of processor."""
    return loaded(request.param, shared_folder(tmp_path_factory))


def loaded(march: str, folder: Path, source: str = "native_arithmetic", folders: Sequence[Path] = ()) -> ctypes.CDLL:
    """The same, loaded; skips where it is compiled for a processor of more features than this one's."""
    runs = ahead.processor_features() >= RUNNABLE.get(march, frozenset())
    path = folder / f"{source}_{march.replace(' ', '_')}.so"
    path = compiled(march, path, source, folders, runs and march in MARCHES)
    if not runs:
        pytest.skip("compiled, but this processor cannot run it")
    return ctypes.CDLL(str(path))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Where an array lies."""
    return ctypes.c_void_p(array.ctypes.data)
