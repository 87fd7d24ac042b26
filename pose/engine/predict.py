"""The network over a whole data set: keypoints of every person, in picture pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pose import heatmap
from pose.config import Settings, TestSettings
from pose.data_settings import Split
from pose.datasets.crops import Batch, CropDataset
from pose.datasets.loading.loader import batches, dataset_of
from pose.engine import distributed
from pose.errors import CheckpointError, DataError
from pose.evaluation.protocol import TestProtocol
from pose.evaluation.results import Predictions
from pose.evaluation.saved_predictions import WAYS, SavedPredictions, decode_every_way
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
        model: The network, on the device.
        loader: Over a :class:`~pose.datasets.crops.CropDataset` without augmentation, in order.
        settings: Whether to flip, by how much to shift, and how to decode.
        device: Where to compute.

    Raises:
        DataError: A picture cannot be used.
        CheckpointError: The network answers with NaN or infinity.
    """
    dataset = dataset_of(loader, CropDataset)
    persons = dataset.persons
    keypoints = np.zeros(persons.keypoints.shape, dtype=np.float64)
    centers, scales = boxes_to_centers_scales(persons.boxes, dataset.aspect_ratio)
    for rows, crops in _crops(model, loader):
        points, joint_scores = predict_crops(model, crops, dataset.skeleton.flip_index, settings, device)
        keypoints[rows, :, :2] = heatmap_to_image(points, centers[rows], scales[rows], _heatmap_size(dataset))
        keypoints[rows, :, 2] = joint_scores
    keypoints = distributed.total(keypoints)
    _refuse_no_numbers(keypoints)
    return Predictions(
        image_ids=persons.image_ids[persons.image_index],
        keypoints=keypoints,
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
    split: Split,
    device: torch.device | str,
    protocol: TestProtocol,
) -> SavedPredictions:
    """Like :func:`predict`, but with and without flip, at each shift and by each decoder; in one process.

    Args:
        model, loader, device: As for :func:`predict`.
        settings: ``data`` is used.
        split: What the persons are of.
        protocol: The stamp to keep with it.

    Raises:
        DataError: A picture cannot be used.
        CheckpointError: The network answers with NaN or infinity.
    """
    dataset = dataset_of(loader, CropDataset)
    persons, joints = dataset.persons, dataset.skeleton.num_keypoints
    points = np.zeros((len(persons), len(WAYS), len(heatmap.DECODERS), joints, 2), np.float32)
    joint_scores = np.zeros((len(persons), len(WAYS), joints), np.float32)
    for rows, crops in _crops(model, loader):
        images = to_input(crops, device)
        heatmaps, mirrored = model(images).float(), model(images.flip(-1)).float()
        points[rows], joint_scores[rows] = decode_every_way(heatmaps, mirrored, dataset.skeleton.flip_index)
    _refuse_no_numbers(points, joint_scores)
    return SavedPredictions(
        protocol=protocol,
        skeleton=dataset.skeleton,
        heatmap_size=_heatmap_size(dataset),
        annotations=str(settings.data.path(split.annotations).absolute()),
        images=str(settings.data.path(split.images).absolute()),
        image_ids=persons.image_ids[persons.image_index],
        boxes=persons.boxes,
        box_scores=persons.box_scores,
        annotation_ids=persons.annotation_ids,
        points=points,
        joint_scores=joint_scores,
    )


def _refuse_no_numbers(*answers: np.ndarray) -> None:
    """Raises CheckpointError where a network's answers hold NaN or infinity: there is nothing to measure."""
    if not all(np.isfinite(each).all() for each in answers):
        raise CheckpointError(
            "the network answers with NaN or infinity: its file is damaged, or its training diverged; use another one"
        )


def _crops(model: nn.Module, loader: DataLoader[Batch | DataError]) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows (N,) and crops of each batch under a progress bar, the network in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    try:
        hidden = None if distributed.is_main() else True
        with tqdm(
            total=len(dataset_of(loader, CropDataset)), desc="predicting", unit="person", disable=hidden, leave=False
        ) as bar:
            for batch in batches(loader):
                yield batch.rows, batch.crops
                bar.update(len(batch.rows) * distributed.shard()[1])
    finally:
        model.train(was_training)


def _heatmap_size(dataset: CropDataset) -> tuple[int, int]:
    return dataset.input_size[0] // HEATMAP_STRIDE, dataset.input_size[1] // HEATMAP_STRIDE
