"""Trained networks as ONNX files: written, described by metadata, and compared with PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pose.config import Settings
from pose.errors import PoseError, require
from pose.export.errors import ExportError
from pose.export.forms import BANKS as RUNTIMES_BANKS
from pose.export.forms import one_image
from pose.export.head import CropKeypoints, KeypointNetwork
from pose.export.proof import TOLERANCE, check_quantized, compare, hold_out
from pose.export.refusal import refusal, refused
from pose.export.registry import BANKS, OUTPUTS, RUNTIMES, check_request, is_dynamic
from pose.files import replacing, told_as
from pose.models.deploy.folding import deploy
from pose.models.pose_net import HEATMAP_STRIDE, MEAN, STD
from pose.onnx_format import METADATA_KEY, NetworkMetadata, onnx_runtime, probe
from pose.options import OptionError

if TYPE_CHECKING:
    import onnx


def export_onnx(
    model: nn.Module,
    settings: Settings,
    path: str | Path,
    output: str = "heatmaps",
    runtime: str = RUNTIMES[0],
    calibration_crops: Tensor | None = None,
    calibration: Mapping[str, Any] | None = None,
    accept: Callable[[Path], None] | None = None,
    bank: str = BANKS[0],
) -> float:
    """Writes a network as an ONNX file with a free batch size and compares the two.

    The file's input ``crops`` is (N, 3, H, W) float32 normalised RGB, and ``heatmaps`` answers (N, K, H / 4, W / 4).
    With ``keypoints`` it is (N, H, W, 3) uint8 RGB, and the file normalises, averages with the mirrored crop and
    decodes as ``settings.test`` says: ``keypoints`` (N, K, 3), x and y in pixels of the crop and the score.

    Args:
        model: A pose network on the CPU; it stays as it is.
        settings: ``model``, ``data.input_size``, ``data.skeleton`` and ``test`` are used.
        path: Replaced only by a file that has passed the comparison.
        output: One of :data:`~pose.export.registry.OUTPUTS`.
        runtime: One of :data:`~pose.export.registry.RUNTIMES`. ``onnxruntime-here`` is the fastest, but only for
            ONNX Runtime on processors like this one: elsewhere the file is refused when it is opened.
        calibration_crops: Normalized crops (N, 3, H, W), N at least 2, for a file of 8 bits, of a static network: some
            set its ranges, some are held out to check it, see :func:`~pose.export.proof.hold_out`; None for float32.
        calibration: How joint scores become probabilities, as the checkpoint keeps it.
        accept: Takes the file before it has its name, and raises a PoseError to refuse it.
        bank: The precision of a dynamic network's kernels, ``float32`` or ``int8``; ``onnxruntime`` computes the latter
            by operations of its own, opset 1 of ``com.microsoft``.

    Returns:
        The largest difference to PyTorch, over batches of 1, 3 and 8: of heatmaps, or of scores. Where keypoints are
        is compared as well, see :func:`pose.export.proof.compare`.

    Raises:
        MissingExtra: ONNX is not installed.
        OptionError: ONNX Runtime is not, or the network, its output or the runtime is not for 8 bits.
        ExportError: The network does not export, or the answers differ by more than 1e-4, those of 8 bits by more
            than :func:`~pose.export.proof.check_quantized` lets pass, or keypoints by more than a hundredth of a
            crop's pixel.
        OutputError: The file cannot be written.
    """
    dynamic = is_dynamic(model)
    check_request("onnx", output, bank, calibration_crops is not None, dynamic=dynamic)
    in_bytes = bank != BANKS[0] and dynamic
    if in_bytes and runtime not in RUNTIMES_BANKS:
        able = " or ".join(name for name in RUNTIMES if name in RUNTIMES_BANKS)
        raise OptionError(f"--bank {bank}: is for --runtime {able}")
    checked, calibrating = hold_out(calibration_crops)
    onnx = require("onnx")
    onnxruntime = onnx_runtime(path)

    from pose.export import batch_scan
    from pose.export.blocked import blocked

    network: nn.Module = deploy(model, fused=False, channels_last=False)
    reference: nn.Module = model.eval()
    width, height = settings.data.input_size
    x, body, here = torch.zeros(2, 3, height, width), None, False
    if dynamic:
        if runtime == "onnxruntime-here":
            body = blocked(network, x[:1])
            here = body is not None
        of_one = one_image(network, runtime, in_bytes)
        body = body or _traced(of_one, x[:1], ["crop"], ["heatmaps"], False, path)
        network = batch_scan.PerImage(network(x[:1]).shape[1:])
    if output == "keypoints":
        network, reference = (with_decoder(part, settings) for part in (network, reference))
        x = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    names = OUTPUTS[output]
    file = _traced(network.eval(), x, ["crops"], list(names), True, path)
    if body is not None:
        batch_scan.expand(file, body)
    if calibrating is not None:
        from pose.export.int8 import quantize

        file = quantize(file, calibrating)
    with replacing(path) as temporary, told_as(temporary, Path(path)):
        if here:
            onnx.save(file, str(temporary))
            probed = probe(onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"]))
        onnx.helper.set_model_props(file, describe(settings, output, probed if here else None, calibration))
        onnx.checker.check_model(file, full_check=not here)  # which knows nothing of ONNX Runtime's own operations
        onnx.save(file, str(temporary))
        difference = compare(temporary, reference, (width, height), output)
        if calibrating is not None or in_bytes:
            check_quantized(temporary, reference, (width, height), checked)
        elif not difference <= TOLERANCE:
            raise ExportError(
                f"{path}: answers differ from PyTorch's by {difference:.3g}, more than {TOLERANCE:g}; not written"
            )
        if accept is not None:
            accept(Path(temporary))
    return difference


def _traced(
    network: nn.Module, x: Tensor, inputs: list[str], outputs: list[str], free: bool, path: str | Path
) -> onnx.ModelProto:
    """:func:`~pose.export.batch_scan.trace`, whose refusal is told of the file.

    Raises:
        ExportError: PyTorch's exporter has no operation for a part of the network; the message names it.
    """
    from pose.export import batch_scan
    from pose.export.writers.onnx_single import write

    try:
        return batch_scan.trace(network, x, inputs, outputs, free)
    except (PoseError, OSError, MemoryError):
        raise
    except Exception as error:  # it has many, and not all of them its own
        what = refused(write, network, x[:1], ".onnx", rounded=False)
        raise refusal(path, "PyTorch's ONNX exporter", what, error, ["torch"]) from error


def with_decoder(network: nn.Module, settings: Settings) -> CropKeypoints:
    """A network that takes crops as they are and ends in keypoints, as ``settings.test`` says.

    Raises:
        ExportError: No graph has the decoder.
    """
    test = settings.test
    try:
        head = KeypointNetwork(network, settings.skeleton(), test.flip, test.flip_shift, test.decode)
    except ValueError as error:
        raise ExportError(str(error)) from error
    return CropKeypoints(head, MEAN, STD, HEATMAP_STRIDE)


def describe(
    settings: Settings,
    output: str,
    probed: list[float] | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The metadata, as JSON: ``pose`` is enough to use the file without this project, ``model`` tells what it is.

    ``pose`` holds the input size, mean and standard deviation of RGB, keypoint names, flip pairs, limbs, sigmas
    and the ``test`` section; and what it answers the probe with, where it is for processors like this one only.
    """
    width, height = settings.data.input_size
    heatmap_size = (width // HEATMAP_STRIDE, height // HEATMAP_STRIDE)
    known = NetworkMetadata(
        settings.skeleton(),
        (width, height),
        heatmap_size,
        MEAN,
        STD,
        asdict(settings.test),
        probed,
        calibration,
        settings.model,
    )
    return {METADATA_KEY: known.to_json(), "model": json.dumps(settings.model), "output": output, "channels": "RGB"}
