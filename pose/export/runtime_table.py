"""The table of runtimes: what networks cost in each, how far from PyTorch they answer there, and what AP they keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pose.benchmark import Case, Entry, compare
from pose.data_settings import Split
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.installed import HERE, format_of
from pose.export.measured_networks import Network, average_precision
from pose.export.onnx_file import export_onnx
from pose.export.proof import compare as compare_file
from pose.export.runtimes import Running
from pose.prediction import ExportedModule
from pose.runtimes.files import NetworkSession, open_file

MILLISECONDS = 1e3
WORDS_APART = r"\W+"


@dataclass(frozen=True)
class Measured:
    """A network in a runtime.

    Attributes:
        milliseconds: The median of one image's.
        ratio: The median over rounds of its time divided by that of the first network in the same runtime.
        megabytes: The size of all its files.
        difference: The largest to PyTorch's heatmaps.
        ap: AP on the part that was asked for; None where the network is not trained, or nothing was.
    """

    milliseconds: float
    ratio: float
    megabytes: float
    difference: float
    ap: float | None = None


def write_file(network: Network, folder: Path, name: str, stem: str) -> tuple[Path, float]:
    """Exports a network in a format of :data:`~pose.export.installed.MODULES`, or takes the file that is there.

    Returns:
        The file, in the folder, and its difference to PyTorch, at most 1e-4 with kernels in float32.

    Raises:
        ExportError: The network does not convert, or answers otherwise than in PyTorch.
    """
    path = folder / f"{name}_{re.sub(WORDS_APART, '_', stem)}{format_of(name).suffix}"
    if path.exists():
        return path, compare_file(path, network.model, network.settings.data.input_size)
    if name in ("onnx", HERE):
        runtime = "onnxruntime-here" if name == HERE else "onnxruntime"
        return path, export_onnx(network.model, network.settings, path, runtime=runtime, bank=network.bank)
    difference = export_file(network.model, network.settings, path, name, forms=network.forms, bank=network.bank)
    assert difference is not None, f"{name} cannot be run here"
    return path, difference


def opened(path: Path) -> Running:
    """A file in its runtime, with one thread."""
    return Running(partial(_first_output, open_file(path, threads=1)))


def measure(
    networks: Mapping[str, Network],
    name: str,
    folder: Path,
    rounds: int,
    runs: int,
    part: Split | None = None,
    refused: Callable[[str, ExportError], None] | None = None,
) -> dict[str, Measured]:
    """Networks in a runtime, with one thread and one image at a time, in turns.

    Args:
        networks: The networks by name; the first is what the others are compared with.
        name: A format of :data:`~pose.export.installed.MODULES` that can be run here.
        folder: The folder of the files; those that are there are taken as they are.
        rounds, runs: See :func:`pose.benchmark.compare`.
        part: The part that trained networks are tested on; None for no AP.
        refused: Takes a message about a network that does not convert and is left out, unless it is the first.

    Raises:
        ExportError: A network does not convert, or answers otherwise than in PyTorch.
        MissingExtra: The runtime is not installed.
    """
    written: dict[str, tuple[Path, float]] = {}
    first = next(iter(networks))
    for key, network in networks.items():
        try:
            written[key] = write_file(network, folder, name, key)
        except ExportError as error:
            if refused is None or key == first:
                raise
            refused(key, error)
    entries = {key: Entry(opened(path), name, torch.contiguous_format) for key, (path, _) in written.items()}
    width, height = networks[first].settings.data.input_size
    timings = compare(Case(name, (1, 3, height, width), entries), rounds, runs)
    del entries
    measured = {}
    for key, (path, difference) in written.items():
        network = networks[key]
        size = sum(file.stat().st_size for file in format_of(name).paths(path)) / 1e6
        timing = timings[key]
        ap = None
        if part is not None and network.trained:
            ap = average_precision(ExportedModule(network.settings, path), network.settings, part)
        measured[key] = Measured(MILLISECONDS * timing.seconds, timing.ratio, size, difference, ap)
    return measured


def rows(
    name: str, runtime: str, measured: Mapping[str, Measured], reference: Mapping[str, float | None]
) -> list[Sequence[str]]:
    """Rows of the table: runtime, format, network, ms, ratio, MB, difference, AP, and its difference to PyTorch's."""
    made: list[Sequence[str]] = []
    for key, one in measured.items():
        known = reference.get(key)
        ap = ("", "") if one.ap is None or known is None else (f"{one.ap:.4f}", f"{one.ap - known:+.4f}")
        numbers = (f"{one.milliseconds:.1f}", f"{one.ratio:.2f}", f"{one.megabytes:.1f}", f"{one.difference:.1e}")
        made.append((runtime, name, key, *numbers, *ap))
    return made


def _first_output(session: NetworkSession, images: np.ndarray) -> np.ndarray:
    return session(images)[0]
