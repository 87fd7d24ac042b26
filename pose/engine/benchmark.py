"""Timing deployed networks side by side: like with like, in turns, in one process."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pose.errors import PoseError
from pose.models.classifier import build_classifier
from pose.models.deploy import deploy
from pose.models.pose_net import build_pose_net


class BenchmarkError(PoseError, ValueError):
    """A comparison that would say nothing."""


@dataclass(frozen=True)
class Entry:
    """One network of a comparison.

    Args:
        network: Deployed.
        architecture: What must be the same in all entries.
        memory_format: That its inputs come in.
        target: The greatest ratio wanted, None for none.
        published: The paper's ratio, None for none.
    """

    network: nn.Module
    architecture: str
    memory_format: torch.memory_format = torch.channels_last
    target: float | None = None
    published: float | None = None


@dataclass(frozen=True)
class Case:
    """Networks to compare with the first of them.

    Args:
        title: What they are.
        shape: (N, 3, H, W) of the input.
        entries: By name; the first is the static network.

    Raises:
        BenchmarkError: Architectures or memory formats differ, or a normalisation is not folded.
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
            if entry.network.training or any(isinstance(part, nn.BatchNorm2d) for part in entry.network.modules()):
                raise BenchmarkError(f"{self.title}: {name} is not deployed: not comparable")


@dataclass(frozen=True)
class Timing:
    """One entry's times.

    Args:
        seconds: Median of a forward pass.
        ratio: Median over rounds of its time over the first entry's in the same round.
        spread: Lower and upper quartile of those ratios.
    """

    seconds: float
    ratio: float
    spread: tuple[float, float]


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
    base = times[next(iter(times))]
    timings = {}
    for name, own in times.items():
        ratios = [one / other for one, other in zip(own, base, strict=True)]
        lower, middle, upper = statistics.quantiles(ratios, n=4)
        timings[name] = Timing(statistics.median(own), middle, (lower, upper))
    return timings


def _time(network: nn.Module, x: torch.Tensor) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    network(x)
    return clock() - start


def table(case: Case, timings: Mapping[str, Timing]) -> list[str]:
    """A Markdown table of a case."""
    lines = [
        f"**{case.title}, batch {case.shape[0]}, {case.shape[3]} x {case.shape[2]}**",
        "",
        "| network | ms | ratio | quartiles | target | paper |",
        "|---|---|---|---|---|---|",
    ]
    for name, timing in timings.items():
        entry = case.entries[name]
        target = "" if entry.target is None else f"{entry.target:.2f}"
        published = "" if entry.published is None else f"{entry.published:.3f}"
        spread = f"{timing.spread[0]:.2f} to {timing.spread[1]:.2f}"
        lines.append(
            f"| {name} | {1e3 * timing.seconds:.2f} | {timing.ratio:.3f} | {spread} | {target} | {published} |"
        )
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


def _entries(build: Callable[[str], nn.Module], architecture: str, **limits: tuple) -> dict[str, Entry]:
    """The static network, and the dynamic one in each form; (target, published ratio) by form."""
    static, dynamic = build("static"), build("dynamic")
    entries = {"static": Entry(deploy(static), architecture)}
    forms = {
        "dynamic, torch operations": ("lean", dict(fused=False)),
        "dynamic, native": ("native", dict()),
        "dynamic, native, bfloat16 bank": ("bfloat16", dict(bank_dtype=torch.bfloat16)),
    }
    for name, (key, options) in forms.items():
        entries[name] = Entry(deploy(dynamic, **options), architecture, torch.channels_last, *limits.get(key, ()))
    if "dcd" in limits:
        entries["decomposed, native"] = Entry(deploy(build("dcd")), architecture, torch.channels_last, *limits["dcd"])
    return entries


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

        name = f"MobileNetV2 x{width}"
        dcd = {"dcd": (1.12 if width == 1 else 1.14, decomposed)} if decomposed else {}
        if batch > 1:  # the papers' figures and these two targets are for one image
            dynamic, dcd = None, dict.fromkeys(dcd, ())
        limits = dict(
            lean=(1.30, dynamic) if batch == 1 else (),
            native=(_limit(batch, 1.10), dynamic),
            bfloat16=(_limit(batch, 1.08), dynamic),
        )
        yield Case(name, (batch, 3, 224, 224), _entries(build, name, **limits, **dcd))


def pose(batch: int) -> Iterator[Case]:
    """The Type-B pose network on MobileNetV2 x1.0, 192 x 256."""

    def build(kind: str) -> nn.Module:
        conv = dict(type=kind)
        return build_pose_net(dict(type="mobilenet_v2", width=1.0, conv=conv), dict(type="bottleneck", conv=conv))

    name = "Type-B pose network, MobileNetV2 x1.0"
    limit = (_limit(batch, 1.08), None)
    yield Case(name, (batch, 3, 256, 192), _entries(build, name, native=limit, bfloat16=limit))


def resnet(batch: int) -> Iterator[Case]:
    """ResNet-18, 224 x 224."""

    def build(kind: str) -> nn.Module:
        return build_classifier(dict(type="resnet", depth=18, conv=dict(type=kind)))

    limit = (1.20, None)
    yield Case("ResNet-18", (batch, 3, 224, 224), _entries(build, "ResNet-18", native=limit, bfloat16=limit))


CASES: dict[str, Callable[[int], Iterator[Case]]] = {"imagenet": imagenet, "pose": pose, "resnet": resnet}
"""What ``tools/benchmark.py`` can time, each for a batch size."""
