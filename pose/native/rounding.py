"""Programs in 8 bits: the same layers with kernels and images of bytes, by the ranges that images have between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pose.native.program import Program, Step, in_order

PANEL = 16
LARGEST = 64
"""The largest weight: processors without instructions for sums of 8-bit products add two of them in 16 bits."""
TOLERANCE = 0.05
"""What rounding may change answers by, as a part of their standard deviation."""
MEASURED = 16
"""Images that the change is measured with."""
LONGEST = 65536
"""Values of one output's kernel that 32 bits hold the sum of."""


def round_program(steps: Sequence[Step], images: NDArray[np.float32], tolerance: float = TOLERANCE) -> list[Step]:
    """The steps in 8 bits, as far as there is such a form: of static and dynamic convolutions that are not depthwise.

    All other layers, and what passes between layers, stay float32. So do those whose rounding changes the answers most
    for the multiply-adds that it speeds up, until the others change them by little enough.

    Args:
        steps: Layers in float32; banks may be of any precision.
        images: (N, H, W, C), what its images are like: each layer's input has a unit and a zero by its least and its
            greatest value.
        tolerance: What all layers' rounding may change answers by, root mean squares of what each one's does alone, as
            a part of the answers' standard deviation.

    Raises:
        NativeError: The library cannot be built.
        RuntimeError: The images do not fit the first layer; or weights, images or what layers make of them are not all
            finite numbers, which bytes would hide.
    """
    _check_weights(steps)
    if not np.isfinite(images).all():
        raise RuntimeError("the images to round layers with are not all finite numbers")
    program = Program(steps)
    ranges, answers = program.ranges(images), program.run(images[:MEASURED])
    if not (np.isfinite(ranges).all() and np.isfinite(answers).all()):
        raise RuntimeError("what the layers make of the images to round them with are not all finite numbers")
    levels = [levels_of(*each) for each in ranges]
    shapes = program.timed(images[:1])[1][:, 1:]
    able = [i for i, step in enumerate(in_order(steps)) if is_roundable(step)]
    costs = {i: float(shapes[i, 3] * shapes[i, 4] * shapes[i, 2] * shapes[i, 5]) for i in able}
    errors = {}
    for i in tqdm(able, desc="rounding layers", unit="layer", leave=False, disable=None):
        found = Program(_rounded(steps, levels, {i})).run(images[:MEASURED])
        errors[i] = float(np.square(found - answers).mean()) / max(float(answers.var()), 1e-30)
    return _rounded(steps, levels, worth_rounding(errors, costs, tolerance))


def worth_rounding(errors: Mapping[int, float], costs: Mapping[int, float], tolerance: float) -> set[int]:
    """The layers that change answers least for what they cost, as many as the tolerance holds.

    Args:
        errors: What each layer's rounding alone changes answers by, mean squares as a part of their variance.
        costs: Its multiply-adds.
        tolerance: See :func:`round_program`: what all changes together may be, as a root.
    """
    kept = sorted(filter(lambda layer: isfinite(errors[layer]), errors), key=lambda layer: errors[layer] / costs[layer])
    while kept and sum(errors[layer] for layer in kept) > tolerance**2:
        kept.pop()
    return set(kept)


def _check_weights(steps: Sequence[Step], before: str = "") -> None:
    """Raises a RuntimeError that names the first layer whose weights are not all finite."""
    for number, step in enumerate(steps, 1):
        name = f"{before}step {number} ({step.kind}): "
        _check_weights(step.shortcut, name)
        for constant in step.constants:
            if constant is None or constant.dtype == np.int8:
                continue
            exponents = constant & 0x7F80 if constant.dtype == np.int16 else None  # bfloat16's
            if not np.isfinite(constant).all() if exponents is None else (exponents == 0x7F80).any():
                raise RuntimeError(f"{name}a layer's weights are not all finite numbers")


def _rounded(steps: Sequence[Step], levels: Sequence[NDArray[np.float32]], chosen: set[int]) -> list[Step]:
    """The steps with the chosen ones in 8 bits, counted in the order in which they run."""
    numbers = iter(range(len(levels)))

    def all_of(steps: Sequence[Step]) -> list[Step]:
        return [one_of(step) for step in steps]

    def one_of(step: Step) -> Step:
        if step.kind in ("begin", "end"):
            return replace(step, shortcut=tuple(all_of(step.shortcut)))
        number = next(numbers)
        return _in_bytes(step, levels[number]) if number in chosen else step

    return all_of(steps)


def levels_of(least: float, greatest: float) -> NDArray[np.float32]:
    """What a byte of values in a range is worth, and which byte is zero; a range without zero is widened to it."""
    least, greatest = min(float(least), 0.0), max(float(greatest), 0.0)
    unit = max((greatest - least) / 255, 1e-30)
    return np.array([unit, np.rint(-least / unit)], np.float32)


def is_roundable(step: Step) -> bool:
    """Whether there is a form in 8 bits of a layer."""
    if not is_convolution(step) or is_depthwise(step):
        return False
    height, width, inputs = *step.numbers[:2], step.numbers[8]
    return height * width * inputs <= LONGEST


def is_convolution(step: Step) -> bool:
    """Whether a layer is a static or a dynamic convolution."""
    return step.kind in ("static", "dynamic")


def is_depthwise(step: Step) -> bool:
    """Whether a convolution has a kernel of its own for each channel."""
    return bool(step.numbers[10])


def _in_bytes(step: Step, levels: NDArray[np.float32]) -> Step:
    if step.kind == "dynamic":
        constants = (*step.constants, None, None)[:9]
        return replace(step, constants=(*constants, levels))
    weight, bias = step.constants
    assert weight is not None
    taps, inputs = step.numbers[0] * step.numbers[1], step.numbers[8]
    return replace(step, kind="static_bytes", constants=(*to_blocks(weight, taps, inputs), bias, levels))


def to_blocks(panels: NDArray[np.float32], taps: int, inputs: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Panels (panels, taps x inputs x 16) as bytes (panels, taps x words x 16 x 4), and what one of an output is worth.

    Four neighbouring inputs lie together, those of a tap filled up with zeros.
    """
    kernels = panels.reshape(-1, taps, inputs, PANEL)
    most = np.abs(kernels).max((1, 2))
    worth = np.where(most > 0, most / LARGEST, 1).astype(np.float32)
    whole = np.rint(kernels / worth[:, None, None]).astype(np.int8)
    filled = np.pad(whole, ((0, 0), (0, 0), (0, -inputs % 4), (0, 0)))
    words = filled.reshape(len(kernels), -1, 4, PANEL).swapaxes(2, 3)
    return np.ascontiguousarray(words.reshape(len(kernels), -1)), worth.ravel()
