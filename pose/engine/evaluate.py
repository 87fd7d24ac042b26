"""The one way from crops to figures: the test tool, training's validation and the predictor share it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pose import heatmap
from pose.config import Settings, TestSettings
from pose.datasets.coco import Persons, read_annotations, read_detections
from pose.datasets.loading.loader import Batch, CropDataset, batches, make_loader
from pose.engine import distributed
from pose.errors import DataError
from pose.evaluation.coco_backend import check_backend, check_skeleton
from pose.evaluation.coco_eval import load_annotations, score
from pose.evaluation.protocol import ANNOTATED, TEST_CHOICES, TestProtocol, library_versions, scoring_options
from pose.evaluation.results import Predictions, Results
from pose.evaluation.saved_predictions import WAYS, SavedPredictions, decode_every_way
from pose.files import sha256
from pose.geometry import boxes_to_centers_scales, heatmap_to_image
from pose.models.pose_net import HEATMAP_STRIDE
from pose.prediction import predict_crops, to_input


def predict(
    model: nn.Module, loader: DataLoader[Batch | DataError], settings: TestSettings, device: torch.device | str
) -> Predictions:
    """Keypoints of every person of a data set, in picture pixels.

    The network is in evaluation mode meanwhile and left in the mode it came in. Several processes share the
    work, and each gets all of it.

    Args:
        model: On the device.
        loader: Over a :class:`~pose.datasets.loading.loader.CropDataset` without augmentation, in order.
        settings: Of the test.
        device: Where to compute.

    Raises:
        DataError: A picture cannot be used.
    """
    dataset: CropDataset = loader.dataset
    persons = dataset.persons
    keypoints = np.zeros(persons.keypoints.shape, dtype=np.float64)
    centers, scales = boxes_to_centers_scales(persons.boxes, dataset.aspect_ratio)
    for rows, crops in _crops(model, loader):
        points, joint_scores = predict_crops(model, crops, dataset.skeleton.flip_index, settings, device)
        keypoints[rows, :, :2] = heatmap_to_image(points, centers[rows], scales[rows], _heatmap_size(dataset))
        keypoints[rows, :, 2] = joint_scores
    return Predictions(
        image_ids=persons.image_ids[persons.image_index],
        keypoints=distributed.total(keypoints),
        boxes=persons.boxes,
        box_scores=persons.box_scores,
        areas=scales.prod(axis=1),
        annotation_ids=persons.annotation_ids,
    )


@torch.inference_mode()
def predict_every_way(
    model: nn.Module,
    loader: DataLoader[Batch | DataError],
    settings: Settings,
    device: torch.device | str,
    protocol: TestProtocol,
) -> SavedPredictions:
    """Like :func:`predict`, but with and without flip, at each shift and by each decoder; in one process.

    Args:
        model, loader, device: As there.
        settings: ``data`` is used.
        protocol: The stamp to keep with it.

    Raises:
        DataError: A picture cannot be used.
    """
    dataset: CropDataset = loader.dataset
    persons, joints = dataset.persons, dataset.skeleton.num_keypoints
    points = np.zeros((len(persons), len(WAYS), len(heatmap.DECODERS), joints, 2), np.float32)
    joint_scores = np.zeros((len(persons), len(WAYS), joints), np.float32)
    for rows, crops in _crops(model, loader):
        images = to_input(crops, device)
        heatmaps, mirrored = model(images).float(), model(images.flip(-1)).float()
        points[rows], joint_scores[rows] = decode_every_way(heatmaps, mirrored, dataset.skeleton.flip_index)
    return SavedPredictions(
        protocol=protocol,
        skeleton=dataset.skeleton,
        heatmap_size=_heatmap_size(dataset),
        annotations=str(settings.data.path("val_annotations").absolute()),
        images=str(settings.data.path("val_images").absolute()),
        image_ids=persons.image_ids[persons.image_index],
        boxes=persons.boxes,
        box_scores=persons.box_scores,
        annotation_ids=persons.annotation_ids,
        points=points,
        joint_scores=joint_scores,
    )


def _crops(model: nn.Module, loader: DataLoader[Batch | DataError]) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows (N,) and crops of each batch under a progress bar, the network in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    try:
        hidden = None if distributed.is_main() else True
        with tqdm(total=len(loader.dataset), desc="predicting", unit="person", disable=hidden, leave=False) as bar:
            for batch in batches(loader):
                yield batch.rows, batch.crops
                bar.update(len(batch.rows) * distributed.shard()[1])
    finally:
        model.train(was_training)


def _heatmap_size(dataset: CropDataset) -> tuple[int, int]:
    return dataset.input_size[0] // HEATMAP_STRIDE, dataset.input_size[1] // HEATMAP_STRIDE


def read_test_persons(settings: Settings, boxes: str) -> tuple[Persons, int]:
    """The persons to test on.

    Args:
        settings: ``data`` is used.
        boxes: ``annotated``, or a detections file relative to the data's root.

    Returns:
        The persons, and how many boxes were left out because they are on other pictures.

    Raises:
        DataError: A file is missing or wrong.
    """
    annotations = settings.data.path("val_annotations")
    if boxes == ANNOTATED:
        return read_annotations(annotations, settings.skeleton()), 0
    return read_detections(settings.data.path(boxes), annotations, settings.skeleton(), settings.data.box_threshold)


def make_test_loader(settings: Settings, persons: Persons) -> DataLoader[Batch | DataError]:
    """Plain crops of these persons, in order; several processes take batches in turn.

    Raises:
        DataError: Pictures are missing.
    """
    dataset = CropDataset(
        persons, settings.data.path("val_images"), settings.skeleton(), tuple(settings.data.input_size)
    )
    return make_loader(dataset, settings.test.batch_size, settings.data.workers, train=False, shard=distributed.shard())


def evaluate(
    model: nn.Module, loader: DataLoader[Batch | DataError], settings: Settings, device: torch.device | str
) -> tuple[dict[str, float], Results, Predictions]:
    """COCO's ten figures of a network.

    Returns:
        The figures, the results that they were computed from, and the predictions
        before rescoring and suppression.

    Raises:
        DataError: A picture or the annotation file cannot be used.
        BackendError: ``test.backend`` is not installed.
    """
    annotations = prepare_scoring(settings) if distributed.is_main() else None
    predictions = predict(model, loader, settings.test, device)
    scored = None
    if distributed.is_main():
        scored = score(predictions, annotations, settings.skeleton(), **scoring_options(settings.test))
    return *distributed.from_main(scored), predictions


def prepare_scoring(settings: Settings) -> COCO:
    """The annotations that figures are computed against; kept for the next validation, until the file changes.

    Raises:
        DataError: The file is missing, no annotation file or one of another skeleton.
        BackendError: ``test.backend`` is not installed.
    """
    check_backend(settings.test.backend)
    path = settings.data.path("val_annotations")
    changed = path.stat().st_mtime_ns if path.is_file() else None
    truth = _read_truth(path, changed)
    check_skeleton(truth, settings.skeleton())
    return truth


@lru_cache(maxsize=1)
def _read_truth(path: Path, changed: int | None) -> COCO:
    return load_annotations(path)


def stamp(settings: Settings, boxes_count: int, model: str, checkpoint: str | Path) -> TestProtocol:
    """Every choice that a test's figures depend on, and the files that they came from.

    Args:
        settings: Of the test; ``data`` and ``test`` are used.
        boxes_count: Boxes tested.
        model: What to call the network, e.g. its configuration's path.
        checkpoint: The weights' file.
    """
    data, skeleton = settings.data, settings.skeleton()
    annotated = data.boxes == ANNOTATED
    annotations = data.path("val_annotations")
    return TestProtocol(
        boxes=ANNOTATED if annotated else data.path(data.boxes).name,
        boxes_sha256=None if annotated else sha256(data.path(data.boxes)),
        boxes_count=boxes_count,
        box_threshold=data.box_threshold,
        **{name: getattr(settings.test, name) for name in TEST_CHOICES},
        skeleton=skeleton.name,
        sigmas_estimated=skeleton.sigmas_estimated,
        model=model,
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=sha256(checkpoint),
        annotations=annotations.name,
        annotations_sha256=sha256(annotations),
        versions=library_versions(),
    )
