"""The predictor: images become poses by the way of a sample in testing.

predictor = Predictor.from_config("configs/quickstart.py", "best.pth")
poses = predictor("street.jpg", boxes=[[120, 40, 80, 200]])
poses.keypoints[0]  # (17, 3): x, y in pixels of the image, and the joint's score
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from pose.datasets.images import warp
from pose.errors import CheckpointError, DataError, require
from pose.evaluation.calibration import JointCalibration, read_calibration
from pose.evaluation.oks import NMS_THRESHOLD, RESCORE_THRESHOLD, nms_per_image, rescore
from pose.geometry import boxes_to_centers_scales, crop_affine, heatmap_to_image
from pose.inference.boxes import as_boxes, check_inside, whole_image
from pose.inference.detector import Detector, default_detector
from pose.inference.images import Image, as_image
from pose.inference.networks import PoseNetwork, TorchNetwork
from pose.inference.profiler import Profiler
from pose.poses import Poses
from pose.weights import shipped

SCORING = ("batch_size", "rescore", "rescore_threshold", "nms", "nms_threshold")
"""Settings of a configuration's ``test`` section that are the predictor's own."""


class Predictor:
    """Finds the keypoints of persons in pictures, all crops of all pictures in batches.

    Args:
        network: Finds the keypoints of crops.
        detector: Finds the boxes (N, 4 or 5) of an image (H, W, 3), for calls without boxes.
        batch_size: Most crops of one forward pass.
        rescore: Person score = box score x mean joint score, else the box score.
        rescore_threshold: Joints above this score count in that mean.
        nms: ``greedy``, ``soft`` or ``off``: OKS suppression of persons found twice in a picture.
        nms_threshold: The OKS threshold of that suppression.
        profiler: Times the stages.
        calibration: Turns joint scores into probabilities, for people to see; person scores are of the raw ones.
    """

    def __init__(
        self,
        network: PoseNetwork,
        detector: Callable[[np.ndarray], ArrayLike] = whole_image,
        batch_size: int = 64,
        rescore: bool = True,
        rescore_threshold: float = RESCORE_THRESHOLD,
        nms: str = "greedy",
        nms_threshold: float = NMS_THRESHOLD,
        profiler: Profiler | None = None,
        calibration: JointCalibration | None = None,
    ) -> None:
        self.calibration = calibration
        self.network = network
        self.detector = detector
        self.batch_size = batch_size
        self.rescore = rescore
        self.rescore_threshold = rescore_threshold
        self.nms = nms
        self.nms_threshold = nms_threshold
        self.profiler = profiler or Profiler()

    @property
    def native(self) -> bool | None:
        """Whether its network runs by native layers; None for an exported file's."""
        return self.network.settings.native if isinstance(self.network, TorchNetwork) else None

    @classmethod
    def from_config(
        cls,
        config: str | Path,
        checkpoint: str | Path,
        overrides: Mapping[str, Any] | None = None,
        device: str = "auto",
        may_compile: bool = False,
    ) -> Predictor:
        """A predictor for a trained network; everything follows the configuration's ``test`` section.

        Args:
            config: The configuration file that the network was trained with.
            checkpoint: The network's weights.
            overrides: Dotted keys to values, e.g. ``{"test.flip": False}``.
            device: ``cpu``, ``cuda``, ``cuda:1`` ..., or ``auto`` for a GPU where there is one.
            may_compile: Where the configuration leaves ``test.native`` open, native layers may be compiled first.

        Raises:
            OptionError: The configuration or the device is wrong.
            CheckpointError: The checkpoint is broken or of another network.
            MissingExtra: PyTorch is not installed, which every checkpoint needs; :meth:`from_file` does without.
        """
        require("torch", "a checkpoint")
        from pose.checkpoint import load_weights
        from pose.config import load_settings
        from pose.device import choose_device
        from pose.models import native

        settings = load_settings(config, overrides)
        model = settings.build_model()
        contents = load_weights(model, checkpoint)
        size, where, profiler = settings.data.input_size, choose_device(device), Profiler()
        test = replace(settings.test, native=native.chosen(settings.test.native, where, may_compile))
        network = TorchNetwork(model, settings.skeleton(), size, test, where, profiler)
        known = read_calibration(contents.get("calibration"), network.skeleton, test.flip, checkpoint)
        return cls(network, **{name: getattr(test, name) for name in SCORING}, profiler=profiler, calibration=known)

    @classmethod
    def from_weights(
        cls,
        name: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        device: str = "auto",
        detector: Detector | None = None,
        may_compile: bool = False,
    ) -> Predictor:
        """A predictor for a network that comes with the repository, and its person detector.

        Args:
            name: A name of ``weights`` in ``data/weights/index.json``; None takes the default there.
            overrides: Dotted keys of the configuration to values, e.g. ``{"test.flip": False}``.
            device: ``cpu``, ``cuda``, ``cuda:1`` ..., or ``auto`` for a GPU where there is one.
            detector: Finds the boxes (N, 5) of an image, e.g. one of :func:`~pose.inference.detector.load_detector`, or
                :func:`~pose.inference.boxes.whole_image` for one person who fills the image. None takes the
                detector that comes with the repository.
            may_compile: Where ``test.native`` is left open, native layers may be compiled first, for some seconds.

        Raises:
            OptionError: No weights have this name, or the device is wrong.
            CheckpointError: The weights are missing or changed.
            MissingExtra: PyTorch is not installed.
        """
        weights = shipped(name)
        options = {"data.skeleton": weights.skeleton, **(overrides or {})}
        predictor = cls.from_config(weights.config, weights.checkpoint, options, device, may_compile)
        if detector is None:
            detector = default_detector(native=predictor.native, device=device)
        predictor.detector = detector
        return predictor

    @classmethod
    def from_onnx(cls, path: str | Path, device: str = "auto") -> Predictor:
        """:meth:`from_file`, by the name that it had while ONNX was the only format."""
        return cls.from_file(path, device)

    @classmethod
    def from_file(cls, path: str | Path, device: str = "auto") -> Predictor:
        """A predictor for a network that ``tools/export.py`` wrote, in any format that can run here.

        Torch is needed for ``.pt2`` and ``.pte`` only.

        Args:
            path: The file; what belongs to it lies beside it.
            device: ``cpu``, or ``auto`` for a GPU where the installed ONNX Runtime has one.

        Raises:
            CheckpointError: The file is missing, broken or not such a network.
            OptionError: The file's runtime is not installed.
        """
        from pose.inference.exported_network import ExportedNetwork

        profiler = Profiler()
        network = ExportedNetwork(path, device, profiler)
        test = network.metadata.test
        known = read_calibration(network.metadata.calibration, network.skeleton, test["flip"], path)
        options = {name: test[name] for name in SCORING if name in test}
        return cls(network, **options, profiler=profiler, calibration=known)

    @overload
    def __call__(self, images: Image, boxes: ArrayLike | None = None) -> Poses:  # type: ignore[overload-overlap]
        ...  # a str is a sequence of str, too, and here a path

    @overload
    def __call__(self, images: Sequence[Image], boxes: Sequence[ArrayLike | None] | None = None) -> list[Poses]: ...

    def __call__(self, images: Image | Sequence[Image], boxes: Any = None) -> Poses | list[Poses]:
        """Persons of one picture, or of each of several.

        Args:
            images: A path, an array (H, W, 3) uint8 BGR as OpenCV gives it, or a list of these; for what
                else is taken see :func:`~pose.inference.images.as_image`. Files are turned upright.
            boxes: For one picture (N, 4) x, y, width, height in pixels, or (N, 5) with a score; for a
                list of pictures a list of these. None asks the detector.

        Returns:
            Poses, or a list of them for a list. Persons keep the order of their boxes.

        Raises:
            DataError: A picture cannot be read, or a box has no size or lies outside its picture.
            CheckpointError: The network answers with NaN or infinity.
        """
        if images is None or isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4):
            return self([images], [boxes])[0]
        if not len(images):
            return []
        boxes = [None] * len(images) if boxes is None else boxes
        if len(boxes) != len(images):
            raise DataError(f"{len(images)} pictures need as many lists of boxes, got {len(boxes)}")
        arrays = [as_image(image) for image in images]
        given = [self.detect(array) if own is None else as_boxes(own) for array, own in zip(arrays, boxes, strict=True)]
        for image, array, own in zip(images, arrays, given, strict=True):
            try:
                check_inside(own, array)
            except DataError as error:
                raise DataError(f"{image}: {error}" if isinstance(image, (str, Path)) else str(error)) from error
        return self._predict(arrays, given)

    def detect(self, image: np.ndarray) -> np.ndarray:
        """(N, 5) x, y, width, height in pixels and score: the detector's boxes of (H, W, 3) uint8 BGR."""
        with self.profiler("detect"):
            return as_boxes(self.detector(image))

    def detect_all(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The detector's boxes of several images, of all at once where it has ``of_images``; see :meth:`detect`."""
        together = getattr(self.detector, "of_images", None)
        if together is None:
            return [self.detect(image) for image in images]
        with self.profiler("detect"):
            return [as_boxes(boxes) for boxes in together(images)]

    def _predict(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[Poses]:
        counts = [len(own) for own in boxes]
        owner = np.repeat(np.arange(len(images)), counts)
        source = np.concatenate([np.arange(count) for count in counts])
        every = np.concatenate(boxes)
        width, height = self.network.input_size
        centers, scales = boxes_to_centers_scales(every[:, :4], width / height)
        keypoints = self._keypoints(images, owner, centers, scales)
        scores, areas = every[:, 4], scales.prod(axis=1)
        with self.profiler("rescore, nms"):
            if self.rescore:
                scores = rescore(scores, keypoints[..., 2], self.rescore_threshold)
            skeleton = self.network.skeleton
            kept = nms_per_image(owner, keypoints, scores, areas, skeleton.sigmas, self.nms_threshold, self.nms)
            if self.calibration is not None:
                keypoints[..., 2] = self.calibration(keypoints[..., 2])
        threshold = None if self.calibration is None else self.calibration.threshold
        rows = [kept[owner[kept] == index] for index in range(len(images))]
        return [
            Poses(
                boxes=every[row, :4],
                box_scores=every[row, 4],
                keypoints=keypoints[row],
                scores=scores[row],
                areas=areas[row],
                sources=source[row],
                skeleton=skeleton,
                threshold=threshold,
            )
            for row in rows
        ]

    def _keypoints(
        self, images: Sequence[np.ndarray], owner: np.ndarray, centers: np.ndarray, scales: np.ndarray
    ) -> np.ndarray:
        """(N, K, 3) in picture pixels for N crops, each of the picture that ``owner`` (N,) says."""
        network = self.network
        affines = crop_affine(centers, scales, network.input_size)
        keypoints = np.zeros((len(owner), network.skeleton.num_keypoints, 3))
        for start in range(0, len(owner), self.batch_size):
            part = slice(start, start + self.batch_size)
            with self.profiler("crop"):
                chosen = zip(owner[part], affines[part], strict=True)
                crops = np.stack([warp(images[index], affine, network.input_size) for index, affine in chosen])
            with self.profiler("prepare, decode"):
                points, joint_scores = network(crops)
            with self.profiler("map back"):
                keypoints[part, :, :2] = heatmap_to_image(points, centers[part], scales[part], network.heatmap_size)
                keypoints[part, :, 2] = joint_scores
        if not np.isfinite(keypoints).all():
            raise CheckpointError("the network answers with NaN or infinity: its file is damaged; use another one")
        return keypoints
