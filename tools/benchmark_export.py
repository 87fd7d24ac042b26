"""What exported dynamic networks cost beside the static one, in ONNX Runtime and OpenVINO on this machine's CPU.

    OMP_WAIT_POLICY=PASSIVE python tools/benchmark_export.py
    ... python tools/benchmark_export.py --runtimes onnxruntime --write docs/tables/export.md

Type-B pose networks on MobileNetV2, exported in every form, for crops of 256 x 192, and beside them the same networks
in PyTorch by native layers. They are timed as tools/benchmark.py says; a time is that of the whole batch.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from pose.benchmark import Case, Entry, compare, machine, table
from pose.command_line import count, positive
from pose.config import Settings, make_settings
from pose.errors import command
from pose.export.onnx_file import export_onnx
from pose.export.runtimes import OPENERS
from pose.models.deploy.folding import deploy
from pose.options import OptionError
from pose.tables import Page

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
    arguments = parser.parse_args()
    versions = []
    for runtime in arguments.runtimes:
        try:
            versions.append(f"{runtime} {importlib.metadata.version(runtime)}")
        except importlib.metadata.PackageNotFoundError as error:
            extra = "export" if runtime == "onnxruntime" else runtime
            raise OptionError(f"{NAMES[runtime]} is not installed; pip install 'pose[{extra}]'") from error
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
