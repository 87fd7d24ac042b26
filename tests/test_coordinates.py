"""The whole way of a keypoint, proved on real annotations: only the heatmap's pixels may limit it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pose import geometry, heatmap
from pose.datasets.coco import read_annotations
from pose.evaluation.coco_eval import score
from pose.evaluation.results import Predictions
from pose.skeleton import COCO

SIZE, MAP = (192, 256), (48, 64)


def round_trip(annotations: Path, flip: bool) -> Predictions:
    """True keypoints -> crop -> heatmaps -> keypoints, as a perfect network would give them."""
    persons = read_annotations(annotations, COCO)
    centers, scales = geometry.boxes_to_centers_scales(persons.boxes, SIZE[0] / SIZE[1])
    points = geometry.apply_affine(persons.keypoints[..., :2], geometry.crop_affine(centers, scales, SIZE))
    labeled = torch.from_numpy(persons.keypoints[..., 2] > 0)
    maps, _ = heatmap.encode(torch.from_numpy(points), labeled, MAP)
    if flip:
        mirrored = points[:, COCO.flip_index] * [-1, 1] + [SIZE[0] - 1, 0]
        seen, _ = heatmap.encode(torch.from_numpy(mirrored), labeled[:, COCO.flip_index], MAP)
        maps = heatmap.average_flip(maps, seen, COCO.flip_index)
    found, values = heatmap.decode(maps.numpy())
    keypoints = np.dstack([geometry.heatmap_to_image(found, centers, scales, MAP), values])
    return Predictions(
        persons.image_ids[persons.image_index], keypoints, persons.boxes, persons.box_scores, scales.prod(axis=1)
    )


def one_pixel_aside(exact: Predictions) -> Predictions:
    """Predictions moved to the right by a pixel of their heatmaps."""
    aside = exact.keypoints.copy()
    aside[..., 0] += (np.sqrt(exact.areas * SIZE[0] / SIZE[1]) / MAP[0])[:, None]
    return replace(exact, keypoints=aside)


@pytest.mark.parametrize(("flip", "average_precision"), [(False, 0.973), (True, 0.976)])
def test_true_keypoints_of_real_people_survive_the_round_trip(
    shared_data: Path, flip: bool, average_precision: float
) -> None:
    """688 persons on 265 pictures: what 48 x 64 heatmaps leave of perfect predictions.

    Half a heatmap pixel of a small person's crop is more than the sigma of an eye, so the AP is not 1;
    a crop off by a single heatmap pixel would cost 0.1 and more.
    """
    annotations = shared_data / "coco_eval_reference" / "person_keypoints_val2017_half.json"
    predictions = round_trip(annotations, flip)
    assert len(predictions) == 688
    figures, _ = score(predictions, annotations)
    assert figures["AP"] == pytest.approx(average_precision, abs=0.002)
    assert figures["AP50"] == pytest.approx(0.990, abs=0.002)


def test_one_heatmap_pixel_aside_costs_a_tenth_of_the_figure(shared_data: Path) -> None:
    annotations = shared_data / "coco_eval_reference" / "person_keypoints_val2017_half.json"
    aside = one_pixel_aside(round_trip(annotations, flip=False))
    assert score(aside, annotations)[0]["AP"] < 0.9
