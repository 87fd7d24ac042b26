"""Times deployed networks side by side: like with like, in turns, in one process."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pose.errors import PoseError
from pose.tables import table_lines


class BenchmarkError(PoseError, ValueError):
    """The networks of a comparison are too unlike for its ratios to mean anything."""


@dataclass(frozen=True)
class Entry:
    """One network of a comparison.

    Args:
        network: The deployed network: in evaluation mode, without batch normalization.
        architecture: A name that has to be the same in all entries of a case.
        memory_format: The memory format of the network's inputs.
        target: The greatest ratio that is wanted; None sets no target.
        published: The ratio that the paper prints; None where it prints none.
        base: The entry that the ratio is taken to, the static network of the same form; None takes the first entry.
        shape: The shape of its own inputs, (N, 3, H, W); None takes the case's.
    """

    network: nn.Module
    architecture: str
    memory_format: torch.memory_format = torch.channels_last
    target: float | None = None
    published: float | None = None
    base: str | None = None
    shape: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Case:
    """Networks to compare, each with its base and all with the first.

    Args:
        title: The heading of the table.
        shape: The input's shape, (N, 3, H, W).
        entries: The networks by name; the first is a static network.

    Raises:
        BenchmarkError: Architectures or memory formats differ, a normalization is not folded, or a base is missing.
    """

    title: str
    shape: tuple[int, int, int, int]
    entries: Mapping[str, Entry]

    def __post_init__(self) -> None:
        for what in ("architecture", "memory_format"):
            found = {str(getattr(entry, what)) for entry in self.entries.values()}
            if len(found) > 1:
                raise BenchmarkError(f"{self.title}: {what} differs ({', '.join(sorted(found))}): not comparable")
        for name, entry in self.entries.items():
            if entry.base is not None and entry.base not in self.entries:
                raise BenchmarkError(f"{self.title}: there is no {entry.base} for {name} to be compared with")
            trains = getattr(entry.network, "training", False)
            if trains or any(isinstance(part, nn.BatchNorm2d) for part in entry.network.modules()):
                raise BenchmarkError(f"{self.title}: {name} is not deployed: not comparable")


@dataclass(frozen=True)
class Timing:
    """The measured times of one entry.

    Args:
        seconds: The median time of a forward pass.
        ratio: The median over rounds of this entry's time divided by its base's time in the same round.
        spread: The lower and the upper quartile of those ratios.
        first: The median over rounds of this entry's time divided by the first entry's.
    """

    seconds: float
    ratio: float
    spread: tuple[float, float]
    first: float


@torch.inference_mode()
def compare(case: Case, rounds: int = 20, runs: int = 5) -> dict[str, Timing]:
    """Times a case's networks in turns, in their order in even rounds and backwards in odd ones.

    Args:
        case: The networks to time.
        rounds: The number of rounds, at least 2.
        runs: The number of passes of each network in a round, after one that is not counted; the time of a round is
            their median.

    Returns:
        The timings by name. With one thread they are processor time, which other programs do not add to; with more
        they are wall time.
    """
    inputs = {}
    for name, entry in case.entries.items():
        x = torch.randn(entry.shape or case.shape, generator=torch.Generator().manual_seed(0))
        inputs[name] = x.contiguous(memory_format=entry.memory_format)
    times: dict[str, list[float]] = {name: [] for name in case.entries}
    for turn in range(rounds):
        names = list(case.entries)
        for name in names if turn % 2 == 0 else reversed(names):
            network = case.entries[name].network
            network(inputs[name])
            times[name].append(statistics.median(_time(network, inputs[name]) for _ in range(runs)))
    first = next(iter(times))
    timings = {}
    for name, own in times.items():
        to_base = _ratios(own, times[case.entries[name].base or first])
        lower, middle, upper = statistics.quantiles(to_base, n=4)
        to_first = statistics.median(_ratios(own, times[first]))
        timings[name] = Timing(statistics.median(own), middle, (lower, upper), to_first)
    return timings


def _ratios(own: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(own, others, strict=True)]


def _time(network: nn.Module, x: torch.Tensor) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    network(x)
    return clock() - start


def table(case: Case, timings: Mapping[str, Timing]) -> list[str]:
    """A Markdown table of a case, line by line, with its title before and an empty line behind."""
    based = any(entry.base for entry in case.entries.values())
    columns = ["network", "ms", "ratio", "quartiles", "target", "paper"]
    if based:
        columns.insert(2, f"to {next(iter(case.entries))}")
    rows = []
    for name, timing in timings.items():
        entry = case.entries[name]
        target = "" if entry.target is None else f"{entry.target:.2f}"
        published = "" if entry.published is None else f"{entry.published:.3f}"
        spread = f"{timing.spread[0]:.2f} to {timing.spread[1]:.2f}"
        row = [name, f"{1e3 * timing.seconds:.2f}", f"{timing.ratio:.3f}", spread, target, published]
        if based:
            row.insert(2, f"{timing.first:.2f}")
        rows.append(row)
    title = f"**{case.title}, batch {case.shape[0]}, {case.shape[2]} x {case.shape[3]}**"
    return [title, "", *table_lines(columns, rows), ""]


def machine() -> str:
    """The processor, torch's version, and what else was running."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = text.partition("model name")[2].partition("\n")[0].strip(" \t:") or platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name} ({os.cpu_count()} cores), torch {torch.__version__}{load}"
