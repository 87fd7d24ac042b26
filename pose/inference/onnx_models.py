"""Networks and detectors in ONNX files, run by ONNX Runtime: nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose import heatmap
from pose.errors import CheckpointError
from pose.inference.crops import normalise
from pose.inference.detector import DEFAULT_THRESHOLD, persons_of
from pose.inference.profiler import Profiler
from pose.options import OptionError
from pose.skeleton import Skeleton

METADATA_KEY = "pose"
"""The entry of an ONNX file's metadata that :func:`network_metadata` makes."""


def network_metadata(
    skeleton: Skeleton,
    input_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    test: Mapping[str, Any],
    answers: list[float] | None = None,
) -> str:
    """What :class:`OnnxNetwork` must know of an exported pose network, as text for :data:`METADATA_KEY`.

    Args:
        skeleton: What the K keypoints are.
        input_size: Width and height of the crops.
        heatmap_size: Width and height of the heatmaps.
        mean, std: Of RGB in [0, 1], three each.
        test: The configuration's ``test`` section as a dict.
        answers: Of :func:`probe`, for a file that only some processors run rightly.
    """
    return json.dumps(
        {"skeleton": asdict(skeleton), "input_size": input_size, "heatmap_size": heatmap_size,
         "mean": mean, "std": std, "test": dict(test), "probe": answers}
    )  # fmt: skip


def probe(session: Any) -> list[float]:
    """What a file answers a made-up crop with: the highest value of each keypoint."""
    (entry,) = session.get_inputs()
    crop = np.sin(np.arange(np.prod(entry.shape[1:]), dtype=np.float32)).reshape(1, *entry.shape[1:])
    answer = session.run(None, {entry.name: crop})[-1]
    return answer.reshape(answer.shape[1], -1).max(axis=1).tolist()


class OnnxNetwork:
    """An exported pose network; see :class:`~pose.inference.networks.PoseNetwork`.

    The file has one input, (N, 3, H, W) float32 normalised RGB with any N, and the entry
    :data:`METADATA_KEY`. It has one output, heatmaps (N, K, H', W'), or two: coordinates (N, K, 2) in
    heatmap pixels and scores (N, K), flip averaging included.

    Args:
        path: The file.
        device: ``cpu``, or anything else for a GPU where the installed runtime has one.
        clock: Times the forward passes.

    Attributes:
        test: The ``test`` section that it was exported with.

    Raises:
        CheckpointError: The file is missing, broken or not such a network.
        OptionError: ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path, device: str = "auto", clock: Profiler | None = None) -> None:
        self.clock = clock or Profiler()
        self.session = open_session(path, device)
        text = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        outputs = self.session.get_outputs()
        if text is None or len(self.session.get_inputs()) != 1 or len(outputs) not in (1, 2):
            raise CheckpointError(f"{path}: not a pose network of this project; export one with tools/export.py")
        try:
            known = json.loads(text)
            self.skeleton = Skeleton(**known["skeleton"])
            width, height = known["input_size"]
            columns, rows = known["heatmap_size"]
            self.mean, self.std = (255 * np.array(known[key], np.float32).reshape(3) for key in ("mean", "std"))
            self.test = dict(known["test"])
            self.flip, self.flip_shift, self.decode = (self.test[key] for key in ("flip", "flip_shift", "decode"))
            answers = known.get("probe")
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{path}: its metadata cannot be used ({error!r}); export it again") from error
        if answers and not np.allclose(probe(self.session), answers, rtol=0, atol=1e-2 * np.abs(answers).max()):
            raise CheckpointError(f"{path}: was exported for another kind of processor; export it again on this one")
        self.input_size, self.heatmap_size = (width, height), (columns, rows)
        self.decoded = len(outputs) == 2
        self._name = self.session.get_inputs()[0].name

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, 3) uint8 BGR to coordinates (N, K, 2) in heatmap pixels and scores (N, K)."""
        images = normalise(crops, self.mean, self.std)
        if self.decoded:
            coordinates, scores = self._run(images)
            return coordinates, scores
        (heatmaps,) = self._run(images)
        if self.flip:
            (mirrored,) = self._run(np.ascontiguousarray(images[..., ::-1]))
            heatmaps = heatmap.average_flip(heatmaps, mirrored, self.skeleton.flip_index, self.flip_shift)
        return heatmap.decode(heatmaps, self.decode)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        with self.clock("forward"):
            return self.session.run(None, {self._name: images})


class OnnxDetector:
    """A detector in an ONNX file. Pictures go in as float32 RGB in [0, 1], (1, 3, H, W) or (3, H, W).

    Two kinds are told apart by their outputs. Torchvision's exports have boxes (n, 4) x1, y1, x2, y2,
    labels (n,) with 1 a person, and scores (n,). YOLO's (v8 and later) have one output (1, 4 + C, n) or
    its transpose: centre x, y, width, height and the scores of C classes, the first of them a person.
    Where the file has a fixed input size, the picture is scaled into it and padded.

    Args:
        path: The file.
        threshold: Boxes of a lower score are left out.
        overlap: YOLO boxes that overlap a better one by more than this IoU are left out.

    Raises:
        CheckpointError: The file is missing, no ONNX model, or of neither kind.
    """

    def __init__(self, path: str | Path, threshold: float = DEFAULT_THRESHOLD, overlap: float = 0.6) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self.overlap = overlap
        self.session = open_session(path)
        (entry, *others), outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = entry.shape
        if others or len(shape) not in (3, 4) or len(outputs) not in (1, 3):
            raise CheckpointError(f"{path}: not a detector as torchvision or YOLO export it")
        self.name, self.batched = entry.name, len(shape) == 4
        fixed = [size if isinstance(size, int) and size > 0 else None for size in shape[-2:]]
        self.size = None if None in fixed else (fixed[1], fixed[0])
        self.yolo = len(outputs) == 1
        if self.yolo and self.size is None:
            self.size = (640, 640)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) boxes."""
        scaled, factor = (image, 1.0) if self.size is None else _fit(image, self.size)
        pixels = np.ascontiguousarray(scaled[..., ::-1].transpose(2, 0, 1), np.float32) / 255
        outputs = self.session.run(None, {self.name: pixels[None] if self.batched else pixels})
        if self.yolo:
            boxes, scores, person = self._read_yolo(outputs[0][0])
        else:
            boxes, scores, person = self._read_lists(outputs)
        found = persons_of(boxes / factor, scores, person, self.threshold, image.shape)
        if not self.yolo or not len(found):
            return found
        kept = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 4].tolist(), self.threshold, self.overlap)
        return found[np.sort(np.asarray(kept, np.int64).reshape(-1))]

    def _read_yolo(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = output.T if output.shape[0] < output.shape[1] else output
        corner = rows[:, :2] - rows[:, 2:4] / 2
        return np.concatenate([corner, corner + rows[:, 2:4]], axis=1), rows[:, 4], rows[:, 4:].argmax(axis=1) == 0

    def _read_lists(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, labels and scores in any order: by shape, and labels are integers."""
        arrays = [
            array[0] if array.ndim > 1 and array.shape[0] == 1 and array.shape[-1] != 4 else array for array in outputs
        ]
        boxes = next(array for array in arrays if array.shape[-1:] == (4,) and array.ndim > 1).reshape(-1, 4)
        labels = next(array for array in arrays if array.dtype.kind in "iu").reshape(-1)
        scores = next(array for array in arrays if array.dtype.kind == "f" and array.size == len(boxes)).reshape(-1)
        return boxes, scores, labels == 1


def open_session(path: str | Path, device: str = "auto") -> Any:
    """An ONNX Runtime session, on a GPU where the installed runtime has one.

    Raises:
        CheckpointError: The file is missing or broken.
        OptionError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionError(f"{path}: ONNX files need onnxruntime: pip install onnxruntime") from error
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: ONNX file not found")
    providers = [name for name in onnxruntime.get_available_providers() if device != "cpu" or name.startswith("CPU")]
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime has an exception class for each of its error codes
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path}: not an ONNX model that can be run ({reason})") from error


def _fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The picture scaled into (width, height), grey to the right and below, and the factor."""
    factor = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    canvas = np.full((size[1], size[0], 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, factor
