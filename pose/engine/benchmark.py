"""Timing deployed networks side by side: like with like, in turns, in one process."""

from __future__ import annotations

import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pose.config import Settings, load_settings
from pose.errors import PoseError
from pose.models.classifier import build_classifier
from pose.models.deploy.folding import deploy
from pose.models.pose_net import build_pose_net
from pose.weights import shipped


class BenchmarkError(PoseError, ValueError):
    """A comparison that would say nothing."""


@dataclass(frozen=True)
class Entry:
    """One network of a comparison.

    Args:
        network: The deployed network.
        architecture: What must be the same in all entries.
        memory_format: That its inputs come in.
        target: The greatest ratio wanted, None for none.
        published: The paper's ratio, None for none.
        base: The entry that its ratio is to, None for the first: the static network of its own form.
    """

    network: nn.Module
    architecture: str
    memory_format: torch.memory_format = torch.channels_last
    target: float | None = None
    published: float | None = None
    base: str | None = None


@dataclass(frozen=True)
class Case:
    """Networks to compare, each with its base and all with the first.

    Args:
        title: What they are.
        shape: (N, 3, H, W) of the input.
        entries: By name; the first is a static network.

    Raises:
        BenchmarkError: Architectures or memory formats differ, a normalisation is not folded, or a base is missing.
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
    """One entry's times.

    Args:
        seconds: Median of a forward pass.
        ratio: Median over rounds of its time over its base's in the same round.
        spread: Lower and upper quartile of those ratios.
        first: The same median of its time over the first entry's.
    """

    seconds: float
    ratio: float
    spread: tuple[float, float]
    first: float


@torch.inference_mode()
def compare(case: Case, rounds: int = 20, runs: int = 5) -> dict[str, Timing]:
    """Times a case's networks in turns, forwards in even rounds and backwards in odd ones.

    Args:
        case: What to time.
        rounds: Turns, at least 2.
        runs: Passes of each network in a turn, after one that is not counted; a turn's time is their median.

    Returns:
        By name. With one thread the times are its processor time, which other programs' turns do not add to.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.shape, generator=generator)
    inputs = {name: x.contiguous(memory_format=entry.memory_format) for name, entry in case.entries.items()}
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
    """A Markdown table of a case."""
    based = any(entry.base for entry in case.entries.values())
    names = ["network", "ms", "ratio", "quartiles", "target", "paper"]
    if based:
        names.insert(2, f"to {next(iter(case.entries))}")
    lines = [
        f"**{case.title}, batch {case.shape[0]}, {case.shape[2]} x {case.shape[3]}**",
        "",
        f"| {' | '.join(names)} |",
        "|" + "---|" * len(names),
    ]
    for name, timing in timings.items():
        entry = case.entries[name]
        target = "" if entry.target is None else f"{entry.target:.2f}"
        published = "" if entry.published is None else f"{entry.published:.3f}"
        spread = f"{timing.spread[0]:.2f} to {timing.spread[1]:.2f}"
        cells = [name, f"{1e3 * timing.seconds:.2f}", f"{timing.ratio:.3f}", spread, target, published]
        if based:
            cells.insert(2, f"{timing.first:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def machine() -> str:
    """The processor, torch's version, and what else was running."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name = text.partition("model name")[2].partition("\n")[0].strip(" \t:") or platform.processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name} ({os.cpu_count()} cores), torch {torch.__version__}{load}"


def write_section(path: Path, head: str, lines: list[str], name: str = "inference") -> None:
    """Puts a run's tables between the two comments of that name in a file; adds both where they are not there."""
    begin, end = (f"<!-- {name}: {where} -->" for where in ("begin", "end"))
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Benchmarks\n"
    section = "\n".join([begin, head, "", *lines, end])
    if begin in text and end in text:
        text = text.partition(begin)[0] + section + text.partition(end)[2]
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    path.write_text(text, encoding="utf-8")


TORCH, NATIVE = "static, torch", "static, native"


def _entries(
    build: Callable[[str], nn.Module], architecture: str, shape: tuple[int, int, int, int], **limits: tuple
) -> dict[str, Entry]:
    """The static and the dynamic networks in each form, each with the static one of its form as base.

    Static networks' own ratios are to the first, in torch's operations. ``limits`` are (target, published ratio) by
    form; ``static, TorchScript`` is the fastest that torch makes of the static network.
    """
    static, dynamic, decomposed = (build(kind) for kind in ("static", "dynamic", "dcd"))

    def entry(network: nn.Module, base: str | None, key: str = "", **options: Any) -> Entry:
        target, published = limits.get(key, (None, None))
        return Entry(deploy(network, **options), architecture, torch.channels_last, target, published, base)

    half = dict(fused=True, bank_dtype=torch.bfloat16)
    torch_static = entry(static, None, fused=False)
    return {
        TORCH: torch_static,
        "static, TorchScript": Entry(_scripted(torch_static.network, shape), architecture),
        "dynamic, torch": entry(dynamic, TORCH, "lean", fused=False),
        NATIVE: entry(static, None, fused=True),
        "dynamic, native": entry(dynamic, NATIVE, "native", fused=True),
        "dynamic, native, bfloat16": entry(dynamic, NATIVE, "bfloat16", **half),
        "decomposed, native": entry(decomposed, NATIVE, "dcd", fused=True),
        "decomposed, native, bfloat16": entry(decomposed, NATIVE, "dcd", **half),
    }


def _scripted(network: nn.Module, shape: tuple[int, int, int, int]) -> nn.Module:
    """What ``torch.jit.optimize_for_inference`` makes of a deployed network."""
    x = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its age
        return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, x)))


def _limit(batch: int, single: float) -> float:
    """The target: at batch 1 the case's own, beyond it the issue's for batches."""
    return single if batch == 1 else 1.15 if batch <= 8 else 1.20


def imagenet(batch: int) -> Iterator[Case]:
    """MobileNetV2 at every width, 224 x 224 (DY-CNN, Table 12; DCD's own figures)."""
    published = {1.0: (1.104, 1.116), 0.75: (1.111, None), 0.5: (1.112, 1.143), 0.35: (1.103, None)}
    for width, (dynamic, decomposed) in published.items():

        def build(kind: str, width: float = width) -> nn.Module:
            conv = dict(type=kind, **({"reduction": 16 if width == 1 else 8} if kind == "dcd" else {}))
            return build_classifier(dict(type="mobilenet_v2", width=width, conv=conv))

        if batch > 1:  # the papers' figures, and the targets of torch's form and of decomposed networks, are for one
            dynamic, decomposed = None, None
        limits = dict(
            lean=(1.30 if batch == 1 else None, dynamic),
            native=(_limit(batch, 1.10), dynamic),
            bfloat16=(_limit(batch, 1.08), dynamic),
            dcd=({1.0: 1.12, 0.5: 1.14}.get(width) if batch == 1 else None, decomposed),
        )
        name, shape = f"MobileNetV2 x{width}", (batch, 3, 224, 224)
        yield Case(name, shape, _entries(build, name, shape, **limits))


def pose(batch: int) -> Iterator[Case]:
    """The Type-B pose network on MobileNetV2 x1.0, 256 x 192."""

    def build(kind: str) -> nn.Module:
        conv = dict(type=kind)
        return build_pose_net(dict(type="mobilenet_v2", width=1.0, conv=conv), dict(type="bottleneck", conv=conv))

    name = "Type-B pose network, MobileNetV2 x1.0"
    limit = (_limit(batch, 1.08), None)
    shape = (batch, 3, 256, 192)
    yield Case(name, shape, _entries(build, name, shape, native=limit, bfloat16=limit))


def resnet(batch: int) -> Iterator[Case]:
    """ResNet-18, 224 x 224."""

    def build(kind: str) -> nn.Module:
        return build_classifier(dict(type="resnet", depth=18, conv=dict(type=kind)))

    limit, shape = (1.20, None), (batch, 3, 224, 224)
    yield Case("ResNet-18", shape, _entries(build, "ResNet-18", shape, native=limit, bfloat16=limit))


def small(batch: int) -> Iterator[Case]:
    """The network of the weights that come with the repository, by its configurations."""
    ours = shipped()

    def settings(kind: str) -> Settings:
        config = ours.config.with_name(f"mobilenet_v2_x0.5_type_b_{kind}.py")
        return load_settings(config, {"data.skeleton": ours.skeleton})

    width, height = settings("static").data.input_size
    name, shape = "MobileNetV2 x0.5, narrow Type-B, 14 keypoints", (batch, 3, height, width)
    yield Case(name, shape, _entries(lambda kind: settings(kind).build_model(), name, shape))


CASES: dict[str, Callable[[int], Iterator[Case]]] = {
    "imagenet": imagenet,
    "pose": pose,
    "small": small,
    "resnet": resnet,
}
"""What ``tools/benchmark.py`` can time, each for a batch size."""
