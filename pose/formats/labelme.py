"""LabelMe's JSON files, one an image: points and rectangles of one ``group_id`` are a person.

In a file without groups all points are one person. Beside groups, points without one are nobody's, and are counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pose.errors import DataError
from pose.files import read_json
from pose.formats.builder import Builder, Point
from pose.formats.dataset import ImageRecord, PoseDataset, relative_name
from pose.formats.names import skeleton_from_names
from pose.formats.options import ReadOptions

_HIDDEN = ("occluded", "hidden", "difficult")
"""Flags, or the description, by which people say that a point is hidden: LabelMe has no visibility."""


def recognizes(path: Path) -> bool:
    """Whether it is such a file, or a folder with some."""
    return any(_is_file(each) for each in _files(path)[:3])


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads a file or all files of a folder.

    Raises:
        DataError: A file is not of this format, or points without a group are more than one person's.
    """
    files = [file for file in _files(path) if path.is_file() or _is_file(file)]
    if not files:
        raise DataError(f"{path}: no file of LabelMe in it")
    builder = Builder()
    builder.left_out["JSON files of other kinds"] += len(_files(path)) - len(files)
    for file in files:
        _add(file, path if path.is_dir() else path.parent, options.category, builder)
    skeleton = options.skeleton or skeleton_from_names(path.stem, builder.names or ["keypoint"])
    return builder.build(skeleton)


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.json")) if path.is_dir() else [path] if path.suffix == ".json" else []


def _is_file(path: Path) -> bool:
    text = path.read_bytes()[: 1 << 20]
    return b'"shapes"' in text and (b'"imagePath"' in text or b'"version"' in text)


def _add(file: Path, root: Path, category: str | None, builder: Builder) -> None:
    fields: dict[str, Any] = read_json(file, "LabelMe file")
    try:
        folder = file.parent.relative_to(root).as_posix()
        name = relative_name(f"{folder}/{fields['imagePath']}" if folder != "." else fields["imagePath"])
        builder.add_image(ImageRecord(name, int(fields["imageWidth"]), int(fields["imageHeight"])))
        groups: dict[Any, list[dict[str, Any]]] = {}
        drawn = {shape["label"] for shape in fields["shapes"] if shape.get("shape_type") == "rectangle"}
        persons = category or ("person" if "person" in drawn else None)
        for shape in fields["shapes"]:
            kind = shape.get("shape_type")
            if kind not in ("point", "rectangle"):
                builder.left_out[f"shapes of kind {kind!r}"] += 1
            elif kind == "rectangle" and persons not in (None, shape["label"]):
                builder.left_out[f"rectangles called {shape['label']!r}"] += 1
            else:
                groups.setdefault(shape.get("group_id"), []).append(shape)
        if len(groups) > 1:
            for shape in groups.pop(None, []):
                builder.left_out[f"{shape['shape_type']}s without a group_id, beside groups"] += 1
        for number, shapes in groups.items():
            points: dict[str, Point] = {}
            box = None
            for shape in shapes:
                if shape["shape_type"] == "rectangle" and box is not None:
                    builder.left_out["further rectangles of a person"] += 1
                    continue
                if shape["shape_type"] == "rectangle":
                    (x1, y1), (x2, y2) = shape["points"][0], shape["points"][-1 if len(shape["points"]) == 2 else 2]
                    box = [min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)]
                    continue
                if shape["label"] in points:
                    what = "points without a group_id" if number is None else f"group {number}"
                    raise DataError(f"{file}: {what} have {shape['label']!r} twice; give each person a group_id")
                (x, y), *_ = shape["points"]
                points[shape["label"]] = (float(x), float(y), 1 if _hidden(shape) else 2)
            if points:
                builder.add_person(name, points, box)
            else:
                builder.left_out["rectangles without keypoints"] += len(shapes)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: is not in LabelMe's format ({error!r})") from error


def _hidden(shape: dict[str, Any]) -> bool:
    flags = shape.get("flags") or {}
    return any(flags.get(word) or shape.get(word) is True for word in _HIDDEN) or shape.get("description") in _HIDDEN
