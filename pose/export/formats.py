"""Networks as files of many runtimes: one way to write, prove and name the files of :mod:`pose.export.registry`.

ONNX with a free batch size is :mod:`pose.export.onnx_file`'s, which writes its files itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from pose.export.proof import TOLERANCE, check_quantized, compare, hold_out
from pose.export.refusal import refusal, refused
from pose.export.registry import BANKS, check_request, is_dynamic
from pose.files import check_outputs, sha256, told_as
from pose.models.deploy.folding import deploy
from pose.models.dynamic.graph_forms import GraphForms
from pose.onnx_format import METADATA_KEY
from pose.options import OptionError
from pose.runtimes.session import HASHES, details_path

HOMES = {"onnx": "onnx_file", "web": "web_page"}


def export_file(
    model: nn.Module,
    settings: Settings,
    path: str | Path,
    name: str,
    calibration: Mapping[str, Any] | None = None,
    forms: GraphForms | None = None,
    output: str = "heatmaps",
    bank: str = BANKS[0],
    calibration_crops: Tensor | None = None,
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
        name: A key of :data:`~pose.export.registry.FORMATS` that has a writer.
        calibration: How joint scores become probabilities, as the checkpoint keeps it.
        forms: The forms of the layers, in place of the format's, to compare them.
        output: ``heatmaps``, or ``keypoints`` where the format has them.
        bank: One of the format's ``banks``: the precision of dynamic layers' kernels; of a static network nothing.
        calibration_crops: Normalized crops (N, 3, H, W), N at least 2, for a file of 8 bits: some set its ranges, some
            are held out to check it, see :func:`~pose.export.proof.hold_out`; None for float32.
        bfloat16: Whether native layers compute in bfloat16, on processors that do; with calibration crops those that
            stay out of 8 bits.
        accept: Takes the file before it has its name, and raises a PoseError to refuse it.

    Returns:
        The largest difference to PyTorch, of heatmaps or of scores; None where the file cannot be run on this kind of
        machine.

    Raises:
        ExportError: The network does not convert, or the answers differ by more than 1e-4, or keypoints by more than a
            hundredth of a crop's pixel. Those of 8 bits and bfloat16 may differ by more, see
            :func:`~pose.export.proof.check_quantized`.
        MissingExtra: The runtime, its converter or what makes 8 bits is not installed.
        OptionError: There is no such format, or it cannot be what is asked for.
        OutputError: The file cannot be written.
    """
    kind = check_request(name, output, bank, calibration_crops is not None, bfloat16, is_dynamic(model))
    path = Path(path)
    if kind.writer is None:
        raise OptionError(f"--format {name}: has a function of its own, in pose/export/{HOMES[name]}.py")
    if path.suffix != kind.suffix:
        raise OutputError(f"{path}: a file of {kind.runtime} ends in {kind.suffix}; choose such a name")
    if kind.suffix != ".mlpackage":  # which is a folder
        check_outputs(kind.paths(path))
    kind.check_parts(path)
    width, height = settings.data.input_size
    reference = model.eval()
    checked, calibrating = hold_out(calibration_crops)
    if not is_dynamic(model):
        bank = BANKS[0]
    if kind.forms is None:
        network = deploy(model, fused=True, bank_dtype=getattr(torch, bank), channels_last=False)
    else:
        network = deploy(model, fused=False, channels_last=False)
        in_bytes = bank != BANKS[0]
        network = (in_forms(network, forms) if forms else one_image(network, kind.forms, in_bytes)).eval()
    x = torch.zeros(1, 3, height, width)
    if output == "keypoints":
        network, reference = (with_decoder(part, settings).eval() for part in (EachImage(network), reference))
        x = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    writer = importlib.import_module(f"pose.export.writers.{kind.writer}")
    with saving(path, kind.paths(path)) as made:
        try:
            if calibrating is not None and bfloat16:
                writer.write_int8(network, x, calibrating, made, bfloat16=True)
            elif calibrating is not None:
                writer.write_int8(network, x, calibrating, made)
            elif bfloat16:
                writer.write_bfloat16(network, made)
            else:
                write = getattr(writer, "write_bank", writer.write) if bank != BANKS[0] else writer.write
                write(network, x, made)
        except (PoseError, OSError):
            raise
        except Exception as error:  # every converter has exceptions of its own
            rounded = calibrating is not None or bank != BANKS[0]
            what = refused(writer.write, network, x, kind.suffix, rounded)
            request = dict(output=output, bank=bank, int8=calibrating is not None, bfloat16=bfloat16)
            others = [other for other in ("onnx", "torch") if other != name and _can(other, request, is_dynamic(model))]
            raise refusal(made, f"the converter of {kind.runtime}", what, error, others) from error
        entries = describe(settings, output, calibration=calibration)
        assert METADATA_KEY in entries
        if kind.inside:
            writer.describe(made, entries)
        else:
            details = details_path(made)
            parts = [part for part in kind.paths(made) if part != details and part.is_file()]  # Core ML's is a folder
            hashes = {part.suffix: sha256(part) for part in parts}
            details.write_text(json.dumps(entries | {HASHES: hashes}), encoding="utf-8")
        difference = compare(made, reference, (width, height), output) if kind.checked else None
        if kind.checked and (bank != BANKS[0] or calibrating is not None or bfloat16):
            check_quantized(made, reference, (width, height), checked)
        elif difference is not None and not difference <= TOLERANCE:
            raise ExportError(
                f"{made}: answers in {kind.runtime} differ from PyTorch's by {difference:.3g}, "
                f"more than {TOLERANCE:g}; not written"
            )
        if accept is not None:
            accept(made)
    return difference


def _can(name: str, request: Mapping[str, Any], dynamic: bool) -> bool:
    """Whether a format can be what is asked for."""
    try:
        check_request(name, dynamic=dynamic, **request)
    except OptionError:
        return False
    return True


@contextlib.contextmanager
def saving(path: Path, parts: Sequence[Path]) -> Iterator[Path]:
    """A place for a file and what belongs to it, which take their names together when the block ends without an error.

    What had these names is kept until all have them, and put back where one cannot get it: halves of two exports never
    lie side by side. An error that names the place names the file instead.

    Args:
        path: The file.
        parts: The names of all that is written, in its folder.

    Raises:
        OutputError: A file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
            made, before = Path(folder, path.name), Path(folder, "before")
            with told_as(made, path):
                yield made
            before.mkdir()
            try:
                for part in parts:
                    if part.exists():
                        os.replace(part, before / part.name)
                    os.replace(Path(folder, part.name), part)
            except BaseException:
                for part in parts:
                    if (before / part.name).exists():
                        if part.is_dir():
                            shutil.rmtree(part)
                        os.replace(before / part.name, part)
                raise
    except OSError as error:
        if isinstance(error, PoseError):
            raise
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
