"""Layers in a row as one call of the native library: NumPy arrays in and out."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.native.library import Constant, load_inference

TYPES = {np.dtype(np.float32): 0, np.dtype(np.int16): 1, np.dtype(np.int8): 2}
"""Codes of constants' types, ``Type`` of ``arrays.h``: float32, bfloat16 and bytes."""


@dataclass(frozen=True)
class Step:
    """One layer, or where a block begins or ends.

    Args:
        kind: What ``make.h`` calls it; ``begin`` and ``end`` of a block, whose input is added by its last layer.
        numbers: Geometry and channels, as ``given.h`` reads them.
        constants: Contiguous vectors and matrices, float32, int16 or int8; None where a layer lacks one.
        shortcut: Layers that a block's input passes on its way around the block, where this is its ``begin``.
    """

    kind: str
    numbers: tuple[int, ...] = ()
    constants: tuple[NDArray[Any] | None, ...] = ()
    shortcut: tuple[Step, ...] = ()

    @property
    def in_bytes(self) -> bool:
        """Whether it is a layer that makes bytes of its images: then it has their levels."""
        return self.kind == "static_bytes" or (self.kind == "dynamic" and len(self.constants) == 10)


class Program:
    """Steps that run one after the other.

    Args:
        steps: Their constants are used where they lie.

    Raises:
        NativeError: The library cannot be built.
        RuntimeError: A step is none that the library knows, or does not fit its constants; the message has its number,
            counted from 1, and its kind.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._library = load_inference()
        self._handle = self._library.pose_program()
        weakref.finalize(self, self._library.pose_free, self._handle)
        self._kept: list[Any] = []
        self._in_bytes = any(step.in_bytes for step in in_order(steps))
        for number, step in enumerate(steps, 1):
            name = f"step {number} ({step.kind})"
            try:
                self._add(step, name.encode(errors="replace"))
            except RuntimeError as error:
                raise RuntimeError(f"{name}: {error}") from error

    def _add(self, step: Step, name: bytes) -> None:
        if step.kind == "begin":
            shortcut = Program(step.shortcut) if step.shortcut else None
            self._kept.append(shortcut)
            self._check(self._library.pose_begin_block(self._handle, name, shortcut and shortcut._handle))
        elif step.kind == "end":
            self._check(self._library.pose_end_block(self._handle))
        else:
            self._kept.append(step.constants)
            numbers = (ctypes.c_int64 * len(step.numbers))(*step.numbers)
            constants = (Constant * len(step.constants))(*map(_constant, step.constants))
            kind = step.kind.encode(errors="replace")
            counts = len(step.numbers), len(step.constants)
            self._check(self._library.pose_add(self._handle, name, kind, numbers, counts[0], constants, counts[1]))

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(self._library.pose_error().decode())

    def shape(self, rows: int, columns: int, channels: int) -> tuple[int, int, int]:
        """Rows, columns and channels of the answer to an image of such a shape.

        Raises:
            RuntimeError: No layer takes such an image.
        """
        after = (ctypes.c_int64 * 3)()
        self._check(self._library.pose_shape(self._handle, (ctypes.c_int64 * 3)(rows, columns, channels), after))
        return after[0], after[1], after[2]

    def run(self, images: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """(N, H, W, C) float32 to (N, H', W', C').

        In 8 bits an image that has values which are not finite is answered with NaN: bytes would hide them. What
        becomes too large for its layer's range between layers, even beyond float32's, is cut off to it.

        Args:
            images: Any number of images, also none.
            threads: A batch is shared out among them, a few images' layers are. A forked process whose parent had
                several before has one.

        Raises:
            RuntimeError: The images are not float32 or have another shape than the layers take.
        """
        return self._run(images, threads, None)

    def timed(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The answer to a single image, by one thread, and what each layer took.

        Returns:
            (1, H', W', C'), and (layers, 7) in the order in which they run, those of a shortcut before what is within
            its block: seconds, and rows, columns and channels of the layer's input and of its output.

        Raises:
            RuntimeError: There are several images, or as for :meth:`run`.
        """
        if len(images := image) != 1:
            raise RuntimeError("a single image is timed")
        times = np.zeros((self._library.pose_layers(self._handle), 7))
        return self._run(images, 1, times), times

    def ranges(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """The least and the greatest value that each layer's input has over images: (layers, 2), ordered as above.

        Raises:
            RuntimeError: There are no images, or as for :meth:`run`.
        """
        from tqdm import tqdm  # only who rounds a network needs it

        if not len(images):
            raise RuntimeError("no images to find ranges with")
        found = np.empty((len(images), self._library.pose_layers(self._handle), 2))
        shown = tqdm(images, desc="finding ranges", unit="image", leave=False, disable=None)
        for image, own in zip(shown, found, strict=True):
            self._run(image[None], 1, own, True)
        return np.stack((found[..., 0].min(0), found[..., 1].max(0)), 1)

    def _run(
        self,
        images: NDArray[np.float32],
        threads: int,
        notes: NDArray[np.float64] | None,
        ranges: bool = False,
    ) -> NDArray[np.float32]:
        if images.ndim != 4 or images.dtype != np.float32:
            raise RuntimeError(f"needs float32 images (N, H, W, C), got {images.dtype} {images.shape}")
        images = np.ascontiguousarray(images)
        count, *shape = images.shape
        answers = np.empty((count, *self.shape(*shape)), np.float32)
        sizes = (ctypes.c_int64 * 3)(*shape)
        where = None if notes is None else notes.ctypes.data
        call, threads = self._library.pose_run, _usable(threads)
        arguments = images.ctypes.data, count, sizes, answers.ctypes.data, threads, where, int(ranges)
        self._check(call(self._handle, *arguments))
        if self._in_bytes:
            answers[~np.isfinite(images).all((1, 2, 3))] = np.nan
        return answers


def in_order(steps: Sequence[Step]) -> Iterator[Step]:
    """Layers in the order in which they run, those of a shortcut before what is within its block."""
    for step in steps:
        yield from in_order(step.shortcut)
        if step.kind not in ("begin", "end"):
            yield step


_owner = 0
"""The process that first had several threads; 0 before."""


def _usable(threads: int) -> int:
    """One in a process that was forked off :data:`_owner`: OpenMP would wait for threads that a fork does not copy."""
    global _owner
    if threads > 1:
        _owner = _owner or os.getpid()
    return threads if _owner in (0, os.getpid()) else 1


def _constant(array: NDArray[Any] | None) -> Constant:
    if array is None:
        return Constant(None, 0, 0, 0)
    if array.dtype not in TYPES or not array.flags.c_contiguous or array.ndim not in (1, 2):
        raise RuntimeError(
            f"a layer's constant is float32, int16 or int8 and contiguous, not {array.dtype} {array.shape}"
        )
    rows, columns = array.shape if array.ndim == 2 else (1, len(array))
    return Constant(array.ctypes.data, TYPES[array.dtype], rows, columns)


def peak(seconds: float = 0.2) -> float:
    """Multiply-adds a second of one thread whose sums never leave the registers: float32's most on this processor.

    Raises:
        NativeError: The library cannot be built.
    """
    return load_inference().pose_peak(seconds)
