"""Programs in 8 bits: the same layers with kernels and images of bytes, by the ranges that images have between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.native.program import Program, Step

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
        RuntimeError: The images do not fit the first layer.
    """
    program = Program(steps)
    levels = [levels_of(*each) for each in program.ranges(images)]
    shapes = program.timed(images[:1])[1][:, 1:]
    answers = program.run(images[:MEASURED])
    able = [i for i, step in enumerate(in_order(steps)) if is_roundable(step)]
    costs = {i: float(shapes[i, 3] * shapes[i, 4] * shapes[i, 2] * shapes[i, 5]) for i in able}
    errors = {}
    for i in able:
        found = Program(_rounded(steps, levels, {i})).run(images[:MEASURED])
        errors[i] = float(np.square(found - answers).mean()) / max(float(answers.var()), 1e-30)
    kept = sorted(able, key=lambda i: errors[i] / costs[i])
    while kept and sum(errors[i] for i in kept) > tolerance**2:
        kept.pop()
    return _rounded(steps, levels, set(kept))


def in_order(steps: Sequence[Step]) -> Iterator[Step]:
    """Layers in the order in which they run, those of a shortcut before what is within its block."""
    for step in steps:
        yield from in_order(step.shortcut)
        if step.kind not in ("begin", "end"):
            yield step


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
    if step.kind not in ("static", "dynamic"):
        return False
    height, width, inputs, depthwise = *step.numbers[:2], step.numbers[8], step.numbers[10]
    return not depthwise and height * width * inputs <= LONGEST


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
