"""The table of runtimes: what networks cost in each, how far from PyTorch they answer there, and what AP they keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pose.benchmark import Case, Entry, compare
from pose.config import Settings
from pose.data_settings import Split
from pose.engine import evaluate
from pose.export.errors import ExportError
from pose.export.formats import FORMATS, export_file
from pose.export.onnx_file import export_onnx
from pose.export.runtimes import Running
from pose.files import read_json
from pose.models.dynamic.graph_forms import GraphForms
from pose.prediction import ExportedModule
from pose.runtimes.files import NetworkSession, open_file

MILLISECONDS = 1e3
SPREAD = 0.1
"""The standard deviation of a random network's heatmaps; trained ones' are of this order."""


@dataclass(frozen=True)
class Network:
    """A network of the table.

    Args:
        model: The network, on the CPU and in evaluation mode.
        settings: The network's settings.
        trained: Whether its AP means anything.
        forms: The forms of its layers, in place of those that a format has.
    """

    model: nn.Module
    settings: Settings
    trained: bool = True
    forms: GraphForms | None = None


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


def random_network(settings: Settings) -> nn.Module:
    """A network with random weights whose heatmaps are about as high as trained ones'.

    With the statistics that its normalizations start with it would answer next to nothing, in any form.
    """
    torch.manual_seed(0)
    model = settings.build_model()
    last = model.get_submodule("head.final").get_parameter("weight")
    nn.init.normal_(last, std=0.1)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the running statistics become those of the one batch
    width, height = settings.data.input_size
    with torch.no_grad():
        heatmaps = model.train()(torch.randn(4, 3, height, width))
        last.mul_(SPREAD / heatmaps.std())
    return model.eval()


def write_file(network: Network, folder: Path, name: str, stem: str) -> float:
    """Exports a network in a format to ``folder/stem`` and the format's ending; the difference to PyTorch."""
    path = folder / f"{stem}{FORMATS[name].suffix}"
    if name == "onnx":
        return export_onnx(network.model, network.settings, path)
    difference = export_file(network.model, network.settings, path, name, forms=network.forms)
    assert difference is not None, f"{name} cannot be run here"
    return difference


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
        name: A format of :data:`~pose.export.formats.FORMATS` that can be run here.
        folder: The folder of the files.
        rounds, runs: See :func:`pose.benchmark.compare`.
        part: The part that trained networks are tested on; None for no AP.
        refused: Takes a message about a network that does not convert and is left out, unless it is the first.

    Raises:
        ExportError: A network does not convert, or answers otherwise than in PyTorch.
        MissingExtra: The runtime is not installed.
    """
    differences, first = {}, next(iter(networks))
    for key, network in networks.items():
        try:
            differences[key] = write_file(network, folder, name, key)
        except ExportError as error:
            if refused is None or key == first:
                raise
            refused(key, error)
    paths = {key: folder / f"{key}{FORMATS[name].suffix}" for key in differences}
    entries = {}
    for key, path in paths.items():
        session = open_file(path, threads=1)
        entries[key] = Entry(Running(partial(_first_output, session)), name, torch.contiguous_format)
    width, height = networks[first].settings.data.input_size
    timings = compare(Case(name, (1, 3, height, width), entries), rounds, runs)
    del entries
    measured = {}
    for key, path in paths.items():
        network = networks[key]
        size = sum(file.stat().st_size for file in FORMATS[name].paths(path)) / 1e6
        timing = timings[key]
        ap = None
        if part is not None and network.trained:
            ap = average_precision(ExportedModule(network.settings, path), network.settings, part)
        measured[key] = Measured(MILLISECONDS * timing.seconds, timing.ratio, size, differences[key], ap)
    return measured


def average_precision(model: nn.Module, settings: Settings, part: Split) -> float:
    """COCO's AP on a part of a data set, as tools/test.py has it."""
    settings = replace(settings, data=replace(settings.data, workers=0))
    run = evaluate.test(model.eval(), evaluate.open_test_set(settings, part), settings, "cpu")
    return run.figures["AP"]


def take_part(annotations: Path, images: str, most_persons: int, out: Path) -> Split:
    """A fixed part of a data set: its pictures by number, as many as hold so many persons with keypoints.

    Args:
        annotations: An annotation file in COCO's format.
        images: The folder of the pictures, as a split names it.
        most_persons: What the part ends with.
        out: The file for the part's annotations.

    Raises:
        DataError: The annotations cannot be read.
    """
    contents = read_json(annotations, "annotations")
    chosen: set[int] = set()
    by_image: dict[int, list[dict]] = {}
    for entry in contents["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(entry)
    persons = 0
    for image in sorted(by_image):
        if persons >= most_persons:
            break
        chosen.add(image)
        persons += sum(entry.get("num_keypoints", 0) > 0 for entry in by_image[image])
    part = {
        **contents,
        "images": [image for image in contents["images"] if image["id"] in chosen],
        "annotations": [entry for entry in contents["annotations"] if entry["image_id"] in chosen],
    }
    out.write_text(json.dumps(part), encoding="utf-8")
    return Split(str(out.absolute()), images)


def _first_output(session: NetworkSession, images: np.ndarray) -> np.ndarray:
    return session(images)[0]


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
