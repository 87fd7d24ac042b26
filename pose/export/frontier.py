"""Which network, in which runtime, for so many milliseconds: AP against time, and the choices that nothing beats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pose.benchmark import Case, Entry, compare
from pose.config import Settings
from pose.data_settings import Split
from pose.errors import DataError
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.installed import HERE, runtime_of
from pose.export.int8 import training_crops
from pose.export.measured_networks import Network, average_precision
from pose.export.proof import TOLERANCE
from pose.export.registry import BANKS, CALIBRATION_PERSONS, is_dynamic
from pose.export.runtime_table import MILLISECONDS, opened, write_file
from pose.files import replacing
from pose.models import native
from pose.models.deploy.folding import deploy
from pose.native.pairs import has_pairs

"""Training persons that 8 bits are set by, as tools/export.py has it."""

LEAST_SPAN = 0.05
"""The least range of AP that a plot shows."""


MARKERS = "os^vDPX*<>h"
"""The forms of a plot have these in turns, and ten colors: without a common divisor no two forms look alike."""


@dataclass(frozen=True)
class Point:
    """A network as it can be run.

    Attributes:
        network: Which.
        form: In which form or runtime.
        milliseconds: The median of one crop's.
        ap: Its AP.
    """

    network: str
    form: str
    milliseconds: float
    ap: float


def measure_points(
    networks: Mapping[str, Network],
    formats: Sequence[str],
    part: Split,
    folder: Path,
    rounds: int,
    runs: int,
    told: Callable[[str], None],
) -> list[Point]:
    """Networks in PyTorch, by native layers and in runtimes: one crop at a time, one thread, all in turns.

    AP is of one forward pass without the flip average, as the time is. Forms whose heatmaps are PyTorch's to 1e-4
    share one AP.

    Args:
        networks: The networks by name.
        formats: Keys of :data:`~pose.export.installed.MODULES` whose runtimes are installed.
        part: What AP is of.
        folder: The folder of the files.
        rounds, runs: See :func:`pose.benchmark.compare`.
        told: Takes a line about what is being done, or left out.
    """
    entries: dict[str, Entry] = {}
    precisions: dict[str, tuple[str, str, float]] = {}
    for key, network in networks.items():
        told(f"{key}: AP and files")
        width, height = network.settings.data.input_size
        shape = (1, 3, height, width)
        modules, others = _in_torch(network, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        settings = replace(network.settings, test=replace(network.settings.test, flip=False))
        exact = average_precision(list(modules.values())[-1], settings, part)
        found = {form: (module, exact) for form, module in modules.items()}
        found |= {form: (module, average_precision(module, settings, part)) for form, module in others.items()}
        for name in formats:
            if name == HERE and not is_dynamic(network.model):
                continue  # the same file as for any processor
            try:
                path, _ = write_file(network, folder, name, f"{key} {name}")
            except ExportError as error:
                told(f"{key}: left out, {error}")
                continue
            found[f"{runtime_of(name)}, {name} file"] = opened(path), exact
        if native.available():
            found |= _rounded(network, settings, part, folder / key, told)
        for form, (module, ap) in found.items():
            entries[f"{key}, {form}"] = Entry(module, "any", torch.contiguous_format, shape=shape)
            precisions[f"{key}, {form}"] = key, form, ap
    told(f"{len(entries)} times {rounds} turns of {runs} runs")
    timings = compare(Case("frontier", (1, 3, 1, 1), entries), rounds, runs)
    return [Point(key, form, MILLISECONDS * timings[name].seconds, ap) for name, (key, form, ap) in precisions.items()]


@torch.inference_mode()
def _in_torch(network: Network, x: torch.Tensor) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The deployed forms in PyTorch whose heatmaps are the network's to 1e-4, the fastest last, and the others."""
    exact: dict[str, nn.Module] = {"PyTorch": deploy(network.model, fused=False)}
    others: dict[str, nn.Module] = {}
    if native.available():
        forms = {"native layers": deploy(network.model, fused=True)}
        if is_dynamic(network.model):
            for dtype, bits in ((torch.bfloat16, "bfloat16"), (torch.int8, "8-bit")):
                forms[f"native layers, {bits} bank"] = deploy(network.model, fused=True, bank_dtype=dtype)
        expected = network.model(x)
        for form, module in forms.items():
            same = (module(x) - expected).abs().max() <= TOLERANCE
            (exact if same else others)[form] = module
    return exact, others


def _rounded(
    network: Network, settings: Settings, part: Split, stem: Path, told: Callable[[str], None]
) -> dict[str, tuple[nn.Module, float]]:
    """The network in files of native layers that compute in 8 bits, and in bfloat16 where the processor does.

    Args:
        network: The network.
        settings: Its settings, as AP is measured by them; training crops set the 8 bits.
        part: What AP is of.
        stem: The files' names, less their ends.
        told: Takes a line about what is left out.

    Returns:
        The networks and their AP, by form.
    """
    wanted: dict[str, dict[str, Any]] = {}
    try:
        wanted["8 bits"] = dict(calibration_crops=training_crops(network.settings, CALIBRATION_PERSONS))
    except DataError as error:
        told(f"{stem.name}: 8 bits are left out, {error}")
    if has_pairs():
        wanted["bfloat16"] = dict(bfloat16=True)
    dynamic = is_dynamic(network.model)
    bank, such = (BANKS[-1], ", 8-bit bank") if dynamic else (BANKS[0], "")
    found: dict[str, tuple[nn.Module, float]] = {}
    for form, options in wanted.items():
        path = stem.with_name(f"{stem.name} {form}.native")
        try:
            export_file(network.model, network.settings, path, "native", bank=bank, **options)
        except ExportError as error:
            told(f"{stem.name}, {form}: left out, {error}")
            continue
        module = opened(path)
        found[f"native layers, {form}{such}"] = module, average_precision(module, settings, part)
    return found


def front(points: Iterable[Point]) -> list[Point]:
    """The points that nothing beats: whatever has more AP takes more time. From the fastest on."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.milliseconds, -point.ap)):
        if not best or point.ap > best[-1].ap:
            best.append(point)
    return best


def best_within(points: Iterable[Point], milliseconds: float) -> Point | None:
    """The point with the most AP in that time, of equals the fastest; None where all take longer."""
    fast_enough = [point for point in front(points) if point.milliseconds <= milliseconds]
    return fast_enough[-1] if fast_enough else None


def frontier_rows(points: Sequence[Point]) -> list[Sequence[str]]:
    """Rows of the table, from the fastest on: network, form, milliseconds, AP, and whether it is of the front."""
    best = front(points)
    return [
        (point.network, point.form, f"{point.milliseconds:.1f}", f"{point.ap:.4f}", "yes" if point in best else "")
        for point in sorted(points, key=lambda point: point.milliseconds)
    ]


def draw_frontier(points: Sequence[Point], path: str | Path, title: str) -> None:
    """AP against milliseconds, a marker for each form and a line through the front; an SVG or a PNG. Needs matplotlib.

    Raises:
        OutputError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 5), layout="constrained")
    forms = dict.fromkeys(point.form for point in points)
    for number, form in enumerate(forms):
        own = [(point.milliseconds, point.ap) for point in points if point.form == form]
        marker = MARKERS[number % len(MARKERS)]
        axis.plot(*zip(*own, strict=True), marker, color=f"C{number % 10}", label=form, alpha=0.8)
    best = front(points)
    times, heights = [point.milliseconds for point in best], [point.ap for point in best]
    axis.step(times, heights, where="post", color="black", linewidth=1, label="the most AP in this time", zorder=0)
    for network in dict.fromkeys(point.network for point in points):
        last = max((point for point in points if point.network == network), key=lambda point: point.milliseconds)
        place = (last.milliseconds, last.ap)
        axis.annotate(network, place, (6, 0), textcoords="offset points", va="center", fontsize="small")
    axis.set(xlabel="milliseconds for a crop, one thread", ylabel="AP", title=title)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.margins(x=0.15)
    low, high = axis.get_ylim()
    room = max(0.0, LEAST_SPAN - (high - low)) / 2  # what chance may make is not to look like a step
    axis.set_ylim(low - room, high + room)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    with replacing(path) as temporary, pyplot.rc_context({"svg.fonttype": "none"}):  # letters, not their outlines
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
