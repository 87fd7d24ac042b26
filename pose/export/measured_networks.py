"""Networks that runtimes are measured with, and the AP of each on a fixed part of a data set."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from pose.checkpoint import load_weights
from pose.config import Settings, load_settings
from pose.data_settings import Split
from pose.engine import evaluate
from pose.errors import DataError
from pose.files import read_json
from pose.models.dynamic.graph_forms import GraphForms
from pose.weights import shipped

SPREAD = 0.1
"""The standard deviation of a random network's heatmaps; trained ones' are of this order."""


@dataclass(frozen=True)
class Network:
    """A network to measure.

    Args:
        model: The network, on the CPU and in evaluation mode.
        settings: The network's settings.
        trained: Whether its AP means anything.
        forms: The forms of its layers, in place of those that a format has.
        bank: The precision of its kernels, see :func:`pose.export.formats.export_file`.
    """

    model: nn.Module
    settings: Settings
    trained: bool = True
    forms: GraphForms | None = None
    bank: str = "float32"


def shipped_network(name: str, data: Path | None) -> Network:
    """A network with the weights that come with the project.

    Args:
        name: What it is called.
        data: The folder of its data, where that is not its configuration's.

    Raises:
        OptionError: None has this name.
        CheckpointError: The weights are not there or not what they were.
    """
    known = shipped(name)
    settings = load_settings(known.config, {"data.root": str(data)} if data else None)
    model = settings.build_model()
    load_weights(model, known.checkpoint)
    return Network(model.eval(), settings)


def shipped_networks(data: Path | None) -> dict[str, Network]:
    """Networks to compare runtimes by: the shipped one, the static one of its kind, a decomposed one; see above."""
    networks = {name: shipped_network(name, data) for name in ("base_static", "base")}
    plain = json.dumps(networks["base"].settings.model)  # whose dynamic layers become decomposed ones
    settings = replace(networks["base"].settings, model=json.loads(plain.replace('"dynamic"', '"dcd"')))
    networks["decomposed"] = Network(random_network(settings), settings, trained=False)
    return networks


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
        DataError: The annotations cannot be read or hold no person with keypoints.
    """
    contents = read_json(annotations, "annotations")
    chosen: set[int] = set()
    by_image: dict[int, list[dict]] = {}
    persons = 0
    try:
        for entry in contents["annotations"]:
            by_image.setdefault(entry["image_id"], []).append(entry)
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
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{annotations}: is no annotation file of COCO's format ({error!r})") from error
    if not persons:
        raise DataError(f"{annotations}: no person with keypoints to take AP of")
    out.write_text(json.dumps(part), encoding="utf-8")
    return Split(str(out.absolute()), images)
