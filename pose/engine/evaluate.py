"""The one way from a network to figures: the test tool, training's validation and comparisons share it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from pycocotools.coco import COCO
from torch import nn
from torch.utils.data import DataLoader

from pose.config import Settings
from pose.data_settings import Split
from pose.datasets.coco import Persons, read_annotations, read_detections
from pose.datasets.crops import Batch, CropDataset
from pose.datasets.loading.loader import dataset_of, make_loader
from pose.engine import distributed
from pose.engine.predict import predict, predict_every_way
from pose.errors import DataError
from pose.evaluation.coco_backend import check_backend
from pose.evaluation.coco_eval import load_annotations, score
from pose.evaluation.pck import LengthPck, predicted_length_pck
from pose.evaluation.protocol import ANNOTATED, TEST_CHOICES, TestProtocol, library_versions, scoring_options
from pose.evaluation.results import Predictions, Results
from pose.evaluation.saved_predictions import SavedPredictions
from pose.files import sha256
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class TestSet:
    """Persons to test on.

    Attributes:
        split: What they are of.
        boxes: ``annotated``, or the detections file that their boxes are from.
        notices: A line for each kind of detected boxes that were left out, with their count.
        loader: Their plain crops in order; several processes take batches in turn.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    split: Split
    boxes: str
    notices: tuple[str, ...]
    loader: DataLoader[Batch | DataError]

    @property
    def persons(self) -> Persons:
        """The persons."""
        return dataset_of(self.loader, CropDataset).persons

    @property
    def image_notices(self) -> list[str]:
        """A line for each kind of pictures that were turned or may have to be, of those that were read so far."""
        return dataset_of(self.loader, CropDataset).notices.lines


@dataclass(frozen=True)
class TestRun:
    """What a test found.

    Attributes:
        figures: COCO's ten figures.
        results: The scored persons that they were computed from.
        predictions: Every person before rescoring and suppression.
        truth: The annotations; None but in the first process.
        skeleton: What the keypoints are.
        saved: The predictions by every decoder, with and without flip, where they were asked for.
    """

    __test__ = False

    figures: dict[str, float]
    results: Results
    predictions: Predictions
    truth: COCO | None
    skeleton: Skeleton
    saved: SavedPredictions | None = None

    @cached_property
    def measures(self) -> list[LengthPck]:
        """PCK by each of the skeleton's lengths; in the first process."""
        return predicted_length_pck(self.predictions, self.results, self.truth, self.skeleton)


def open_test_set(settings: Settings, split: Split, boxes: str | None = None) -> TestSet:
    """Reads the persons of a split and gets ready to load them.

    Args:
        settings: ``data`` and ``test`` are used.
        split: One of ``settings.data``.
        boxes: The boxes to take in place of the split's.

    Raises:
        DataError: A file is missing or wrong, or pictures are missing.
    """
    data, skeleton = settings.data, settings.skeleton()
    boxes = boxes or split.boxes
    annotations = data.path(split.annotations)
    notices: tuple[str, ...] = ()
    if boxes == ANNOTATED:
        persons = read_annotations(annotations, skeleton, data.category)
    else:
        persons, notices = read_detections(data.path(boxes), annotations, skeleton, data.box_threshold, data.category)
    return TestSet(split, boxes, notices, make_test_loader(settings, split, persons))


def make_test_loader(settings: Settings, split: Split, persons: Persons) -> DataLoader[Batch | DataError]:
    """Plain crops of these persons, in order; several processes take batches in turn.

    Raises:
        DataError: Pictures are missing.
    """
    data = settings.data
    dataset = CropDataset(persons, data.path(split.images), settings.skeleton(), data.input_size)
    return make_loader(dataset, settings.test.batch_size, data.workers, train=False, shard=distributed.shard())


def test(
    model: nn.Module,
    test_set: TestSet,
    settings: Settings,
    device: torch.device | str,
    save: TestProtocol | None = None,
) -> TestRun:
    """Tests a network.

    Several processes share the work, and each gets the figures. The network is in evaluation mode meanwhile and left
    in the mode it came in.

    Args:
        model: The network, on the device.
        test_set: What to test on.
        settings: ``data`` and ``test`` are used.
        device: Where to compute.
        save: Predict by every decoder, with and without flip, and keep that with this stamp; in one process.

    Raises:
        DataError: A picture or the annotation file cannot be used.
        BackendError: ``test.backend`` is not installed.
    """
    truth = read_truth(settings, test_set.split) if distributed.is_main() else None
    saved = None
    if save is not None:
        saved = predict_every_way(model, test_set.loader, settings, test_set.split, device, save)
        predictions = saved.predictions(save)
    else:
        predictions = predict(model, test_set.loader, settings.test, device)
    scored = None
    if distributed.is_main():
        scored = score(predictions, truth, settings.skeleton(), **scoring_options(settings.test))
    scored = distributed.from_main(scored)
    assert scored is not None
    figures, results = scored
    return TestRun(figures, results, predictions, truth, settings.skeleton(), saved)


test.__test__ = False  # type: ignore[attr-defined]  # a mark for pytest, to which its name says test


def read_truth(settings: Settings, split: Split) -> COCO:
    """The annotations that figures are computed against; kept for the next validation, until the file changes.

    Raises:
        DataError: The file is missing, no annotation file, one of another skeleton, or nobody in it is looked for.
        BackendError: ``test.backend`` is not installed.
    """
    check_backend(settings.test.backend)
    path = settings.data.path(split.annotations)
    changed = path.stat().st_mtime_ns if path.is_file() else None
    return _read_truth(path, changed, settings.skeleton(), settings.data.category)


@lru_cache(maxsize=1)
def _read_truth(path: Path, changed: int | None, skeleton: Skeleton, category: str | int | None) -> COCO:
    return load_annotations(path, skeleton, category, somebody=True)


def stamp(settings: Settings, test_set: TestSet, model: str, checkpoint: str | Path) -> TestProtocol:
    """Every choice that a test's figures depend on, and the files that they came from.

    Args:
        settings: The test's settings; ``data`` and ``test`` are used.
        test_set: What was tested on.
        model: What to call the network, e.g. its configuration's path.
        checkpoint: The weights' file.
    """
    data, skeleton = settings.data, settings.skeleton()
    annotated = test_set.boxes == ANNOTATED
    annotations = data.path(test_set.split.annotations)
    truth = read_truth(settings, test_set.split)
    return TestProtocol(
        boxes=ANNOTATED if annotated else data.path(test_set.boxes).name,
        boxes_sha256=None if annotated else sha256(data.path(test_set.boxes)),
        boxes_count=len(test_set.persons),
        box_threshold=data.box_threshold,
        **{name: getattr(settings.test, name) for name in TEST_CHOICES},
        skeleton=skeleton.name,
        sigmas_estimated=skeleton.sigmas_estimated,
        model=model,
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=sha256(checkpoint),
        annotations=annotations.name,
        annotations_sha256=sha256(annotations),
        areas_from_boxes=truth.areas_from_boxes,
        notices=tuple(map(_without_folder, (*truth.notices, *test_set.notices, *test_set.image_notices))),
        versions=library_versions(),
    )


def _without_folder(notice: str) -> str:
    """A notice with the name of its file alone: a stamp is read on other machines."""
    path, colon, rest = notice.partition(": ")
    return f"{Path(path).name}{colon}{rest}"
