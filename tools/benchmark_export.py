"""What exported dynamic networks cost beside the static one, in every runtime that is installed, on this machine's CPU.

    OMP_WAIT_POLICY=PASSIVE python tools/benchmark_export.py
    ... python tools/benchmark_export.py --runtimes onnxruntime --write docs/tables/export.md
    ... python tools/benchmark_export.py --all --data data/people --write docs/tables/runtimes.md
    ... python tools/benchmark_export.py --forms litert ncnn

Type-B pose networks on MobileNetV2, exported in every form, for crops of 256 x 192, and beside them the same networks
in PyTorch by native layers. They are timed as tools/benchmark.py says; a time is that of the whole batch.

--all takes the networks that come with the repository, and a decomposed one of the same architecture with random
weights, through every format whose runtime is installed: milliseconds of one image with one thread, ratio to the static
network, size, difference to PyTorch and, with --data, AP on a fixed part of a test set. --forms compares, for formats,
the ways to write a dynamic layer, see docs/deployment.md.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import importlib.metadata
import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pose.benchmark import Case, Entry, compare, machine, table
from pose.checkpoint import load_weights
from pose.command_line import count, positive
from pose.config import Settings, load_settings, make_settings
from pose.errors import MissingExtra, command, missing
from pose.export.errors import ExportError
from pose.export.formats import FORMATS
from pose.export.onnx_file import export_onnx
from pose.export.runtime_table import Network, average_precision, measure, rows, take_part
from pose.export.runtimes import OPENERS
from pose.files import check_outputs
from pose.models.deploy.folding import deploy
from pose.models.dynamic.graph_forms import GraphForms
from pose.tables import Page, table_head, table_row
from pose.weights import shipped

NETWORKS = {
    "static": ("static", "onnxruntime"),
    "dynamic": ("dynamic", "onnxruntime"),
    "dynamic, for OpenVINO": ("dynamic", "openvino"),
    "dynamic, for this processor": ("dynamic", "onnxruntime-here"),
    "decomposed": ("dcd", "onnxruntime"),
}
"""The type of convolution and the runtime that a file is made for, by the name of the row."""
NATIVE = {"static, native in PyTorch": "static", "dynamic, native in PyTorch": "dynamic"}
"""Networks that are not exported, for comparison: the type of convolution by the name of the row."""
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
MODULES = {
    "onnx": ["onnx"],
    "onnx-single": ["onnx"],
    "openvino": ["onnx", "openvino"],
    "ncnn": ["ncnn", "pnnx"],
    "mnn": ["onnx", "MNN"],
    "litert": ["litert_torch", "ai_edge_litert"],
    "executorch": ["executorch"],
}
"""What must be installed to write and run a format."""
CANDIDATES = {
    "computed": GraphForms(decomposed="assembled"),
    "product": GraphForms(pointwise="product", decomposed="factors"),
    "depthwise chain": GraphForms(depthwise="chain"),
    "product, depthwise chain": GraphForms(pointwise="product", depthwise="chain", decomposed="factors"),
}
"""Forms of :func:`every_form`, by the name of the row."""


def network(kind: str, width: float) -> tuple[nn.Module, Settings]:
    """A pose network with random weights, and its settings."""
    conv = dict(type=kind)
    backbone = dict(type="mobilenet_v2", width=width, conv=conv)
    settings = make_settings(dict(model=dict(backbone=backbone, head=dict(type="bottleneck", conv=conv))))
    torch.manual_seed(0)
    return settings.build_model(), settings


def export(folder: Path, width: float) -> dict[str, Path]:
    """Exports every network of :data:`NETWORKS` at a width of MobileNetV2; the files by name of the row."""
    files = {}
    for name, (kind, runtime) in NETWORKS.items():
        files[name] = folder / f"{width}_{kind}_{runtime}.onnx"
        export_onnx(*network(kind, width), files[name], runtime=runtime)
    return files


def case(files: Mapping[str, Path], title: str, width: float, runtime: str, batch: int, threads: int) -> Case:
    """The exported networks that a runtime can read, opened in it, and beside them those of :data:`NATIVE`."""
    entries = {
        name: Entry(OPENERS[runtime](path, threads), title, torch.contiguous_format)
        for name, path in files.items()
        if runtime == "onnxruntime" or "processor" not in name
    }
    for name, kind in NATIVE.items():
        entries[name] = Entry(deploy(network(kind, width)[0], fused=True), title, torch.contiguous_format)
    return Case(title, (batch, 3, 256, 192), entries)


def shipped_networks(data: Path | None) -> dict[str, Network]:
    """The networks of ``--all``, by name."""
    networks = {}
    for name in ("base_static", "base"):
        known = shipped(name)
        settings = load_settings(known.config, {"data.root": str(data)} if data else None)
        model = settings.build_model()
        load_weights(model, known.checkpoint)
        networks[name] = Network(model.eval(), settings)
    plain = json.dumps(networks["base"].settings.model)  # whose dynamic layers become decomposed ones
    settings = replace(networks["base"].settings, model=json.loads(plain.replace('"dynamic"', '"dcd"')))
    torch.manual_seed(0)
    decomposed = settings.build_model().eval()
    torch.nn.init.normal_(decomposed.head.final.weight, std=0.1)  # else it answers next to nothing
    networks["decomposed"] = Network(decomposed, settings, trained=False)
    return networks


def installed(names: Sequence[str]) -> list[str]:
    """The formats that can be written and run here, of these; says what the others lack."""
    found = []
    for name in names:
        lacking = [module for module in MODULES.get(name, ()) if importlib.util.find_spec(module) is None]
        if lacking:
            print(f"{name}: left out, {', '.join(lacking)} is not installed")
        else:
            found.append(name)
    return found


def every_runtime(arguments: argparse.Namespace, folder: Path) -> Page:
    """The table of ``--all``."""
    networks = shipped_networks(arguments.data)
    part, reference = None, {}
    if arguments.data:
        tested = networks["base"].settings.data.tested
        annotations = networks["base"].settings.data.path(tested.annotations)
        part = take_part(annotations, tested.images, arguments.persons, folder / "part.json")
        for key, network in networks.items():
            if network.trained:
                reference[key] = average_precision(network.model, network.settings, part)
    page = Page("Every runtime", f"{machine()}, one thread, one image at a time")
    if reference:
        told = ", ".join(f"{key} {ap:.4f}" for key, ap in reference.items())
        page.add(f"AP in PyTorch on a fixed part of {tested.annotations}, annotated boxes: {told}.", "")
    columns = ["runtime", "network", "ms", "ratio", "MB", "difference", "AP", "to PyTorch"]
    page.add(*table_head(columns, 2))
    for name in installed(
        arguments.formats or [name for name, kind in FORMATS.items() if kind.checked and name != "web"]
    ):
        try:
            measured = measure(networks, name, folder, arguments.rounds, arguments.runs, part)
        except ExportError as error:
            print(error)
            continue
        page.add(*map(table_row, rows(name, measured, reference)))
    return page


def every_form(arguments: argparse.Namespace, folder: Path) -> Page:
    """The tables of ``--forms``."""
    networks = shipped_networks(None)
    page = Page("Forms of dynamic layers", f"{machine()}, one thread, one image at a time")
    page.add(*table_head(["format", "form", "base, ms", "to static", "decomposed, ms", "to static"], 2))
    for name in installed(arguments.forms):
        for title, forms in CANDIDATES.items():
            try:
                found = measure(networks, name, folder, arguments.rounds, arguments.runs, forms=forms)
            except ExportError as error:
                page.add(table_row([name, title, "refused", "", "", ""]))
                print(error)
                continue
            numbers = [[f"{found[key].milliseconds:.1f}", f"{found[key].ratio:.2f}"] for key in ("base", "decomposed")]
            page.add(table_row([name, title, *sum(numbers, [])]))
    return page


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", nargs="+", choices=OPENERS, default=list(OPENERS), help="default: all")
    parser.add_argument(
        "--widths", nargs="+", type=positive, default=[0.5, 1.0], help="of MobileNetV2 (default: 0.5 1.0)"
    )
    parser.add_argument("--batch", type=count(), nargs="+", default=[1, 8], help="persons at a time (default: 1 8)")
    parser.add_argument("--threads", type=count(), default=1, help="of each runtime (default: 1)")
    parser.add_argument("--rounds", type=count(), default=10, help="turns (default: 10)")
    parser.add_argument("--runs", type=count(), default=5, help="runs of each network in a turn (default: 5)")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    parser.add_argument("--all", action="store_true", help="the shipped networks in every runtime that is installed")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, help="for --all: these formats (default: all)")
    parser.add_argument("--data", type=Path, help="for --all: the folder of the networks' test set, for AP")
    parser.add_argument("--persons", type=count(), default=500, help="for --all: the part's persons (default: 500)")
    parser.add_argument("--forms", nargs="+", choices=FORMATS, help="compare the forms of layers in these formats")
    arguments = parser.parse_args()
    check_outputs([arguments.write])
    if arguments.all or arguments.forms:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            page = (every_runtime if arguments.all else every_form)(arguments, Path(folder))
        page.write(arguments.write)
        return
    versions = []
    for runtime in arguments.runtimes:
        try:
            versions.append(f"{runtime} {importlib.metadata.version(runtime)}")
        except importlib.metadata.PackageNotFoundError as error:
            extra = "export" if runtime == "onnxruntime" else runtime
            raise MissingExtra(missing(runtime, extra=extra)) from error
    torch.set_num_threads(arguments.threads)
    threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    page = Page("Exported networks in ONNX Runtime and OpenVINO", ", ".join([machine(), *versions, threads]))
    with tempfile.TemporaryDirectory() as folder:
        for width in arguments.widths:
            files = export(Path(folder), width)
            for runtime in arguments.runtimes:
                for batch in arguments.batch:
                    title = f"{NAMES[runtime]}: MobileNetV2 x{width}, Type-B"
                    found = case(files, title, width, runtime, batch, arguments.threads)
                    page.add(*table(found, compare(found, arguments.rounds, arguments.runs)))
    page.write(arguments.write)


if __name__ == "__main__":
    main()
