"""Which formats can be written and run where this is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Collection, Sequence

from pose.errors import EXTRAS, MissingExtra, missing
from pose.export.registry import FORMATS, Format
from pose.models import native

HERE = "onnx-here"
"""An ONNX file for ONNX Runtime on processors like this one: ``--format onnx --runtime onnxruntime-here``."""
MODULES = {
    "native": [],
    "onnx": ["onnx", "onnxruntime"],
    HERE: ["onnx", "onnxruntime"],
    "onnx-single": ["onnx", "onnxruntime"],
    "openvino": ["onnx", "openvino"],
    "ncnn": ["pnnx", "ncnn"],
    "mnn": ["onnx", "MNN"],
    "litert": ["litert_torch", "ai_edge_litert"],
    "executorch": ["executorch"],
    "torch": ["torch"],
}
"""What must be installed to write and run a format; the last is the runtime. Native layers are this project's own."""

QUANTIZERS = {
    ("litert", "--int8"): "ai_edge_quantizer",
    ("litert", "--bank"): "ai_edge_quantizer",
    ("openvino", "--int8"): "nncf",
    ("executorch", "--bank"): "torchao",
}
"""What else must be installed for an option of a format that rounds; the others need no more."""


def format_of(name: str) -> Format:
    """A format of :data:`MODULES`."""
    return FORMATS["onnx" if name == HERE else name]


def _lacking(name: str) -> list[str]:
    """The modules of a format that are not installed."""
    return [module for module in MODULES.get(name, ()) if importlib.util.find_spec(module) is None]


def check_installed(name: str, options: Collection[str] = ()) -> None:
    """Tells what a format lacks before anything else is read or computed for it.

    Args:
        name: A format; those that :data:`MODULES` does not have pass.
        options: What is asked of it, among them ``--int8`` and ``--bank``.

    Raises:
        MissingExtra: What writes, rounds or runs it is not installed.
    """
    for module in _lacking(name):
        if module in EXTRAS:
            raise MissingExtra(missing(module, f"--format {name}"))
    for option in options:
        quantizer = QUANTIZERS.get((name, option))
        if quantizer is not None and importlib.util.find_spec(quantizer) is None:
            raise MissingExtra(missing(quantizer, f"{option} of --format {name}"))


def installed(names: Sequence[str]) -> list[str]:
    """The formats that can be written and run here, of these; says what the others lack."""
    found = []
    for name in names:
        if lacking := _lacking(name):
            print(f"{name}: left out, {', '.join(lacking)} is not installed")
        elif name == "native" and not native.available():
            print("native: left out, its library is not built and cannot be")
        else:
            found.append(name)
    return found


def runtime_of(name: str) -> str:
    """The runtime of a format and, where it is not this project itself, its version."""
    if not MODULES[name]:
        return format_of(name).runtime
    module = MODULES[name][-1]
    distributions = importlib.metadata.packages_distributions().get(module, [module])
    return f"{format_of(name).runtime} {importlib.metadata.version(distributions[0])}"
