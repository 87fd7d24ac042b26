"""CVAT's own XML, version 1.1, of images and of videos: skeletons, and boxes of the same group.

A point is ``outside`` where it is not labeled and ``occluded`` where it is hidden. A box belongs to the skeleton of its
``group_id``. Of a video every frame that the file has is read, with the track's number; frames are named by number.
Source: CVAT's manual, 'CVAT for image' and 'CVAT for video', and ``cvat/apps/dataset_manager/formats/cvat.py``.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from pose.errors import DataError
from pose.formats.builder import Builder, Point
from pose.formats.dataset import ImageRecord, PoseDataset, relative_name
from pose.formats.names import skeleton_from_names
from pose.formats.options import ReadOptions
from pose.skeleton import Skeleton

ARCHIVED = "annotations.xml"


def recognizes(path: Path) -> bool:
    """Whether it is CVAT's XML, or an archive with it."""
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                return ARCHIVED in archive.namelist()
        except (zipfile.BadZipFile, OSError):
            return False
    if path.suffix != ".xml":
        return False
    with open(path, "rb") as file:
        return b"<annotations" in file.read(1 << 12)


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads the skeletons of one label.

    Raises:
        DataError: It is no XML of CVAT, or has skeletons of several labels and none was chosen.
    """
    root = _root(path)
    label = _label(path, root, options.category)
    builder = Builder()
    for image in root.iter("image"):
        _add_image(path, image, label, builder)
    frames = list(root.iter("track"))
    if frames:
        _add_tracks(path, root, frames, label, builder)
    skeleton = options.skeleton or _skeleton(root, label, builder)
    return builder.build(skeleton)


def _root(path: Path) -> Element:
    try:
        if path.suffix != ".zip":
            text = path.read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                if ARCHIVED not in archive.namelist():
                    raise DataError(f"{path}: has no {ARCHIVED}; export it as 'CVAT for images' or 'CVAT for video'")
                text = archive.read(ARCHIVED)
        if b"<!ENTITY" in text.replace(b"\0", b""):  # in UTF-16, too
            raise DataError(f"{path}: declares entities, which no file of CVAT does")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is no XML of CVAT ({error})") from error
    if root.tag != "annotations":
        raise DataError(f"{path}: is no XML of CVAT: begins with <{root.tag}>, not <annotations>")
    return root


def _label(path: Path, root: Element, category: str | None) -> str:
    labels = list(dict.fromkeys(each.get("label", "") for each in root.iter("skeleton")))
    tracks = (each for each in root.iter("track") if each.find("skeleton") is not None)
    labels = list(dict.fromkeys([*filter(None, labels), *(each.get("label", "") for each in tracks)]))
    if category is not None:
        if category not in labels:
            raise DataError(f"{path}: no skeletons of the label {category!r}; there are {', '.join(labels) or 'none'}")
        return category
    if not labels:
        raise DataError(f"{path}: has no skeleton; single points tell nothing of whom they are")
    if len(labels) > 1:
        raise DataError(f"{path}: has skeletons of {', '.join(labels)}; choose one by --category")
    return labels[0]


def _add_image(path: Path, image: Element, label: str, builder: Builder) -> None:
    try:
        record = ImageRecord(
            relative_name(image.attrib["name"]), int(image.attrib["width"]), int(image.attrib["height"]),
            int(image.attrib["id"]) + 1,
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: an <image> needs id, name, width and height ({error!r})") from error
    builder.add_image(record)
    grouped = [box for box in image.iter("box") if box.get("group_id", "0") != "0"]
    boxes: dict[str | None, list[float]] = {}
    for box in sorted(grouped, key=lambda box: box.get("label") != label):  # the persons' own before other boxes
        boxes.setdefault(box.get("group_id"), _box(path, box))
    builder.left_out["further boxes of a person's group"] += len(grouped) - len(boxes)
    used = set()
    for shape in image:
        if shape.tag == "skeleton" and shape.get("label") == label:
            group = shape.get("group_id")
            used.add(group)
            builder.add_person(record.file_name, dict(_points(path, shape)), boxes.get(group))
        elif shape.tag != "tag" and not (shape.tag == "box" and shape.get("group_id") in boxes):
            builder.left_out[f"shapes of kind {shape.tag!r} of no person"] += 1
    builder.left_out["boxes of no person"] += len(boxes.keys() - used)


def _add_tracks(path: Path, root: Element, tracks: list[Element], label: str, builder: Builder) -> None:
    size = root.find(".//original_size")
    try:
        assert size is not None
        width, height = (int(size.findtext(side, "")) for side in ("width", "height"))
    except (AssertionError, ValueError) as error:
        raise DataError(f"{path}: does not say the size of its video (meta, original_size)") from error
    for number, track in enumerate(tracks):
        if track.get("label") != label or track.find("skeleton") is None:
            builder.left_out["tracks that are no skeletons of this label"] += 1
            continue
        identity = _number(path, track, "id") if "id" in track.attrib else number
        for shape in track.iter("skeleton"):
            if shape.get("outside") == "1":
                continue
            frame = _number(path, shape, "frame")
            record = ImageRecord(f"frame_{frame:06}.jpg", width, height, frame + 1)
            builder.add_image(record)
            builder.add_person(record.file_name, dict(_points(path, shape)), track=identity)


def _points(path: Path, skeleton: Element) -> Iterator[tuple[str, Point]]:
    for point in skeleton.iter("points"):
        name, place = point.get("label", ""), point.get("points", "")
        try:
            x, y = (float(value) for value in place.split(","))
        except ValueError as error:
            raise DataError(f"{path}: the keypoint {name!r} has the points {place!r}, not x,y") from error
        visibility = 0 if point.get("outside") == "1" else 1 if point.get("occluded") == "1" else 2
        yield name, (x, y, visibility)


def _number(path: Path, element: Element, name: str) -> int:
    value = element.get(name, "0")
    try:
        return int(value)
    except ValueError as error:
        raise DataError(f"{path}: a <{element.tag}> has the {name} {value!r}, not a number") from error


def _box(path: Path, box: Element) -> list[float]:
    try:
        x1, y1, x2, y2 = (float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: a <box> needs xtl, ytl, xbr and ybr ({error!r})") from error
    return [x1, y1, x2 - x1, y2 - y1]


def _skeleton(root: Element, label: str, builder: Builder) -> Skeleton:
    """The skeleton of the task's labels, else the keypoints in the order of their coming."""
    labels = [each for each in root.iter("label") if each.findtext("name") is not None]
    names = [each.findtext("name", "") for each in labels if each.findtext("parent") == label]
    drawing = next((each.findtext("svg", "") for each in labels if each.findtext("name") == label), "")
    if not names:
        return skeleton_from_names(label, builder.names)
    nodes = {}
    for circle in re.findall(r"<circle[^>]*>", drawing):
        node = dict(re.findall(r'data-([\w-]+)="([^"]*)"', circle))
        if node.get("label-name") in names:
            nodes[node.get("node-id")] = names.index(node["label-name"])
    edges = [dict(re.findall(r'data-([\w-]+)="([^"]*)"', line)) for line in re.findall(r"<line[^>]*>", drawing)]
    ends = [(nodes.get(edge.get("node-from")), nodes.get(edge.get("node-to"))) for edge in edges]
    limbs = [(first, second) for first, second in ends if first is not None and second is not None]
    return skeleton_from_names(label, names, limbs, first=0)
