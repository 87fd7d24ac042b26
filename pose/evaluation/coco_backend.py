"""What computes every figure: pycocotools' COCOeval, or faster-coco-eval, set up as COCO's keypoint challenge is."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.datasets.annotations import persons_in
from pose.errors import PoseError, missing
from pose.evaluation.protocol import BACKENDS
from pose.evaluation.results import Results
from pose.skeleton import PERSON_CATEGORY, Skeleton

MAX_PERSONS = 20
"""Persons that count in one image, the best scores first."""


class BackendError(PoseError, ValueError):
    """A library for the figures that is unknown or not installed."""


def check_backend(backend: str) -> None:
    """Raises BackendError where a library for the figures is unknown or not installed."""
    if backend not in BACKENDS:
        raise BackendError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if importlib.util.find_spec(backend.replace("-", "_")) is None:
        raise BackendError(missing(backend.replace("-", "_"), f"the backend {backend!r}"))


def make_evaluator(
    results: Results,
    areas: np.ndarray,
    annotated: dict[str, Any],
    skeleton: Skeleton,
    backend: str = "pycocotools",
) -> COCOeval:
    """An evaluator that has not run yet; the ids of its detections are their rows in the results plus 1.

    Only the :data:`MAX_PERSONS` best of each image are handed on, since COCO's figures look at no more.

    Args:
        results: N checked persons.
        areas: (N,) pixels^2, see :func:`extents`.
        annotated: As :func:`copied_annotations` makes it.
        skeleton: Gives K and the OKS sigmas.
        backend: One of :data:`BACKENDS`, installed.
    """
    seen = _best_of_each_image(results.image_ids, results.scores)
    rows = zip(
        (seen + 1).tolist(),
        results.image_ids[seen].tolist(),
        results.keypoints[seen].reshape(len(seen), 3 * skeleton.num_keypoints),
        results.scores[seen].tolist(),
        areas[seen].tolist(),
        strict=True,
    )
    persons = [
        {
            "id": index,
            "image_id": image,
            "category_id": PERSON_CATEGORY,
            "keypoints": points,
            "score": score,
            "area": area,
        }
        for index, image, points, score, area in rows
    ]
    found = {**annotated, "annotations": persons}
    annotated = {**annotated, "annotations": numbered(annotated["annotations"])}
    sigmas = np.array(skeleton.sigmas)
    if backend == "pycocotools":
        for annotation in annotated["annotations"]:  # pycocotools makes an array of it for every pair: from one, faster
            annotation["keypoints"] = np.asarray(annotation["keypoints"])
        evaluator = COCOeval(indexed(annotated), indexed(found), "keypoints")
        evaluator.params.kpt_oks_sigmas = sigmas
    else:
        evaluator = _faster_evaluator(annotated, found, sigmas)
    evaluator.params.imgIds = sorted(image["id"] for image in annotated["images"])
    evaluator.params.catIds = [PERSON_CATEGORY]
    evaluator.params.maxDets = [MAX_PERSONS]
    return evaluator


def _faster_evaluator(annotated: dict, found: dict, sigmas: np.ndarray) -> COCOeval:
    """The same evaluator in another library, which wants plain lists."""
    import faster_coco_eval

    for person in found["annotations"]:
        person["keypoints"] = person["keypoints"].tolist()
    return faster_coco_eval.COCOeval_faster(
        faster_coco_eval.COCO(annotated),
        faster_coco_eval.COCO(found),
        "keypoints",
        kpt_oks_sigmas=sigmas.tolist(),
        ranges={"medium": [32**2, 96**2], "large": [96**2, 1e5**2]},
    )


def copied_annotations(truth: COCO, skeleton: Skeleton, category: str | int | None = None) -> dict[str, Any]:
    """The data set with cleaned copies of its persons, which the libraries write into, under category 1.

    Args:
        truth: As :func:`pose.evaluation.coco_eval.load_annotations` or pycocotools made it.
        skeleton: What the keypoints shall be.
        category: The persons' by name or id; None for what ``truth`` was loaded with.

    Raises:
        DataError: As :func:`pose.datasets.annotations.persons_in`.
    """
    wanted = getattr(truth, "wanted", None) if category is None else category
    persons = persons_in(truth.dataset, getattr(truth, "source", "annotations"), skeleton, wanted)
    records = [{**record, "category_id": PERSON_CATEGORY} for record in persons.records]
    return {**truth.dataset, "annotations": records, "categories": [{**persons.category, "id": PERSON_CATEGORY}]}


def numbered(annotations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies of annotations with ids from 1 on: 0 means unmatched in both libraries, and equal ids are one person."""
    return [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)]


def extents(keypoints: np.ndarray) -> np.ndarray:
    """(N,) pixels^2, the area of the box around all of (N, K, 3) keypoints: what pycocotools takes for a result's area.

    It only decides whether an unmatched person counts in a size class.
    """
    if not len(keypoints):
        return np.zeros(0)
    size = keypoints[..., :2].max(axis=1) - keypoints[..., :2].min(axis=1)
    return size[:, 0] * size[:, 1]


def indexed(dataset: dict[str, Any], source: str = "annotations") -> COCO:
    """A data set as pycocotools holds it, without its prints; ``source`` is what messages call it."""
    coco = COCO()
    coco.dataset = dataset
    coco.source = source
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _best_of_each_image(image_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Ascending indices of the :data:`MAX_PERSONS` best of each image; of equal scores the first goes first."""
    order = np.lexsort((-scores, image_ids))
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(order)), bool), np.diff(image_ids[order]) != 0)))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return np.sort(order[rank < MAX_PERSONS])
