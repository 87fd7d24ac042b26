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
LARGEST, MOST_SUM = 127, 128
"""The largest weight, and what weights that are added up in 16 bits may be together, positive or negative: processors
without instructions for sums of 8-bit products add products of two neighbours so."""
TOLERANCE = 0.05
"""What rounding may change answers by, as a part of their standard deviation."""
MEASURED = 16
"""Images that the change is measured with."""
LONGEST = 65536
"""Values of one output's kernel that 32 bits hold the sum of."""
LEAST_INPUTS = 4
"""Products are of four inputs at a time: with the three of a picture nothing is gained."""
VALUE = 8
"""Multiply-adds of the time that a value of an image in a byte saves, against one in float32."""
MOST_TAPS = 64
"""The taps that a depthwise kernel in 8 bits has at most."""
GROUPS = 2
"""A depthwise kernel's taps are added up in groups, in 16 bits: ``channel_taps.h`` has which."""


def round_program(steps: Sequence[Step], images: NDArray[np.float32], tolerance: float = TOLERANCE) -> list[Step]:
    """The steps in 8 bits, as far as there is such a form: of static and dynamic convolutions.

    What passes between two of them is bytes, too. All other layers stay float32, and so do those whose rounding changes
    the answers most for the time that it saves, until the others change them by little enough.

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
    layers = list(in_order(steps))
    able = [i for i, step in enumerate(layers) if is_roundable(step)]
    gains = {i: _gain(layers[i], shapes[i]) for i in able}
    errors = {}
    for i in tqdm(able, desc="rounding layers", unit="layer", leave=False, disable=None):
        found = Program(_rounded(steps, levels, {i})).run(images[:MEASURED])
        errors[i] = float(np.square(found - answers).mean()) / max(float(answers.var()), 1e-30)
    return _rounded(steps, levels, worth_rounding(errors, gains, tolerance))


def worth_rounding(errors: Mapping[int, float], gains: Mapping[int, float], tolerance: float) -> set[int]:
    """The layers that change answers least for the time that they save, as many as the tolerance holds.

    Args:
        errors: What each layer's rounding alone changes answers by, mean squares as a part of their variance.
        gains: What it saves of the time, in multiply-adds.
        tolerance: See :func:`round_program`: what all changes together may be, as a root.
    """
    kept = sorted(filter(lambda layer: isfinite(errors[layer]), errors), key=lambda layer: errors[layer] / gains[layer])
    while kept and sum(errors[layer] for layer in kept) > tolerance**2:
        kept.pop()
    return set(kept)


def _gain(step: Step, shape: NDArray[np.float64]) -> float:
    """What bytes save of a layer's time, in multiply-adds: of its products, and of the way of its images."""
    rows, columns, inputs, answer_rows, answer_columns, outputs = shape
    pixels, taps = answer_rows * answer_columns, step.numbers[0] * step.numbers[1]
    products = pixels * outputs * taps * (1 if is_depthwise(step) else inputs)
    return float(products + VALUE * (rows * columns * inputs + pixels * outputs))


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
    """Whether there is a form in 8 bits of a layer that takes less time."""
    if not is_convolution(step):
        return False
    height, width, inputs = *step.numbers[:2], step.numbers[8]
    if is_depthwise(step):
        return step.numbers[6:8] == (1, 1) and height * width <= MOST_TAPS
    return inputs >= LEAST_INPUTS and height * width * inputs <= LONGEST


def is_convolution(step: Step) -> bool:
    """Whether a layer is a static or a dynamic convolution."""
    return step.kind in ("static", "dynamic")


def is_depthwise(step: Step) -> bool:
    """Whether a convolution has a kernel of its own for each channel."""
    return bool(step.numbers[10])


def _in_bytes(step: Step, levels: NDArray[np.float32]) -> Step:
    if step.kind == "dynamic":
        constants = [*step.constants, None, None][:9]
        bank, scales = constants[4], constants[7]
        if bank is not None and scales is not None and bank.dtype == np.int8:
            constants[4], constants[7] = bounded_bank(bank, scales, step.numbers[8])
        return replace(step, constants=(*constants, levels))
    weight, bias = step.constants
    assert weight is not None
    height, width, inputs = *step.numbers[:2], step.numbers[8]
    rounded = to_taps(weight, height, width) if is_depthwise(step) else to_blocks(weight, height * width, inputs)
    return replace(step, kind="static_bytes", constants=(*rounded, bias, levels))


def bounded_bank(
    bank: NDArray[np.int8], scales: NDArray[np.float32], inputs: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A bank of bytes (panels, K / 4 x taps x inputs x 16 x 4) whose mixtures are added up in 16 bits, and its scales.

    Of two neighbouring inputs the positive bytes are at most 127 together, and so are the negative ones, in every
    kernel: in a mixture of kernels, rounded to bytes again, they are at most 128. Outputs whose bytes are so stay.
    """
    kernels = bank.reshape(len(bank), -1, inputs, PANEL, 4).astype(np.int32)
    filled = np.pad(kernels, ((0, 0), (0, 0), (0, inputs % 2), (0, 0), (0, 0)))
    filled = filled.reshape(len(bank), -1, 2, PANEL, 4)
    most = np.maximum(np.maximum(filled, 0).sum(2), np.maximum(-filled, 0).sum(2)).max((1, 3))  # (panels, 16)
    factor = np.where(most < MOST_SUM, 1, most / (MOST_SUM - 2)).astype(np.float32)  # both may be rounded up
    whole = np.rint(kernels / factor[:, None, None, :, None]).astype(np.int8)
    return np.ascontiguousarray(whole.reshape(bank.shape)), scales * factor.ravel()


def to_taps(kernels: NDArray[np.float32], height: int, width: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Depthwise kernels (height x width, C) as bytes of the same shape, and what one of a channel is worth.

    The positive bytes of a group of taps are at most 128 together, and so are the negative ones. What rounding leaves
    of a tap is added to the next one: where an image hardly changes, what counts is the taps' sum.
    """
    group = np.arange(height * width) % width // 2 % GROUPS
    worth = np.abs(kernels).max(0) / (LARGEST - 1)
    for own in (kernels[group == one] for one in range(GROUPS)):
        largest = np.maximum(np.maximum(own, 0).sum(0), np.maximum(-own, 0).sum(0))
        worth = np.maximum(worth, largest / (MOST_SUM - len(own)))  # each of them may become one more
    worth = np.where(worth > 0, worth, 1).astype(np.float32)
    whole, left = np.zeros(kernels.shape, np.int8), np.zeros_like(worth)
    for tap, row in enumerate(kernels / worth):
        whole[tap] = np.rint(row + left)
        left += row - whole[tap]
    return whole, worth


def to_blocks(panels: NDArray[np.float32], taps: int, inputs: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Panels (panels, taps x inputs x 16) as bytes (panels, taps x words x 16 x 4), and what one of an output is worth.

    Four neighbouring inputs lie together, those of a tap filled up with zeros. Of the first two and of the last two the
    positive bytes are at most 128 together, and so are the negative ones.
    """
    kernels = panels.reshape(-1, taps, inputs, PANEL)
    filled = np.pad(kernels, ((0, 0), (0, 0), (0, -inputs % 4), (0, 0))).reshape(len(kernels), -1, 2, PANEL)
    pairs = np.maximum(np.maximum(filled, 0).sum(2), np.maximum(-filled, 0).sum(2))  # a single weight, too
    most = pairs.max(1)
    worth = np.where(most > 0, most / (MOST_SUM - 1), 1).astype(np.float32)  # both may be rounded up
    whole = np.rint(filled / worth[:, None, None]).astype(np.int8)
    words = whole.reshape(len(kernels), -1, 4, PANEL).swapaxes(2, 3)
    return np.ascontiguousarray(words.reshape(len(kernels), -1)), worth.ravel()
