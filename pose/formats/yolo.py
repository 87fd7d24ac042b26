"""YOLO-pose folders: ``data.yaml``, ``images/SPLIT/*.jpg`` and ``labels/SPLIT/*.txt``.

A line is a person: class, box center x and y, width, height, then x, y and, with three columns, the visibility of every
keypoint; places in shares of the image's upright width and height. In the form with two columns a joint that is
unlabeled is written as ``0 0`` or negative. Source: Ultralytics' documentation of pose data sets and what its reader
(8.4.190, ``ultralytics/data/utils.py``) accepts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.image_names import find_image
from pose.errors import DataError, require
from pose.files import make_folder, replacing
from pose.formats.dataset import ImageRecord, PoseDataset, inner_names, make_dataset
from pose.formats.image_files import image_size, link_image
from pose.formats.options import ReadOptions, WriteOptions
from pose.formats.yolo_files import (
    DATA_FILE,
    NO_IMAGE,
    SPLITS,
    chosen_split,
    class_names,
    count_without_image,
    find_data_file,
    image_pairs,
    keypoint_shape,
    label_rows,
    person_class,
    read_fields,
    skeleton_of,
)
from pose.skeleton import BUILT_IN


def recognizes(path: Path) -> bool:
    """Whether it is a YOLO-pose folder or its data file."""
    return find_data_file(path) is not None


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads a split of a folder, or all of them as one, which is counted.

    Raises:
        DataError: A file is missing or not of this format; the message names file and line.
    """
    found = find_data_file(path)
    if found is None:
        raise DataError(f"{path}: no data file with kpt_shape; give the folder of {DATA_FILE} or the file itself")
    fields = read_fields(found)
    count, columns = keypoint_shape(found, fields)
    skeleton = skeleton_of(found, fields, count, options)
    classes = class_names(found, fields)
    person = person_class(found, classes, options.category)
    images: list[ImageRecord] = []
    owners: list[int] = []
    rows: list[np.ndarray] = []
    pairs, empty = image_pairs(found, fields)
    left_out = Counter(
        {
            NO_IMAGE: count_without_image(pairs, 5 + count * columns, person),
            "splits without an image": len(empty),
        }
    )
    for name, image, label in chosen_split(found, pairs, options.split, left_out):
        images.append(ImageRecord(name, *image_size(image)))
        for row in label_rows(label, 5 + count * columns):
            if row[0] != person:
                left_out[f"objects of class {classes.get(int(row[0]), int(row[0]))!r}"] += 1
                continue
            owners.append(len(images) - 1)
            rows.append(row[1:])
    sizes = np.array([(image.width, image.height) for image in images], np.float64).reshape(-1, 2)[owners]
    values = np.array(rows, np.float64).reshape(len(rows), 4 + count * columns)
    points = values[:, 4:].reshape(len(rows), count, columns)
    if columns == 3:
        visibility = points[..., 2]
        if not np.isin(visibility, (0, 1, 2)).all():
            raise DataError(f"{found}: a keypoint's third column is not 0, 1 or 2; is kpt_shape right?")
    else:
        visibility = np.where((points <= 0).all(-1) | (points < 0).any(-1), 0, 2)
    low = (values[:, :2] - values[:, 2:4] / 2) * sizes
    boxes = np.hstack([low, values[:, 2:4] * sizes])
    keypoints = np.dstack([points[..., :2] * sizes[:, None], visibility])
    return make_dataset(skeleton, images, owners, keypoints, +left_out, boxes=boxes)


def write(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes a folder with one split, visibility in the third column; images become links to those of the folder.

    Readers take the last folder ``images`` of a path for the one beside ``labels`` (``img2label_paths`` in the file
    above), so that images lie here without folders of this name of their own: ``../images/a.jpg`` as ``a.jpg``.

    Ultralytics' reader leaves out a whole image where one number is outside it, so joints outside become unlabeled and
    boxes are cut, both counted.

    Returns:
        What the format cannot hold.

    Raises:
        OutputError: The folder cannot be written.
        DataError: An image has no size, or two would share a label file.
    """
    yaml = require("yaml", "the format yolo", extra="formats")
    lost = Counter(
        {
            "areas": int(np.isfinite(dataset.areas).sum()),
            "crowd regions": int(dataset.crowd.sum()),
            "tracks": int((dataset.tracks >= 0).sum()),
            "scores of persons and joints": int(np.isfinite(dataset.scores).sum()),
        }
    )
    labels, images = path / "labels" / options.split, path / "images" / options.split
    places = inner_names(dataset.images, dropped=("images",))
    make_folder(labels)
    sizes = np.array([(image.width, image.height) for image in dataset.images], np.float64).reshape(-1, 2)
    if not (sizes > 0).all():
        raise DataError(f"{dataset.images[int(np.argmin(sizes.min(1)))].file_name}: its size is unknown")
    lines, changed = _lines(dataset, sizes[dataset.owners])
    lost.update(changed)
    for number, (place, image) in enumerate(zip(places, dataset.images, strict=True)):
        with replacing(labels / place.with_suffix(".txt")) as temporary:
            temporary.write_text("".join(lines.get(number, [])), encoding="utf-8")
        if options.images is not None:
            source = Path(find_image(str(options.images), image.file_name))
            if source.is_file():
                link_image(source, images / place)
            else:
                lost["images that are not in the folder of images (labels alone)"] += 1
    skeleton = dataset.skeleton
    fields = {
        "path": str(path.resolve()),
        "train": f"images/{options.split}",
        "val": f"images/{options.split}",
        "kpt_shape": [skeleton.num_keypoints, 3],
        "flip_idx": skeleton.flip_index.tolist(),
        "names": {0: "person"},
        "kpt_names": {0: list(skeleton.keypoints)},
    }
    if (path / DATA_FILE).is_file():
        fields = _merged(path / DATA_FILE, fields, options.split)
    with replacing(path / DATA_FILE) as temporary:
        temporary.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")
    lost["limbs"] = 0 if skeleton in BUILT_IN.values() else len(skeleton.limbs)
    return lost


def _lines(dataset: PoseDataset, limits: np.ndarray) -> tuple[dict[int, list[str]], Counter[str]]:
    """The lines of each image, and what had to be changed; ``limits`` (N, 2) are the persons' image sizes."""
    keypoints = dataset.keypoints.copy()
    outside = dataset.labeled & ((keypoints[..., :2] < 0) | (keypoints[..., :2] > limits[:, None])).any(-1)
    keypoints[outside] = 0
    boxes = dataset.boxes_or_extents()
    low = boxes[:, :2].clip(0, limits)
    size = (boxes[:, :2] + boxes[:, 2:]).clip(0, limits) - low
    usable = ~dataset.crowd & np.isfinite(boxes).all(1) & (size > 0).all(1)
    cut = usable & (np.abs(np.hstack([low, size]) - boxes) > 1e-3).any(1)
    keypoints[..., :2] /= limits[:, None]
    shares = np.hstack([(low + size / 2) / limits, size / limits])
    lines: dict[int, list[str]] = {}
    for row in np.flatnonzero(usable):
        parts = [f"{share:.8f}".rstrip("0").rstrip(".") for share in shares[row]]
        parts += [f"{x:.8f} {y:.8f} {int(v)}" if v else "0 0 0" for x, y, v in keypoints[row]]
        lines.setdefault(int(dataset.owners[row]), []).append(f"0 {' '.join(parts)}\n")
    return lines, Counter(
        {
            "joints outside their image (unlabeled now)": int(outside[usable].sum()),
            "boxes beyond their image (cut)": int(cut.sum()),
            "persons without a box inside their image": int((~usable & ~dataset.crowd).sum()),
        }
    )


def _merged(path: Path, fields: dict[str, Any], split: str) -> dict[str, Any]:
    """The data file of a folder that has another split already.

    Raises:
        DataError: It is of other keypoints.
    """
    before = read_fields(path)
    for key in ("kpt_shape", "flip_idx"):
        if before.get(key) != fields[key]:
            raise DataError(f"{path}: has {key} {before.get(key)}, not {fields[key]}; write into another folder")
    known = {name: before[name] for name in SPLITS if before.get(name) and name != split}
    if known.get("val") == f"images/{split}":
        del known["val"]
    return {**fields, **known, split: f"images/{split}"}
