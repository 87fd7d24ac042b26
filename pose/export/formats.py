"""Networks as files of many runtimes: one registry of formats, one way to write, prove and name their files.

ONNX with a free batch size, keypoints and 8 bits is :mod:`pose.export.onnx_file`'s, which proves its files itself.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.config import Settings
from pose.errors import OutputError, PoseError
from pose.export.errors import ExportError
from pose.export.forms import in_forms, one_image
from pose.export.head import EachImage
from pose.export.onnx_file import describe, with_decoder
from pose.export.proof import TOLERANCE, check_rounded, compare
from pose.files import check_outputs
from pose.models.deploy.folding import deploy
from pose.models.dynamic.graph_forms import GraphForms
from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.onnx_format import METADATA_KEY
from pose.options import OptionError, nearest
from pose.runtimes.session import DETAILS


@dataclass(frozen=True)
class Format:
    """A kind of exported file.

    Args:
        suffix: What its name ends with.
        writer: Module of :mod:`pose.export.writers`; None for what :mod:`pose.export.onnx_file` or
            :mod:`pose.export.web_page` write.
        forms: What its layers are written as, a key of :data:`~pose.export.forms.FORMS`; None for native layers.
        runtime: What executes it, for people.
        part: Suffix of a second file.
        inside: The metadata is in the file, not beside it.
        checked: It can be executed on this kind of machine.
        keypoints: It can end in keypoints.
        any_batch: It takes any number of images, and is checked with several.
        int8: It can be of 8 bits.
        banks: The precisions that a dynamic network's kernels can have.
    """

    suffix: str
    writer: str | None
    forms: str | None
    runtime: str
    part: str | None = None
    inside: bool = False
    checked: bool = True
    keypoints: bool = False
    any_batch: bool = False
    int8: bool = False
    banks: tuple[str, ...] = ("float32",)

    def paths(self, path: str | Path) -> list[Path]:
        """Every file that is written for a name, the named one last."""
        path = Path(path)
        beside = [] if self.inside else [path.with_name(path.name + DETAILS)]
        return [*([path.with_suffix(self.part)] if self.part else []), *beside, path]


BANKS = ("float32", "bfloat16", "int8")
"""The precisions of dynamic layers' kernels in a file."""
IN_BYTES = ("float32", "int8")

FORMATS = {
    "onnx": Format(
        ".onnx", None, "onnxruntime", "ONNX Runtime", inside=True, keypoints=True, int8=True, banks=IN_BYTES
    ),
    "onnx-single": Format(".onnx", "onnx_single", "onnx-single", "ONNX Runtime", inside=True, keypoints=True),
    "openvino": Format(
        ".xml", "openvino", "openvino", "OpenVINO", part=".bin", keypoints=True, int8=True, banks=IN_BYTES
    ),
    "ncnn": Format(".param", "ncnn", "ncnn", "ncnn", part=".bin"),
    "mnn": Format(".mnn", "mnn", "mnn", "MNN"),
    "litert": Format(".tflite", "litert", "litert", "LiteRT", int8=True, banks=IN_BYTES),
    "executorch": Format(".pte", "executorch", "executorch", "ExecuTorch", banks=IN_BYTES),
    "torch": Format(".pt2", "torch_program", "torch", "PyTorch", any_batch=True),
    "native": Format(".native", "native", None, "native layers", inside=True, any_batch=True, int8=True, banks=BANKS),
    "coreml": Format(".mlpackage", "coreml", "coreml", "Core ML", checked=False),
    "web": Format(".html", None, "onnxruntime", "the browser", inside=True),
}

HOMES = {"onnx": "onnx_file", "web": "web_page"}


def check_bank(name: str, bank: str, output: str = "heatmaps", int8: bool = False) -> None:
    """Whether a format can have a bank of a precision.

    Raises:
        OptionError: It cannot, or not with such an output or with arithmetic in 8 bits.
    """
    if bank == BANKS[0]:
        return
    if bank not in find_format(name).banks:
        able = ", ".join(other for other, kind in FORMATS.items() if bank in kind.banks)
        raise OptionError(f"--format {name}: has no {bank} bank; it is for {able or 'no format'}")
    if name != "native" and (int8 or output != "heatmaps"):
        raise OptionError(f"--format {name}: --bank {bank} is for heatmaps, without --int8; native has both")


def find_format(name: str) -> Format:
    """A format by its name.

    Raises:
        OptionError: There is none; the message has the nearest.
    """
    if name not in FORMATS:
        raise OptionError(f"--format: unknown {name!r}: {nearest(name, FORMATS)}")
    return FORMATS[name]


def export_file(
    model: nn.Module,
    settings: Settings,
    path: str | Path,
    name: str,
    calibration: Mapping[str, Any] | None = None,
    forms: GraphForms | None = None,
    output: str = "heatmaps",
    bank: str = BANKS[0],
    int8: Tensor | None = None,
    bfloat16: bool = False,
    accept: Callable[[Path], None] | None = None,
) -> float | None:
    """Writes a network in a format, runs it there and compares it with PyTorch; only then the files get their names.

    The input is (1, 3, H, W) float32 normalized RGB, or (N, 3, H, W) where the format takes any batch, and the output
    are heatmaps; or with ``keypoints`` crops as they are, (1, H, W, 3) uint8 RGB, to (1, K, 3), as of
    :func:`~pose.export.onnx_file.export_onnx`.

    Args:
        model: A pose network on the CPU; it stays as it is.
        settings: ``model``, ``data.input_size``, ``data.skeleton`` and ``test`` are used.
        path: The file.
        name: A key of :data:`FORMATS` that has a writer.
        calibration: How joint scores become probabilities, as the checkpoint keeps it.
        forms: The forms of the layers, in place of the format's, to compare them.
        output: ``heatmaps``, or ``keypoints`` where the format has them.
        bank: The precision of dynamic layers' kernels, one of those that the format has; of a static network nothing.
        int8: Normalized crops (N, 3, H, W) to make a file of 8 bits with; None for float32.
        bfloat16: Whether native layers compute in bfloat16, on processors that do.
        accept: Takes the file before it has its name, and raises an ExportError to refuse it.

    Returns:
        The largest difference to PyTorch, of heatmaps or of scores; None where the file cannot be run on this kind of
        machine.

    Raises:
        ExportError: The network does not convert, or the answers differ by more than 1e-4, or keypoints by more than a
            hundredth of a crop's pixel. Those of 8 bits and bfloat16 may differ by more, native
            layers' and those with a bank of 8 bits as :func:`~pose.export.proof.rough_difference` says.
        MissingExtra: The runtime, its converter or what makes 8 bits is not installed.
        OptionError: There is no such format, or it has no keypoints, no 8 bits or no such bank.
        OutputError: The file cannot be written.
    """
    kind, path = find_format(name), Path(path)
    check_bank(name, bank, output, int8 is not None)
    if int8 is not None and (not kind.int8 or output != "heatmaps"):
        able = ", ".join(key for key, other in FORMATS.items() if other.int8)
        raise OptionError(f"--format {name} with {output}: has no 8 bits; {able} have, with heatmaps")
    if bfloat16 and (kind.forms is not None or int8 is not None):
        raise OptionError(f"--format {name}: --bfloat16 is for native, and in place of --int8")
    if kind.writer is None:
        raise OptionError(f"--format {name}: has a function of its own, in pose/export/{HOMES[name]}.py")
    if path.suffix != kind.suffix:
        raise OutputError(f"{path}: a file of {kind.runtime} ends in {kind.suffix}; choose such a name")
    if kind.suffix != ".mlpackage":  # which is a folder
        check_outputs(kind.paths(path))
    width, height = settings.data.input_size
    reference = model.eval()
    if kind.forms is None:
        network = deploy(model, fused=True, bank_dtype=getattr(torch, bank), channels_last=False)
    else:
        network = deploy(model, fused=False, channels_last=False)
        in_bytes = bank != BANKS[0] and any(isinstance(part, PerImageConv2d) for part in network.modules())
        bank = bank if in_bytes else BANKS[0]
        network = (in_forms(network, forms) if forms else one_image(network, kind.forms, in_bytes)).eval()
    x = torch.zeros(1, 3, height, width)
    if output == "keypoints":
        if not kind.keypoints:
            able = ", ".join(key for key, other in FORMATS.items() if other.keypoints)
            raise OptionError(f"--format {name}: gives heatmaps; keypoints are for {able}")
        network, reference = (with_decoder(part, settings).eval() for part in (EachImage(network), reference))
        x = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    writer = importlib.import_module(f"pose.export.writers.{kind.writer}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
            made = Path(folder, path.name)
            try:
                if int8 is not None:
                    writer.write_int8(network, x, int8, made)
                elif bfloat16:
                    writer.write_bfloat16(network, made)
                else:
                    write = getattr(writer, "write_bank", writer.write) if bank != BANKS[0] else writer.write
                    write(network, x, made)
            except ExportError as error:
                raise ExportError(str(error).replace(str(made), str(path))) from error
            except (PoseError, OSError):
                raise
            except Exception as error:  # every converter has exceptions of its own
                said = " ".join(str(error).split())[:300]
                raise ExportError(f"{path}: the converter of {kind.runtime} refuses the network ({said})") from error
            entries = describe(settings, output, calibration=calibration)
            assert METADATA_KEY in entries
            if kind.inside:
                writer.describe(made, entries)
            else:
                made.with_name(made.name + DETAILS).write_text(json.dumps(entries), encoding="utf-8")
            difference = compare(made, reference, (width, height), output) if kind.checked else None
            if bank != BANKS[0] or kind.forms is None and (int8 is not None or bfloat16):
                check_rounded(path, made, reference, (width, height), int8)
            elif int8 is None and difference is not None and not difference <= TOLERANCE:
                raise ExportError(
                    f"{path}: answers in {kind.runtime} differ from PyTorch's by {difference:.3g}, "
                    f"more than {TOLERANCE:g}; not written"
                )
            if accept is not None:
                accept(made)
            for part in kind.paths(path):
                if part.is_dir():
                    shutil.rmtree(part)
                os.replace(Path(folder, part.name), part)
    except OSError as error:
        if isinstance(error, PoseError):
            raise
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    return difference
