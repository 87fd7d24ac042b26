"""Several data sets as one to train on: keypoints matched by name, a network's labels by their confidence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.datasets.annotations import AnnotatedPersons, counts, persons_in
from pose.datasets.coco import Persons, persons_of, read_tables
from pose.datasets.image_names import find_image, linked
from pose.datasets.image_records import listed_images
from pose.datasets.joint_confidences import CONFIDENCES, extra_joints, own_confidences
from pose.datasets.split import first_share, hold_out, without_images
from pose.datasets.train_set import TrainSet
from pose.errors import DataError
from pose.skeleton import Skeleton, choose_skeleton


class TrainPersons(NamedTuple):
    """The persons of all training sets, one set after the other.

    Attributes:
        persons: The persons of all sets.
        image_root: The folder that their pictures' names are relative to.
        draws: How many persons each set has and how often each of them is drawn in an epoch.
        told: A line for each set: what it contributes and what was left out; and one for each rule that was needed.
    """

    persons: Persons
    image_root: Path
    draws: tuple[tuple[int, float], ...]
    told: tuple[str, ...]


def read_train_sets(
    sets: Sequence[TrainSet], root: str | Path, skeleton: Skeleton, category: str | int | None = None
) -> TrainPersons:
    """Reads what is trained on.

    Args:
        sets: One data set or several.
        root: What their paths are relative to.
        skeleton: What the keypoints shall be.
        category: The persons', by name or id; None chooses it, see :func:`pose.datasets.annotations.persons_in`.

    Raises:
        DataError: A file is missing or wrong, a set shares no keypoint with the skeleton or has no person to train on.
    """
    root = Path(root)
    parts = [_split(each, root, category) if each.hold_out else None for each in sets]
    held: set[str] = set()
    if len(sets) > 1:  # what a set holds out no other may train on
        for each, part in zip(sets, parts, strict=True):
            held.update(_files(part[1], each, root).values() if part else ())
    rest = [part[0] if part else None for part in parts]
    read = [_read(each, file, root, skeleton, category, held) for each, file in zip(sets, rest, strict=True)]
    persons = [own for own, _ in read]
    draws = tuple((len(own), each.weight) for own, each in zip(persons, sets, strict=True))
    told = tuple(line for _, lines in read for line in lines[:1])
    told += tuple(line for _, lines in read for line in lines[1:])
    if len(sets) == 1:
        return TrainPersons(persons[0], root / sets[0].images, draws, told)
    return TrainPersons(joined(persons, [each.images for each in sets], root), root, draws, told)


def joined(parts: Sequence[Persons], folders: Sequence[str], root: str | Path) -> Persons:
    """Persons of several tables of pictures as those of one.

    Args:
        parts: Parts of one skeleton.
        folders: Where each part's pictures are, relative to ``root``, to which names are relative in what comes back.
        root: The folder of all of them.
    """
    names = [
        np.array([_below(root, folder, name.decode()).encode() for name in part.file_names.tolist()], np.bytes_)
        for part, folder in zip(parts, folders, strict=True)
    ]
    first = np.cumsum([0, *(len(part.image_ids) for part in parts[:-1])])
    index = [part.image_index + start for part, start in zip(parts, first, strict=True)]
    weights = None
    if any(part.joint_weights is not None for part in parts):
        weights = np.concatenate([part.weights for part in parts])
    same = ("image_ids", "image_sizes", "annotation_ids", "boxes", "box_scores", "keypoints")
    return Persons(
        file_names=np.concatenate(names),
        image_index=np.concatenate(index).astype(np.int32),
        joint_weights=weights,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in same},
    )


def _below(root: str | Path, folder: str, name: str) -> str:
    """A picture's name relative to ``root``, by the rules that hold in its own folder below it."""
    return find_image(os.path.join(root, folder), name).removeprefix(os.path.join(root, ""))


def held_out(
    sets: Sequence[TrainSet], root: str | Path, skeleton: Skeleton, category: str | int | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """One annotation file of the pictures that all sets hold out, with file names relative to ``root``.

    Keypoints are those that training would learn from: matched by name, a network's doubtful ones unlabelled. Who would
    not train is in the file, too, without keypoints: in scoring answers there are neither right nor wrong.

    Returns:
        The file, and a line for each rule that was needed.

    Raises:
        DataError: As in :func:`read_train_sets`, or no set holds pictures out.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    told: list[str] = []
    none = [0] * 3 * skeleton.num_keypoints
    for each in sets:
        if not each.hold_out:
            continue
        path = Path(root, each.annotations)
        file = _split(each, Path(root), category)[1]
        annotated = _annotated(file, each, path, skeleton, category)
        persons, *_ = _as_skeleton(file, annotated, each, path, Path(root), skeleton)
        told += annotated.notices
        rows = {annotation_id: row for row, annotation_id in enumerate(persons.annotation_ids.tolist())}
        numbers = {image["id"]: number for number, image in enumerate(file["images"], len(images) + 1)}
        for record in annotated.records:
            row = rows.get(record["id"])
            keypoints = none if row is None else [round(value, 2) for value in persons.keypoints[row].ravel().tolist()]
            kept = {key: record[key] for key in ("iscrowd", "bbox", "area")}
            own = {"id": len(annotations) + 1, "image_id": numbers[record["image_id"]], "category_id": 1, **kept}
            labeled = sum(value > 0 for value in keypoints[2::3])
            annotations.append({**own, "num_keypoints": labeled, "keypoints": keypoints})
        for image in file["images"]:
            name = _below(root, each.images, str(image["file_name"]))
            images.append({**image, "id": len(images) + 1, "file_name": name})
    if not images:
        raise DataError("data.train: no set has a hold_out above 0, so that there is nothing to write")
    limbs = [[first + 1, second + 1] for first, second in skeleton.limbs]
    person = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": limbs}
    return {"images": images, "annotations": annotations, "categories": [person]}, tuple(told)


def _files(file: Mapping[str, Any], each: TrainSet, root: Path) -> dict[int, str]:
    """The files of a set's pictures by their ids, see :func:`pose.datasets.image_names.linked`."""
    folder = str(root / each.images)
    return {image.id: linked(find_image(folder, image.name)) for image in listed_images(file, root / each.annotations)}


def _read(
    each: TrainSet,
    file: dict[str, Any] | None,
    root: Path,
    skeleton: Skeleton,
    category: str | int | None,
    held: Set[str],
) -> tuple[Persons, tuple[str, ...]]:
    """A set's persons in another skeleton, and lines about them.

    Args:
        file: What is left of the set's file where it holds pictures out; None reads it.
        held: Files of pictures that any set holds out.
    """
    path = root / each.annotations
    file = file or read_tables(path)
    files = _files(file, each, root) if held else {}
    shared = {image_id for image_id, name in files.items() if name in held}
    file = without_images(file, shared)
    images = len(file["images"])
    if each.share < 1:
        file = first_share(file, each.share, path, category)
    annotated = _annotated(file, each, path, skeleton, category)
    persons, unsure, unnamed = _as_skeleton(file, annotated, each, path, root, skeleton)
    labeled = persons.keypoints[..., 2] > 0
    left_out = {
        **_who_is_left_out(annotated, len(persons)),
        f"joints below confidence {each.least_confidence:g}": unsure,
        "pictures held out": each.hold_out,
        "pictures that other sets hold out": len(shared),
        f"pictures that are not of the share {each.share:g}": images - len(file["images"]),
    }
    line = f"{each.name}: {len(persons):,} persons with {int(labeled.sum()):,} joints"
    line += f", drawn {each.weight:g} times" if each.weight != 1 else ""
    told = [f"{count:,} {what}" for what, count in left_out.items() if count]
    line = f"{line}; left out: {', '.join(told)}" if told else line
    line += f"; {unnamed:,} persons are not in {each.extra_joints}" if unnamed else ""
    return persons, (line, *annotated.notices)


def _who_is_left_out(annotated: AnnotatedPersons, kept: int) -> dict[str, int]:
    """How many persons of a set do not train, and why; other categories have a notice of their own."""
    records, crowds = annotated.records, sum(person["iscrowd"] for person in annotated.records)
    counted = sum(map(counts, records))
    return {
        "crowd regions": crowds,
        "persons without a labelled keypoint": len(records) - counted - crowds - annotated.areas_zero,
        "persons of area 0": annotated.areas_zero,
        "persons without a keypoint to learn from": counted - kept,
    }


def _split(each: TrainSet, root: Path, category: str | int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A set's file without the pictures that it holds out, and that of these."""
    path = root / each.annotations
    return hold_out(read_tables(path), each.hold_out, path=path, category=category)


def _annotated(
    file: Mapping[str, Any], each: TrainSet, path: Path, skeleton: Skeleton, category: str | int | None
) -> AnnotatedPersons:
    return persons_in(file, path, _own(each, skeleton), category)


def _own(each: TrainSet, skeleton: Skeleton) -> Skeleton:
    """The skeleton of a set's annotations."""
    return choose_skeleton(each.skeleton, f"skeleton of {each.name}") if each.skeleton else skeleton


def _as_skeleton(
    file: Mapping[str, Any],
    annotated: AnnotatedPersons,
    each: TrainSet,
    path: Path,
    root: Path,
    skeleton: Skeleton,
) -> tuple[Persons, int, int]:
    """The persons of an annotation file by the skeleton that is trained.

    Returns:
        The persons; how many joints were too unsure; and how many persons ``extra_joints`` does not name.
    """
    own = _own(each, skeleton)
    persons = persons_of(file, path, own, annotated)
    stated = any(CONFIDENCES in annotation for annotation in annotated.records)
    if own.keypoints == skeleton.keypoints and not stated and not each.extra_joints:
        return persons, 0, 0
    shared = [name for name in skeleton.keypoints if name in own.keypoints]
    if not shared:
        raise DataError(f"{path}: skeletons {own.name} and {skeleton.name} share no keypoint's name")
    source = [own.keypoints.index(name) for name in shared]
    target = [skeleton.keypoints.index(name) for name in shared]
    shape = len(persons), skeleton.num_keypoints
    keypoints, confidences = np.zeros((*shape, 3), np.float32), np.full(shape, np.nan, np.float32)
    keypoints[:, target] = persons.keypoints[:, source]
    if stated:
        confidences[:, target] = own_confidences(annotated, path, persons, own)[:, source]
    unnamed = 0
    if each.extra_joints:
        lacking = np.setdiff1d(np.arange(skeleton.num_keypoints), target)
        joints = extra_joints(root / each.extra_joints, annotated, file["annotations"], persons, skeleton)
        unnamed = int(np.isnan(joints[:, 0, 2]).sum())
        joints = np.nan_to_num(joints[:, lacking])
        keypoints[:, lacking, :2] = joints[..., :2]
        keypoints[:, lacking, 2] = 2 * (joints[..., 2] > 0)
        confidences[:, lacking] = joints[..., 2]
    labeled = keypoints[..., 2] > 0
    unsure = labeled & (confidences < each.least_confidence)
    keypoints[unsure] = 0
    labeled &= ~unsure
    weights = None
    if each.confidence_weight:
        weights = labeled * np.where(np.isnan(confidences), 1, confidences).astype(np.float32)
    rows = np.flatnonzero(labeled.any(1))
    if not len(rows):
        raise DataError(f"{path}: no person has a joint of confidence {each.least_confidence:g} or more")
    return replace(persons, keypoints=keypoints, joint_weights=weights).take(rows), int(unsure.sum()), unnamed
