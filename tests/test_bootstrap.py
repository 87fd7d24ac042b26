"""AP of resampled pictures: what pycocotools gives on the repeated pictures, and intervals that hold the truth."""

import numpy as np
import pytest
from tiny import person

from pose.evaluation.bootstrap import ap_over_images, image_scores
from pose.evaluation.coco_backend import indexed
from pose.evaluation.matching import average_precision, run_coco_eval
from pose.evaluation.results import Results
from pose.evaluation.significance import each_over_images
from pose.skeleton import COCO

IMAGES = 30


def annotated(rng):
    """Two persons a picture, none on the last, a crowd on the first."""
    points = rng.uniform(20, 200, (2 * (IMAGES - 1), 17, 2))
    points = np.concatenate([points, np.full((*points.shape[:2], 1), 2)], axis=2)
    annotations = [person(number // 2 + 1, number + 1, each) for number, each in enumerate(points)]
    annotations[0]["iscrowd"] = 1
    images = [{"id": number + 1, "width": 220, "height": 220} for number in range(IMAGES)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, points


def found(rng, points, deviation):
    """Every person, some worse than others, and one that is nobody on each picture."""
    noise = rng.normal(0, 1, points.shape) * rng.uniform(0, 2 * deviation, (len(points), 1, 1))
    nobody = rng.uniform(0, 200, (IMAGES, 17, 3))
    image_ids = np.concatenate([np.arange(len(points)) // 2, np.arange(IMAGES)]) + 1
    keypoints = np.concatenate([points + noise, nobody])
    return Results(image_ids, keypoints, np.concatenate([rng.uniform(0.3, 1, len(points)), rng.uniform(0, 0.7, 30)]))


def repeated(dataset, results, weights):
    """A data set with each picture as often as its weight says, and its results."""
    images, annotations, rows, ids = [], [], [], []
    for number, times in enumerate(weights):
        for _ in range(times):
            new = len(images) + 1
            images.append({**dataset["images"][number], "id": new})
            for own in (each for each in dataset["annotations"] if each["image_id"] == number + 1):
                annotations.append({**own, "id": len(annotations) + 1, "image_id": new})
            own = np.flatnonzero(results.image_ids == number + 1)
            rows += own.tolist()
            ids += [new] * len(own)
    again = results.select(rows)
    return {**dataset, "images": images, "annotations": annotations}, Results(
        np.array(ids), again.keypoints, again.scores
    )


def test_weighted_pictures_have_the_ap_of_repeated_ones():
    rng = np.random.default_rng(0)
    dataset, points = annotated(rng)
    results = found(rng, points, 8)
    scores = image_scores(results, indexed(dataset), COCO)
    whole = average_precision(run_coco_eval(results, indexed(dataset), COCO))
    assert 0.2 < whole < 0.9 and scores.average_precision() == pytest.approx(whole, abs=1e-12)
    for _ in range(3):
        weights = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES))
        more, answers = repeated(dataset, results, weights)
        wanted = average_precision(run_coco_eval(answers, indexed(more), COCO))
        assert wanted != pytest.approx(whole, abs=1e-5)
        assert scores.average_precision(weights) == pytest.approx(wanted, abs=1e-12)


def test_the_interval_tells_a_difference_from_none():
    rng = np.random.default_rng(1)
    dataset, points = annotated(rng)
    good, alike, bad = (image_scores(found(rng, points, each), indexed(dataset), COCO) for each in (6, 6, 14))
    mean, low, high = ap_over_images([good], [bad], resamples=200)
    assert mean == pytest.approx(good.average_precision() - bad.average_precision())
    assert 0 < low < mean < high
    mean, low, high = ap_over_images([good], [alike], resamples=200)
    assert low < 0 < high
    assert ap_over_images([good, bad], [bad, good], resamples=20) == (0, 0, 0)


def test_other_pictures_are_refused_and_nobody_is_no_difference():
    rng = np.random.default_rng(2)
    dataset, points = annotated(rng)
    results = found(rng, points, 6)
    scores = image_scores(results, indexed(dataset), COCO)
    fewer = {**dataset, "images": dataset["images"][:-1]}
    kept = results.select(results.image_ids < IMAGES)
    with pytest.raises(ValueError, match="same pictures"):
        ap_over_images([scores], [image_scores(kept, indexed(fewer), COCO)])
    nobody = image_scores(results, indexed({**dataset, "annotations": []}), COCO)
    assert nobody.average_precision() == -1 and np.isnan(ap_over_images([nobody], [nobody]).mean)


def test_each_keypoint_has_an_interval_of_its_own():
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(0, 2, (2, 1, 60, 3)).astype(float)
    ours[0, :, 0], theirs[0, :, 0] = 1, rng.random(60) < 0.5
    ours[..., 2] = theirs[..., 2] = np.nan
    better, alike, unknown = each_over_images(ours, theirs, np.arange(60), resamples=300)
    assert better.mean == pytest.approx(1 - theirs[0, :, 0].mean()) and better.low > 0.2
    assert alike.low < 0 < alike.high and np.isnan(unknown.mean)
