"""What exported dynamic networks cost beside the static one, in every runtime that is installed, on this machine's CPU.

    OMP_WAIT_POLICY=PASSIVE python tools/benchmark_export.py
    ... python tools/benchmark_export.py --runtimes onnxruntime --write docs/tables/export.md
    ... python tools/benchmark_export.py --all --data data/people --write docs/tables/runtimes.md
    ... python tools/benchmark_export.py --all --formats litert executorch --files FOLDER
    ... python tools/benchmark_export.py --forms litert ncnn

Type-B pose networks on MobileNetV2, exported in every form, for crops of 256 x 192, and beside them the same networks
in PyTorch by native layers. They are timed as tools/benchmark.py says; a time is that of the whole batch.

--all takes the networks that come with the repository, and a decomposed one of the same architecture with random
weights, through every format whose runtime is installed: milliseconds of one image with one thread, ratio to the static
network, size, difference to PyTorch and, with --data, AP on a fixed part of a test set; where a format has them, banks
in 8 bits as well. --files keeps files, and takes those that are there: converters take minutes. --forms compares, for
formats, the ways to write a dynamic layer, see docs/benchmarks/runtimes.md.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pose.benchmark import Case, Entry, compare, machine, table
from pose.command_line import CommandParser, count, positive
from pose.config import Settings, make_settings
from pose.errors import MissingExtra, command, missing
from pose.export.errors import ExportError
from pose.export.forms import CONSTANT_PIXELS
from pose.export.forms import FORMS as FORMS_OF
from pose.export.installed import HERE, MODULES, format_of, installed, runtime_of
from pose.export.measured_networks import average_precision, shipped_networks, take_part
from pose.export.onnx_file import export_onnx
from pose.export.registry import FORMATS
from pose.export.runtime_table import measure, rows
from pose.export.runtimes import OPENERS
from pose.models.deploy.folding import deploy
from pose.models.dynamic.graph_forms import COMPUTED
from pose.tables import Page, check_page, table_head, table_row
from pose.wording import counted

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
CANDIDATES = {
    "base": {
        "computed": COMPUTED,
        "1 x 1 as products": COMPUTED._replace(pointwise="product"),
        "fully connected as convolution": COMPUTED._replace(linear="convolution"),
        "the same, kernels summed": FORMS_OF["openvino"],
        "depthwise as chain": COMPUTED._replace(depthwise="chain"),
        "the same, computed where large": FORMS_OF["onnxruntime"],
        "depthwise as chain, 1 x 1 as products, averages kept, shares sliced": FORMS_OF["executorch"],
        "1 x 1 as products, channels last": FORMS_OF["litert"],
        "the same, all kernels up to 32 pixels": FORMS_OF["litert"]._replace(constant_pixels=CONSTANT_PIXELS),
        "the same up to 120 pixels": FORMS_OF["litert"]._replace(constant_pixels=120),
    },
    "decomposed": {
        "computed": COMPUTED,
        "fully connected as convolution": FORMS_OF["openvino"],
        "averages kept": FORMS_OF["executorch"],
        "channels last": FORMS_OF["litert"],
    },
}
"""Forms of :func:`every_form`, by network and the name of the row."""
IN_BYTES = ", bank in 8 bits"
OF_ALL = ["base_static", "base", "decomposed", f"base{IN_BYTES}", f"decomposed{IN_BYTES}"]
"""The networks of :func:`every_runtime`; ratios are to the first of those that are chosen."""
OF_ONE_IMAGE = [name for name, kind in FORMATS.items() if kind.writer and kind.checked and name != "torch"]
"""Formats whose layers may have any form."""


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


def new_page(title: str, arguments: argparse.Namespace) -> Page:
    """An empty page that says how it is measured."""
    return Page(
        title,
        f"{machine()}, one thread, one image at a time. Processor time, the median of {arguments.rounds} turns in "
        f"which each network takes {arguments.runs} runs; ratios are of the same turn. Programs that ran beside it "
        "(the load is that before the first turn) take memory bandwidth and caches from all networks, so ratios count, "
        "to about a tenth, and milliseconds are for this load.",
    )


def every_runtime(arguments: argparse.Namespace, folder: Path) -> Page:
    """The table of ``--all``."""
    networks = shipped_networks(arguments.data)
    for key in ("base", "decomposed"):
        networks[f"{key}{IN_BYTES}"] = replace(networks[key], bank="int8")
    networks = {key: network for key, network in networks.items() if key in arguments.networks}
    part, reference = None, {}
    if arguments.data:
        settings = next(iter(networks.values())).settings
        tested = settings.data.tested
        annotations = settings.data.path(tested.annotations)
        part = take_part(annotations, tested.images, arguments.persons, folder / "part.json")
        for key, network in networks.items():
            if network.trained and network.bank == "float32":
                reference[key] = average_precision(network.model, network.settings, part)
    page = new_page("Every runtime", arguments)
    if reference:
        told = ", ".join(f"{key} {ap:.4f}" for key, ap in reference.items())
        page.add(f"AP in PyTorch on a fixed part of {tested.annotations}, annotated boxes: {told}.", "")
    columns = ["runtime", "format", "network", "ms", "ratio", "MB", "difference", "AP", "to PyTorch"]
    page.add(*table_head(columns, 3))

    def told(key: str, error: ExportError) -> None:
        print(f"{key}: left out, {error}")

    if "base" in reference:
        reference[f"base{IN_BYTES}"] = reference["base"]

    for name in installed(arguments.formats):
        banks = ("float32",) if name == HERE else format_of(name).banks
        those = {key: network for key, network in networks.items() if network.bank in banks}
        try:
            measured = measure(those, name, folder, arguments.rounds, arguments.runs, part, refused=told)
        except ExportError as error:
            print(error)
            continue
        page.add(*map(table_row, rows(name, runtime_of(name), measured, reference)))
    return page


def every_form(arguments: argparse.Namespace, folder: Path) -> Page:
    """The table of ``--forms``."""
    plain = shipped_networks(None)
    networks = {"static": plain["base_static"]}
    for kind, candidates in CANDIDATES.items():
        networks |= {f"{kind}, {title}": replace(plain[kind], forms=forms) for title, forms in candidates.items()}
    page = new_page("Forms of dynamic layers", arguments)
    page.add(*table_head(["runtime", "format", "network and form", "ms", "to static"], 3))
    for name in installed(arguments.forms):
        runtime = runtime_of(name)

        def refused(key: str, error: ExportError, place: Sequence[str] = (runtime, name)) -> None:
            page.add(table_row([*place, key, "refused", ""]))
            print(error)

        try:
            found = measure(networks, name, folder, arguments.rounds, arguments.runs, refused=refused)
        except ExportError as error:
            print(error)
            continue
        for key, one in found.items():
            page.add(table_row([runtime, name, key, f"{one.milliseconds:.1f}", f"{one.ratio:.2f}"]))
    return page


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("--runtimes", nargs="+", choices=OPENERS, default=list(OPENERS), help="default: all")
    parser.add_argument(
        "--widths", nargs="+", type=positive, default=[0.5, 1.0], help="of MobileNetV2 (default: 0.5 1.0)"
    )
    parser.add_argument("--batch", type=count(), nargs="+", default=[1, 8], help="persons at a time (default: 1 8)")
    parser.add_argument("--threads", type=count(most=1024), default=1, help="of each runtime (default: 1)")
    parser.add_argument("--rounds", type=count(2), default=10, help="turns (default: 10)")
    parser.add_argument("--runs", type=count(), default=5, help="runs of each network in a turn (default: 5)")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    parser.add_argument("--all", action="store_true", help="the shipped networks in every runtime that is installed")
    parser.add_argument("--formats", nargs="+", choices=MODULES, default=list(MODULES), help="for --all (default: all)")
    parser.add_argument("--networks", nargs="+", choices=OF_ALL, default=OF_ALL, help="for --all (default: all)")
    parser.add_argument("--files", type=Path, help="keep the files in this folder, and take those that are there")
    parser.add_argument("--data", type=Path, help="for --all: the folder of the networks' test set, for AP")
    parser.add_argument("--persons", type=count(), default=500, help="for --all: the part's persons (default: 500)")
    parser.add_argument("--forms", nargs="+", choices=OF_ONE_IMAGE, help="compare the forms of layers in these formats")
    arguments = parser.parse_args()
    check_page(arguments.write)
    if arguments.all or arguments.forms:
        torch.set_num_threads(1)
        if arguments.files:
            arguments.files.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            page = (every_runtime if arguments.all else every_form)(arguments, arguments.files or Path(folder))
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
    threads = counted(arguments.threads, "thread")
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
