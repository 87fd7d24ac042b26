"""A look at what a network in training finds: validation crops with true and predicted keypoints."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pose.config import Settings
from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.models.pose_net import HEATMAP_STRIDE
from pose.prediction import predict_crops
from pose.visualization import draw_predictions, draw_truth, tile

PERSONS, COLUMNS = 16, 8


def prediction_sheet(model: nn.Module, settings: Settings, device: torch.device) -> np.ndarray:
    """Crops of annotated persons from all over the validation split, always the same ones.

    The truth is dots joined by limbs, predictions are crosses; both are coloured by side.

    Args:
        model: The network, on the device; it is left in the mode it came in.
        settings: ``data`` and ``test`` are used.
        device: Where to compute.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        DataError: The annotations hold no person, or a picture cannot be used.
    """
    data, skeleton = settings.data, settings.skeleton()
    persons = read_annotations(data.path(data.val.annotations), skeleton, data.category)
    rows = np.unique(np.linspace(0, len(persons) - 1, PERSONS).astype(int))
    dataset = CropDataset(persons.take(rows), data.path(data.val.images), skeleton, data.input_size)
    batch = dataset.batch([(0, row) for row in range(len(rows))])
    was_training = model.training
    model.eval()
    points, scores = predict_crops(model, batch.crops, skeleton.flip_index, settings.test, device)
    model.train(was_training)
    cells = []
    for place, crop in enumerate(batch.crops.numpy()):
        truth = draw_truth(crop, batch.keypoints[place], batch.labeled[place], skeleton)
        cells.append(draw_predictions(truth, points[place] * HEATMAP_STRIDE, scores[place], skeleton))
    return tile(cells, COLUMNS)
