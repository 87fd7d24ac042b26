"""Exported networks as ONNX files: what a file says of itself, and how it is opened. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import CheckpointError
from pose.options import OptionError
from pose.skeleton import Skeleton

PIXELS = "tensor(uint8)"
"""The type of an input that takes crops as they are."""

LARGEST = 2**15
"""OpenCV warps no image with such a side, and no batch has so many crops."""

METADATA_KEY = "pose"
"""The entry of an ONNX file's metadata that holds :class:`NetworkMetadata`."""


@dataclass(frozen=True)
class NetworkMetadata:
    """What must be known of an exported pose network to use it.

    Args:
        skeleton: Names the K keypoints.
        input_size: Width and height of the crops in pixels.
        heatmap_size: Width and height of the heatmaps.
        mean, std: Three each, of RGB in [0, 1].
        test: The configuration's ``test`` section as a dict.
        probe: What :func:`probe` gave where the file was written, for a file that only some processors run rightly.
        calibration: How joint scores become probabilities, see :mod:`pose.evaluation.calibration`; or None.
        model: The configuration's ``model`` section; None in files that were written before it was kept here.
    """

    skeleton: Skeleton
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    test: Mapping[str, Any] = field(default_factory=dict)
    probe: list[float] | None = None
    calibration: Mapping[str, Any] | None = None
    model: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The text for :data:`METADATA_KEY`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> NetworkMetadata:
        """Reads what :meth:`to_json` wrote; entries that are not known are passed over.

        Raises:
            ValueError, TypeError, KeyError: The text is not such metadata.
        """
        known = json.loads(text)
        width, height = (_whole(value, "input_size") for value in known["input_size"])
        columns, rows = (_whole(value, "heatmap_size") for value in known["heatmap_size"])
        mean, std = (tuple(np.array(known[name], float).reshape(3).tolist()) for name in ("mean", "std"))
        test = dict(known["test"])
        for name in ("flip", "flip_shift", "decode"):
            test[name]  # noqa: B018 - a KeyError names the one that is missing
        for name in ("flip_shift", "rescore_threshold", "nms_threshold"):
            if name in test and not isinstance(test[name], (int, float)):
                raise TypeError(f"{name} is {test[name]!r}, no number")
        if "batch_size" in test:
            _whole(test["batch_size"], "batch_size")
        return cls(
            Skeleton(**known["skeleton"]),
            (width, height),
            (columns, rows),
            mean,
            std,
            test,
            known.get("probe"),
            known.get("calibration"),
            known.get("model"),
        )


def _whole(value: Any, name: str) -> int:
    """A side in pixels or a number of crops; TypeError or ValueError where it is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} holds {value!r}, no whole number")
    if not 0 < value < LARGEST:
        raise ValueError(f"{name} holds {value}")
    return value


def onnx_runtime(path: str | Path) -> Any:
    """The library that runs ONNX files; ``path`` is for the message.

    Raises:
        OptionError: It is not installed, or cannot be imported.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionError(f"{path}: ONNX files need onnxruntime ({error}): pip install onnxruntime") from error
    return onnxruntime


def open_session(path: str | Path, device: str = "auto", threads: int = 0) -> Any:
    """An ONNX Runtime session, on a GPU where the installed runtime has one; 0 threads are the runtime's choice.

    Raises:
        CheckpointError: The file is missing or broken.
        OptionError: ONNX Runtime is not installed.
    """
    onnxruntime = onnx_runtime(path)
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: ONNX file not found")
    providers = [name for name in onnxruntime.get_available_providers() if device != "cpu" or name.startswith("CPU")]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has an exception class for each of its error codes
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path}: not an ONNX model that can be run ({reason})") from error


def open_network(path: str | Path, device: str = "auto", threads: int = 0) -> tuple[Any, NetworkMetadata]:
    """A session and the metadata of an exported pose network.

    The file has one input, (N, 3, H, W) float32 normalized RGB, and the entry :data:`METADATA_KEY`. It has one output,
    heatmaps (N, K, H', W'), or two, as files before version 0.2 have: coordinates (N, K, 2) in heatmap pixels and
    scores (N, K), flip averaging included. Or its input is (N, H, W, 3) uint8 RGB, and its output (N, K, 3) in pixels.

    Args:
        path: The file.
        device: ``cpu``, or anything else for a GPU where the installed runtime has one.
        threads: The CPU's threads; 0 leaves it to the runtime.

    Raises:
        CheckpointError: The file is missing, broken, not such a network, or was written for another processor.
        OptionError: ONNX Runtime is not installed.
    """
    session = open_session(path, device, threads)
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None or len(session.get_inputs()) != 1 or len(session.get_outputs()) not in (1, 2):
        raise CheckpointError(f"{path}: not a pose network of this project; export one with tools/export.py")
    try:
        metadata = NetworkMetadata.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: its metadata cannot be used ({error!r}); export it again") from error
    expected = metadata.probe
    if expected and not np.allclose(probe(session), expected, rtol=0, atol=1e-2 * np.abs(expected).max()):
        raise CheckpointError(f"{path}: was exported for another kind of processor; export it again on this one")
    return session, metadata


def probe(session: Any) -> list[float]:
    """The highest value of each keypoint that a file's network gives for a made-up crop."""
    (entry,) = session.get_inputs()
    crop = np.sin(np.arange(np.prod(entry.shape[1:]), dtype=np.float32)).reshape(1, *entry.shape[1:])
    if entry.type == PIXELS:
        crop = (127 * crop + 128).astype(np.uint8)
    output = session.run(None, {entry.name: crop})[-1]
    output = output[..., 2] if entry.type == PIXELS else output
    return output.reshape(output.shape[1], -1).max(axis=1).tolist()
