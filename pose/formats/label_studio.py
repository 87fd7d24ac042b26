"""Label Studio's JSON: tasks with annotated regions read, tasks with predictions written.

A task's points belong to a person by relations (to the person's rectangle or to each other), or by having the same
parent region; Label Studio's own COCO export leaves that out. Where no point of a task is tied to anything, a task with
each keypoint at most once is one person, and any other is refused. Places are percents of the image's size. Source:
Label Studio's documentation of its task format, and of importing predictions.
"""

from __future__ import annotations

import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from pose.errors import DataError
from pose.files import check_outputs, read_json, replacing, write_json
from pose.formats.builder import Builder, Point
from pose.formats.dataset import ImageRecord, PoseDataset, relative_name
from pose.formats.names import skeleton_from_names
from pose.formats.options import ReadOptions, WriteOptions

_POINT, _BOX = "keypointlabels", "rectanglelabels"
_HIDDEN = "hidden"  # a note on a region, since Label Studio has no visibility
_POINT_WIDTH = 0.75  # percent of the image's width, how large Label Studio draws a point


def recognizes(path: Path) -> bool:
    """Whether it is a JSON list of tasks."""
    if path.suffix != ".json":
        return False
    with open(path, "rb") as file:
        start = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"[") and (b'"annotations"' in start or b'"predictions"' in start) and b'"data"' in start


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads the newest annotation of each task, or its newest prediction where nobody annotated it.

    A prediction's points with a score below the joint threshold become unlabeled.

    Raises:
        DataError: It is no export of tasks, or nothing says which of a task's points are one person.
    """
    tasks = read_json(path, "Label Studio export")
    if not isinstance(tasks, list):
        raise DataError(f"{path}: not Label Studio's JSON export: needs a list of tasks")
    builder = Builder()
    for number, task in enumerate(tasks):
        name = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        try:
            _add_task(name, task, options, builder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{name} is not in Label Studio's format ({error!r})") from error
    skeleton = options.skeleton or skeleton_from_names(path.stem, builder.names or ["keypoint"])
    return builder.build(skeleton)


def _add_task(name: str, task: Mapping[str, Any], options: ReadOptions, builder: Builder) -> None:
    done = [each for each in task.get("annotations") or () if not each.get("was_cancelled")]
    builder.left_out["skipped annotations"] += len(task.get("annotations") or ()) - len(done)
    versions = sorted(done or task.get("predictions") or (), key=_time)
    builder.left_out["older versions of annotations"] += max(len(versions) - 1, 0)
    results = versions[-1]["result"] if versions else []
    regions = [each for each in results if each.get("type") in (_POINT, _BOX)]
    sizes = {(each["original_width"], each["original_height"]) for each in regions}
    file_name = _file_name(task["data"])
    if not sizes:
        builder.left_out["tasks without regions"] += 1
        return
    width, height = next(iter(sizes))
    builder.add_image(ImageRecord(file_name, int(width), int(height)))
    for points, box in _persons(name, results, options.category, builder):
        places: dict[str, Point] = {}
        scores: dict[str, float] = {}
        for region in points:
            value = region["value"]
            label = value[_POINT][0]
            seen = 1.0 if _HIDDEN in ((region.get("meta") or {}).get("text") or ()) else 2.0
            if not done and region.get("score") is not None:
                scores[label] = float(region["score"])
                seen = min(seen, builder.found_visibility(scores[label], options.joint_threshold))
            places[label] = (value["x"] * width / 100, value["y"] * height / 100, seen)
        shown = None if box is None else _box(box["value"], width, height)
        builder.add_person(file_name, places, shown, joint_scores=scores)


def _time(version: Mapping[str, Any]) -> str:
    """When an annotation was changed or a prediction made, as ISO 8601 has it, so that later ones are larger."""
    return str(version.get("updated_at") or version.get("created_at") or "")


def _file_name(data: Mapping[str, Any]) -> str:
    """The image of a task: what is behind ``?d=`` of local files, else the address's path without what uploads add."""
    address = next(
        (data[key] for key in ("image", "img", "url") if key in data),
        next((value for value in data.values() if isinstance(value, str) and "/" in value), ""),
    )
    parts = urllib.parse.urlsplit(str(address))
    local = urllib.parse.parse_qs(parts.query).get("d")
    name = relative_name(urllib.parse.unquote(local[0] if local else parts.path))
    folder, _, file = name.rpartition("/")
    if folder.startswith("data/upload"):
        random, _, original = file.partition("-")
        return original if len(random) == 8 and original else file
    return name


def _persons(
    name: str, results: Sequence[Mapping[str, Any]], category: str | None, builder: Builder
) -> Iterator[tuple[list[Mapping[str, Any]], Mapping[str, Any] | None]]:
    """The points of each person of a task, and the person's rectangle."""
    regions = {each["id"]: each for each in results if each.get("type") in (_POINT, _BOX)}
    for each in results:
        if each.get("type") not in (_POINT, _BOX, "relation"):
            builder.left_out[f"regions of type {each.get('type')!r}"] += 1
    owner = {region: region for region in regions}

    def root(region: str) -> str:
        while owner[region] != region:
            region = owner[region]
        return region

    ties = [(each["from_id"], each["to_id"]) for each in results if each.get("type") == "relation"]
    ties += [(region, regions[region].get("parentID")) for region in regions]
    for one, other in ties:
        if one in owner and other in owner:
            owner[root(one)] = root(other)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for region, each in regions.items():
        groups.setdefault(root(region), []).append(each)
    points = [each for each in regions.values() if each["type"] == _POINT]
    if len(groups) > 1 and len(points) > 1 and all(len(group) == 1 for group in groups.values()):
        boxes = [each for each in regions.values() if each["type"] == _BOX]
        if len({each["value"][_POINT][0] for each in points}) < len(points) or len(boxes) > 1:
            raise DataError(
                f"{name}: nothing ties its {len(points)} points to persons; relate them to the person's rectangle, or "
                "make them its children, and export again"
            )
        groups = {"": list(regions.values())}
    for group in groups.values():
        own = [each for each in group if each["type"] == _POINT]
        drawn = [each for each in group if each["type"] == _BOX]
        boxes = [each for each in drawn if category is None or category in each["value"][_BOX]]
        if not own:
            builder.left_out["rectangles without keypoints"] += len(drawn)
            continue
        if drawn and not boxes:
            builder.left_out[f"persons whose rectangle is not called {category!r}"] += 1
            continue
        builder.left_out["further rectangles of a person"] += max(len(drawn) - 1, 0)
        labels = [each["value"][_POINT][0] for each in own]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise DataError(f"{name}: a person has the keypoint {twice!r} twice; part the persons' relations")
        yield own, boxes[0] if boxes else None


def _box(value: Mapping[str, float], width: float, height: float) -> list[float]:
    shares = [value["x"] * width, value["y"] * height, value["width"] * width, value["height"] * height]
    return [share / 100 for share in shares]


def write(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes tasks with predictions, and beside them ``NAME.config.xml``, the labeling configuration that they need.

    Every point is related to its person's rectangle. Images are addressed as Label Studio's local files.

    Returns:
        What the format cannot hold.

    Raises:
        OutputError: A place cannot be written.
    """
    config = path.with_suffix(".config.xml")
    check_outputs([path, config])
    tasks: list[dict[str, Any]] = [
        {"data": {"image": options.url_prefix + urllib.parse.quote(image.file_name)}, "predictions": []}
        for image in dataset.images
    ]
    kept = dataset.persons
    boxes = dataset.boxes_or_extents()
    for row in np.flatnonzero(kept).tolist():
        owner = int(dataset.owners[row])
        if not tasks[owner]["predictions"]:
            tasks[owner]["predictions"] = [{"model_version": "pose", "score": 1.0, "result": []}]
        prediction = tasks[owner]["predictions"][0]
        prediction["result"] += _regions(dataset, row, boxes[row])
        if np.isfinite(dataset.scores[row]):
            prediction["score"] = min(prediction["score"], float(dataset.scores[row]))
    write_json(path, tasks)
    with replacing(config) as temporary:
        temporary.write_text(_config(dataset.skeleton.keypoints), encoding="utf-8")
    return Counter(
        {
            "areas": int(np.isfinite(dataset.areas[kept]).sum()),
            "persons and regions without keypoints": int((~kept).sum()),
            "tracks": int((dataset.tracks >= 0).sum()),
            "limbs": len(dataset.skeleton.limbs),
        }
    )


def _regions(dataset: PoseDataset, row: int, box: np.ndarray) -> list[dict[str, Any]]:
    image = dataset.images[dataset.owners[row]]
    person = f"person{row}"
    common = {"to_name": "image", "original_width": image.width, "original_height": image.height, "image_rotation": 0}

    def region(name: str, kind: str, label: str, **value: float) -> dict[str, Any]:
        source = "person" if kind == _BOX else "keypoints"
        place = {key: float(number) for key, number in value.items()}
        return {"id": name, "type": kind, "from_name": source, "value": {**place, kind: [label]}, **common}

    x, y, width, height = 100 * box / (image.width, image.height, image.width, image.height)
    found = [region(person, _BOX, "person", x=x, y=y, width=width, height=height, rotation=0)]
    for joint in np.flatnonzero(dataset.labeled[row]).tolist():
        x, y = 100 * dataset.keypoints[row, joint, :2] / (image.width, image.height)
        name = f"{person}_{joint}"
        point = region(name, _POINT, dataset.skeleton.keypoints[joint], x=x, y=y, width=_POINT_WIDTH)
        if dataset.keypoints[row, joint, 2] == 1:
            point["meta"] = {"text": [_HIDDEN]}
        if np.isfinite(dataset.joint_scores[row, joint]):
            point["score"] = float(dataset.joint_scores[row, joint])
        found += [point, {"type": "relation", "from_id": name, "to_id": person, "direction": "right"}]
    return found


def _config(keypoints: Sequence[str]) -> str:
    labels = "".join(
        f'    <Label value={quoteattr(name)} model_index="{index}"/>\n'  # its own exports need the index
        for index, name in enumerate(keypoints)
    )
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        '  <RectangleLabels name="person" toName="image">\n    <Label value="person"/>\n  </RectangleLabels>\n'
        f'  <KeyPointLabels name="keypoints" toName="image">\n{labels}  </KeyPointLabels>\n</View>\n'
    )
