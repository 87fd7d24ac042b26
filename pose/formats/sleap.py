"""Projects of SLEAP and DeepLabCut, read by ``sleap-io``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import DataError, require
from pose.formats.builder import Builder, Point
from pose.formats.dataset import ImageRecord, PoseDataset, relative_name
from pose.formats.image_files import image_size
from pose.formats.names import skeleton_from_names
from pose.formats.options import ReadOptions


def recognizes(path: Path) -> bool:
    """Whether it is a SLEAP project, a DeepLabCut project's folder or configuration, or its table of labels."""
    if path.suffix == ".slp":
        return True
    if path.is_dir():
        return (path / "config.yaml").is_file() and (path / "labeled-data").is_dir()
    if path.name == "config.yaml":
        return recognizes(path.parent)
    if path.suffix != ".csv" or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(7) == b"scorer,"


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads labeled frames; images are named relative to the project's folder, frames of videos by number.

    Instances that a network found are read where a frame has no labeled ones, with their scores; their points below
    the joint threshold become unlabeled.

    Raises:
        DataError: sleap-io cannot read it, or an image's size is not known.
        MissingExtra: sleap-io is not installed.
    """
    library = require("sleap_io", "reading projects of SLEAP and DeepLabCut")
    builder = Builder()
    skeletons = []
    for file in _files(path):
        try:
            labels = (
                library.load_slp(str(file)) if file.suffix == ".slp" else library.load_file(str(file), format="dlc")
            )
        except Exception as error:  # whatever it raises about a file is about the file
            raise DataError(f"{file}: sleap-io cannot read it ({error})") from error
        skeletons += list(labels.skeletons)
        for frame in labels.labeled_frames:
            _add(file, path if path.is_dir() else path.parent, frame, labels, options, builder)
    if not skeletons:
        raise DataError(f"{path}: names no skeleton")
    chosen = skeletons[0]
    skeleton = options.skeleton or skeleton_from_names(
        chosen.name or path.stem, chosen.node_names, chosen.edge_inds, first=0
    )
    return builder.build(skeleton)


def _files(path: Path) -> list[Path]:
    folder = path.parent if path.name == "config.yaml" else path
    if not folder.is_dir():
        return [path]
    files = sorted(folder.glob("labeled-data/*/CollectedData_*.csv"))
    if not files:
        raise DataError(f"{path}: no labeled-data/*/CollectedData_*.csv in this project")
    return files


def _add(file: Path, root: Path, frame: Any, labels: Any, options: ReadOptions, builder: Builder) -> None:
    record = _image(file, root, frame, options)
    builder.add_image(record)
    user = frame.user_instances
    builder.left_out["found instances beside labeled ones"] += len(frame.predicted_instances) if user else 0
    for instance in user or frame.predicted_instances:
        points: dict[str, Point] = {}
        scores: dict[str, float] = {}
        values = instance.numpy() if user else instance.numpy(scores=True)
        for name, (x, y, *score) in zip(instance.skeleton.node_names, values.tolist(), strict=True):
            if np.isfinite([x, y]).all():
                points[name] = (x, y, 2.0)
                if score:
                    scores[name] = score[0]
                    points[name] = (x, y, builder.found_visibility(score[0], options.joint_threshold))
        track = -1 if instance.track is None else labels.tracks.index(instance.track)
        if points:
            found = np.nan if user else float(instance.score)
            builder.add_person(record.file_name, points, track=track, score=found, joint_scores=scores)
        else:
            builder.left_out["instances without a point"] += 1


def _image(file: Path, root: Path, frame: Any, options: ReadOptions) -> ImageRecord:
    video, number = frame.video, int(frame.frame_idx)
    names = video.filename
    if isinstance(names, (list, tuple)):
        name = str(names[number])
        for candidate in (Path(name), file.parent / name, file.parent / Path(name).name, root / name):
            if candidate.is_file():
                inside = candidate.is_relative_to(root)
                shown = candidate.relative_to(root).as_posix() if inside else relative_name(str(candidate))
                return ImageRecord(shown, *image_size(candidate))
        if options.images is not None:
            return ImageRecord(Path(name).name, *image_size(options.images / Path(name).name))
        raise DataError(f"{file}: its image {name} is not there; give the image folder by --images")
    shape = video.shape
    if shape is None:
        raise DataError(f"{file}: its video {names} is not there, so that the size of its frames is not known")
    return ImageRecord(f"{Path(str(names)).stem}_{number:06}.jpg", int(shape[2]), int(shape[1]), number + 1)
