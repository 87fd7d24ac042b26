"""Programs in bfloat16: the same layers with kernels and images of bfloat16, whose products are added up in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.native.library import load_inference
from pose.native.program import Step
from pose.native.rounding import PANEL, in_order, is_convolution, is_depthwise

KINDS = ("static_pairs", "dynamic_pairs")


def has_pairs() -> bool:
    """Whether this processor has products of bfloat16: AVX512-BF16, or BFDOT of ARM. Else they gain nothing.

    Raises:
        NativeError: The library cannot be built.
    """
    return bool(load_inference().pose_has_pairs())


def is_in_pairs(steps: Sequence[Step]) -> bool:
    """Whether a layer computes in bfloat16."""
    return any(step.kind in KINDS for step in in_order(steps))


def pair_program(steps: Sequence[Step]) -> list[Step]:
    """The steps in bfloat16, as far as there is such a form: of static and dynamic convolutions that are not depthwise.

    All other layers, and what passes between layers, stay as they are: float32, or 8 bits.

    Args:
        steps: Layers in float32, or some of them in 8 bits; banks may be of any precision.
    """
    return [_in_pairs(step) for step in steps]


def _in_pairs(step: Step) -> Step:
    if step.kind == "begin":
        return replace(step, shortcut=tuple(pair_program(step.shortcut)))
    if not is_convolution(step) or is_depthwise(step) or step.in_bytes:
        return step
    if step.kind == "dynamic":
        return replace(step, kind="dynamic_pairs")
    weight, bias = step.constants
    assert weight is not None
    taps, inputs = step.numbers[0] * step.numbers[1], step.numbers[8]
    return replace(step, kind="static_pairs", constants=(to_pairs(weight, taps, inputs), bias))


def to_pairs(panels: NDArray[np.float32], taps: int, inputs: int) -> NDArray[np.int16]:
    """Panels (panels, taps x inputs x 16) as bfloat16 (panels, taps x words x 16 x 2).

    Two neighbouring inputs lie together, zero beside an odd last one of a tap.
    """
    kernels = panels.reshape(-1, taps, inputs, PANEL)
    filled = np.pad(to_bfloat16(kernels), ((0, 0), (0, 0), (0, inputs % 2), (0, 0)))
    words = filled.reshape(len(kernels), -1, 2, PANEL).swapaxes(2, 3)
    return np.ascontiguousarray(words.reshape(len(kernels), -1))


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """The bits of numbers as bfloat16: the nearest, in the middle the even one; what is not a number stays so."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = np.where(np.isnan(values), bits >> 16 | 0x40, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    return rounded.astype(np.uint16).view(np.int16)
