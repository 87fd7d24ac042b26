"""COCO's ten keypoint figures: persons -> rescoring -> OKS-NMS -> results -> pycocotools.

The figures are pycocotools' own (docs/protocol.md#metric): iouType keypoints, maxDets 20, the
annotated segment's area, all images of the annotation file. Everything that reports an AP here
takes this way, so a figure measured by one part of the project holds for all.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from pose.datasets.annotations import check_somebody, persons_in
from pose.datasets.categories import person_category
from pose.errors import DataError
from pose.evaluation import oks
from pose.evaluation.coco_backend import (
    check_backend,
    copied_annotations,
    extents,
    indexed,
    make_evaluator,
)
from pose.evaluation.protocol import AREAS_FROM_BOXES, PUBLISHED
from pose.evaluation.results import Predictions, Results, ResultsError, check_results
from pose.files import read_json
from pose.poses import rounded
from pose.skeleton import COCO as COCO_SKELETON
from pose.skeleton import Skeleton

FIGURES = ("AP", "AP50", "AP75", "AP(M)", "AP(L)", "AR", "AR50", "AR75", "AR(M)", "AR(L)")
"""The ten names, in pycocotools' order. M and L are areas of 32^2 to 96^2 and above 96^2 pixels."""


def load_annotations(
    path: str | Path,
    skeleton: Skeleton | None = None,
    category: str | int | None = None,
    somebody: bool = False,
) -> COCO:
    """Read a COCO annotation file without pycocotools' prints, and without outlines: keypoints' figures need none.

    Args:
        path: The file.
        skeleton: Its keypoints are compared with it now; None leaves that to the scoring.
        category: The persons' by name or id, see :func:`pose.datasets.annotations.persons_in`.
        somebody: Refuse a file in which nobody is looked for, whose AP would be -1.

    Returns:
        The file as it is, with attributes ``notices``, a line for each rule that changes or leaves out something in
        the scoring, ``areas_from_boxes``, how many persons have their box's area, ``person_category``, the id of the
        persons' category, and ``source`` and ``wanted``, the arguments.

    Raises:
        DataError: It is missing, no JSON, lacks images or annotations, or a record cannot be read by the rules of
            docs/custom_dataset.md#rules; the message names the file and the record.
    """
    dataset = read_json(path, "annotation file")
    for key in ("images", "annotations"):
        if not isinstance(dataset, dict) or not isinstance(dataset.get(key), list):
            raise DataError(f"{path} has no list {key!r}: it is not a COCO annotation file")
    persons = persons_in(dataset, path, skeleton, category)
    if somebody:
        check_somebody(persons, path)
    for annotation in dataset["annotations"]:
        annotation.pop("segmentation", None)
    if dataset.get("categories", ()) is None:  # as good as not there, but not to pycocotools
        del dataset["categories"]
    coco = indexed(dataset, str(path))
    coco.wanted, coco.notices, coco.person_category = category, persons.notices, persons.category["id"]
    coco.areas_from_boxes = persons.areas_from_boxes
    return coco


def annotation_notices(truth: COCO) -> list[str]:
    """What everyone is told who reads a figure against these annotations: each rule that was needed, and the stamp.

    Args:
        truth: As :func:`load_annotations` made it.
    """
    return [*truth.notices, *[f"{truth.source}: {AREAS_FROM_BOXES}"] * bool(truth.areas_from_boxes)]


def evaluate(
    results: Sequence[Mapping],
    annotations: str | Path | COCO,
    skeleton: Skeleton = COCO_SKELETON,
    backend: str = PUBLISHED.backend,
    category_id: int | None = None,
) -> dict[str, float]:
    """The ten figures of results in COCO's keypoint format. Nothing passed in is changed.

    Args:
        results: Records as :func:`pose.poses.to_coco_results` makes them; none gives AP 0.
        annotations: The annotation file, or what :func:`load_annotations` made of it. All of its images count.
        skeleton: Gives K and the OKS sigmas.
        backend: ``pycocotools``, or ``faster-coco-eval`` where it is installed.
        category_id: The persons' category in both; None for what the annotation file says.

    Returns:
        :data:`FIGURES` to floats in [0, 1]; -1 where no annotated person is in a size class.

    Raises:
        ResultsError: The results are wrong (see :func:`pose.evaluation.results.check_results`).
        DataError: The annotations do not fit the skeleton.
        BackendError: The backend is unknown or not installed.
    """
    truth = annotations if isinstance(annotations, COCO) else load_annotations(annotations)
    number = category_of(truth, category_id)
    ids, keypoints, scores = check_results(results, skeleton.num_keypoints, truth.imgs.keys(), number)
    areas = None
    if results and results[0].get("bbox"):  # COCO.loadRes then takes the boxes' areas
        try:
            boxes = np.array([record["bbox"] for record in results], np.float64).reshape(len(results), 4)
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsError("results: the first record has a 'bbox', so each needs one of 4 numbers") from error
        areas = boxes[:, 2] * boxes[:, 3]
    return figures_of(Results(ids, keypoints, scores), truth, skeleton, backend, category_id, areas)


def score(
    predictions: Predictions,
    annotations: str | Path | COCO,
    skeleton: Skeleton = COCO_SKELETON,
    rescore: bool = PUBLISHED.rescore,
    rescore_threshold: float = PUBLISHED.rescore_threshold,
    nms: str = PUBLISHED.nms,
    nms_threshold: float = PUBLISHED.nms_threshold,
    backend: str = PUBLISHED.backend,
    category_id: int | None = None,
) -> tuple[dict[str, float], Results]:
    """Computes the ten figures of a network's predictions: rescore, suppress per image, evaluate.

    Args:
        predictions: N persons as the network gave them.
        annotations: The annotation file, or what :func:`load_annotations` made of it.
        skeleton: Gives K and the OKS sigmas.
        rescore: Person score = box score x mean joint score; False takes the box score alone.
        rescore_threshold: Joints at or below it do not count in that mean.
        nms: ``greedy``, ``soft`` or ``off``.
        nms_threshold: OKS above which greedy drops a person.
        backend: See :func:`evaluate`.
        category_id: The persons' category in the annotations; None for what the file says.

    Returns:
        The figures as :func:`evaluate` gives them, and the results that they were computed from.

    Raises:
        ResultsError: An unknown image id or another number of keypoints than the skeleton's.
        DataError: The annotations do not fit the skeleton.
        BackendError: The backend is unknown or not installed.
        ValueError: An unknown ``nms``.
    """
    truth = annotations if isinstance(annotations, COCO) else load_annotations(annotations)
    if predictions.keypoints.shape[1] != skeleton.num_keypoints:
        raise ResultsError(
            f"predictions have {predictions.keypoints.shape[1]} keypoints, "
            f"the skeleton {skeleton.name!r} has {skeleton.num_keypoints}"
        )
    unknown = ~np.isin(predictions.image_ids, np.fromiter(truth.imgs, np.int64, len(truth.imgs)))
    if unknown.any():
        raise ResultsError(
            f"predictions: image {predictions.image_ids[unknown][0]} is not in the annotations "
            f"({unknown.sum()} of {len(unknown)} persons are of unknown images)"
        )
    scores = predictions.box_scores
    if rescore:
        scores = oks.rescore(scores, predictions.keypoints[..., 2], rescore_threshold)
    kept = oks.nms_per_image(
        predictions.image_ids,
        predictions.keypoints,
        scores,
        predictions.areas,
        skeleton.sigmas,
        threshold=nms_threshold,
        method=nms,
    )
    results = Results(predictions.image_ids[kept], *rounded(predictions.keypoints[kept], scores[kept]))
    return figures_of(results, truth, skeleton, backend, category_id), results


def format_figures(figures: Mapping[str, float] | Mapping[str, Mapping[str, float]]) -> str:
    """The ten figures as a small aligned table of two lines, or several named sets of them, a line each.

    A -1, which pycocotools gives where no annotated person is in a size class, is shown as n/a.
    """
    rows = {name: value for name, value in figures.items() if isinstance(value, Mapping)}
    if len(rows) < len(figures):
        rows = {"": {name: value for name, value in figures.items() if not isinstance(value, Mapping)}}
    columns = list(next(iter(rows.values()), FIGURES))
    label = max((len(name) + 2 if name else 0 for name in rows), default=0)
    lines = [" " * label + " ".join(f"{name:>6}" for name in columns)]
    for name, values in rows.items():
        cells = ("n/a" if values[column] < 0 else f"{values[column]:.3f}" for column in columns)
        lines.append(f"{name:<{label}}" + " ".join(f"{cell:>6}" for cell in cells))
    return "\n".join(lines)


def figures_of(
    results: Results,
    truth: COCO,
    skeleton: Skeleton = COCO_SKELETON,
    backend: str = PUBLISHED.backend,
    category_id: int | None = None,
    areas: np.ndarray | None = None,
) -> dict[str, float]:
    """The ten figures of N checked persons.

    Args:
        results: The persons.
        truth, skeleton, backend, category_id: See :func:`evaluate`.
        areas: (N,) pixels^2 of the persons; None takes the box around their keypoints, as pycocotools does.
    """
    check_backend(backend)
    areas = extents(results.keypoints) if areas is None else areas
    annotated = copied_annotations(truth, skeleton, category_id)
    evaluator = make_evaluator(results, areas, annotated, skeleton, backend)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(FIGURES, (float(figure) for figure in evaluator.stats), strict=False))


def category_of(truth: COCO, wanted: int | None = None) -> int:
    """The id of the persons' category in annotations: the wanted one, or what their file says.

    Raises:
        DataError: Nothing tells.
    """
    if wanted is None and hasattr(truth, "person_category"):
        return truth.person_category
    return person_category(truth.dataset, getattr(truth, "source", "annotations"), wanted)["id"]
