"""Trained networks as ONNX files: written, described by metadata, and compared with PyTorch."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pose.datasets.loader import MEAN, STD
from pose.engine.config import Settings
from pose.errors import PoseError
from pose.export.forms import free_batch
from pose.export.head import KeypointNetwork
from pose.files import replacing
from pose.inference.onnx_models import METADATA_KEY, network_metadata
from pose.models.deploy import deploy
from pose.models.pose_net import HEATMAP_STRIDE

OPSET = 17
OUTPUTS = {"heatmaps": ("heatmaps",), "keypoints": ("coordinates", "scores")}
"""What a file can answer with, and the names of its outputs."""

CHECKED_BATCHES = (1, 3, 8)
TOLERANCE = 1e-4


class ExportError(PoseError, RuntimeError):
    """A network that cannot be exported, or whose file answers differently."""


def export_onnx(model: nn.Module, settings: Settings, path: str | Path, output: str = "heatmaps") -> float:
    """Writes a network as an ONNX file with a free batch size and compares the two.

    The file's input ``crops`` is (N, 3, H, W) float32 normalised RGB. ``heatmaps`` answers (N, K, H / 4, W / 4);
    ``keypoints`` averages with the mirrored crop and decodes as ``settings.test`` says, and answers
    ``coordinates`` (N, K, 2) in heatmap pixels and ``scores`` (N, K).

    Args:
        model: A pose network on the CPU; it stays as it is.
        settings: ``model``, ``data.input_size``, ``data.skeleton`` and ``test`` are used.
        path: Replaced only by a file that has passed the comparison.
        output: One of :data:`OUTPUTS`.

    Returns:
        The largest difference to PyTorch, over batches of 1, 3 and 8; scores alone for keypoints, since an
        equal peak at two pixels may be found at either.

    Raises:
        ExportError: A package is missing, the network does not export, or the answers differ by more than 1e-4.
        OutputError: The file cannot be written.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed; pip install 'pose[export]'") from error
    network = free_batch(deploy(model, fused=False, channels_last=False))
    reference: nn.Module = model.eval()
    test = settings.test
    if output == "keypoints":
        choices = (settings.skeleton(), test.flip, test.flip_shift, test.decode)
        try:
            network, reference = KeypointNetwork(network, *choices), KeypointNetwork(reference, *choices)
        except ValueError as error:
            raise ExportError(str(error)) from error
    width, height = settings.data.input_size
    names = OUTPUTS[output]
    with replacing(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants it traces, all of which are meant, and of its age
            torch.onnx.export(
                network.eval(),
                (torch.zeros(2, 3, height, width),),
                str(temporary),
                input_names=["crops"],
                output_names=list(names),
                dynamic_axes={name: {0: "batch"} for name in ("crops", *names)},
                opset_version=OPSET,
                dynamo=False,
            )
        file = onnx.load(str(temporary))
        onnx.helper.set_model_props(file, describe(settings, output))
        onnx.checker.check_model(file, full_check=True)
        onnx.save(file, str(temporary))
        difference = compare(temporary, reference, (width, height), output)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path}: answers differ from PyTorch's by {difference:.3g}, more than {TOLERANCE:g}; not written"
            )
    return difference


def describe(settings: Settings, output: str) -> dict[str, str]:
    """The metadata, as JSON: ``pose`` is enough to use the file without this project, ``model`` tells what it is.

    ``pose`` holds the input size, mean and standard deviation of RGB, keypoint names, flip pairs, limbs, sigmas
    and the ``test`` section.
    """
    width, height = settings.data.input_size
    heatmap_size = (width // HEATMAP_STRIDE, height // HEATMAP_STRIDE)
    pose = network_metadata(settings.skeleton(), (width, height), heatmap_size, MEAN, STD, test=asdict(settings.test))
    return {METADATA_KEY: pose, "model": json.dumps(settings.model), "output": output, "channels": "RGB"}


@torch.no_grad()
def compare(path: str | Path, reference: nn.Module, input_size: tuple[int, int], output: str = "heatmaps") -> float:
    """The largest difference between ONNX Runtime's answers and PyTorch's, over several batch sizes.

    Args:
        path: The file.
        reference: The network in PyTorch, with the file's outputs.
        input_size: Width and height.
        output: One of :data:`OUTPUTS`; of keypoints only the scores are compared.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in CHECKED_BATCHES:
        x = torch.randn(batch, 3, input_size[1], input_size[0], generator=generator)
        expected = reference(x)
        expected = expected[1] if output == "keypoints" else expected
        answer = session.run(None, {"crops": x.numpy()})[-1]
        worst = max(worst, float(np.abs(answer - expected.numpy()).max()))
    return worst
