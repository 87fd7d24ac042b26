"""This project's native layers: ``NAME.native``; neither torch nor another runtime is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose.errors import CheckpointError
from pose.native.library import NativeError
from pose.native.pairs import has_pairs, is_in_pairs
from pose.native.program import Program, Step
from pose.native.program_file import load_program
from pose.onnx_format import METADATA_KEY, NetworkMetadata
from pose.runtimes.session import NetworkSession


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """Any batch size; 0 threads are as many as the processor's cores."""
    steps, details = load_program(path)
    try:
        metadata = NetworkMetadata.from_json(details[METADATA_KEY])
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a pose network ({error!r}); export it again") from error
    program, count = open_program(path, steps), threads or cores()

    def run(images: np.ndarray) -> list[np.ndarray]:
        return [run_images(program, images, count)]

    return NetworkSession(run, metadata, one_image=False)


def open_program(path: str | Path, steps: Sequence[Step]) -> Program:
    """A file's program.

    Raises:
        CheckpointError: Its steps are none, or are for images of other than three channels, or compute in bfloat16,
            which this processor has no instructions for.
        NativeError: There is no library and none can be compiled.
    """
    if is_in_pairs(steps) and not has_pairs():
        told = "this processor has no instructions for it (AVX512-BF16)"
        raise CheckpointError(f"{path}: computes in bfloat16, and {told}; export the network in float32 or 8 bits")
    try:
        program = Program(steps)
        program.shape(64, 64, 3)
    except NativeError:
        raise
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {error}; export the network again") from error
    return program


def run_images(program: Program, images: np.ndarray, threads: int) -> np.ndarray:
    """(N, C, H, W) float32 to (N, C', H', W')."""
    return program.run(images.transpose(0, 2, 3, 1), threads).transpose(0, 3, 1, 2)


def cores() -> int:
    """How many this process may use; ``OMP_NUM_THREADS`` may say fewer."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
