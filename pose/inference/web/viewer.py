"""A video's poses as one HTML page that needs nothing else: frames, skeletons, scores over time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2

from pose.files import replacing
from pose.inference.inputs import Frame
from pose.inference.outputs import Write, records
from pose.poses import Poses
from pose.skeleton import SIDE_COLORS, Skeleton, limb_side

MOST_IMAGES = 900
"""Frames whose pictures are kept in a page: half a minute at 30 a second, about 20 MB."""

_WIDTH = 640
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 75]


def page(name: str, meta: dict[str, Any]) -> str:
    """A page of ``pose/inference/web`` with its style, its scripts and ``META`` in it.

    Args:
        name: ``viewer`` or ``serve``: the page and its script of that name.
        meta: What the scripts know as META.
    """
    folder = files("pose.inference.web")
    text = (folder / f"{name}.html").read_text(encoding="utf-8")
    for part in ("page.css", "skeleton.js", "numbers.js", "camera.js", f"{name}.js"):
        text = text.replace(f"/*{part}*/", (folder / part).read_text(encoding="utf-8"))
    return text.replace("/*META*/", _script_json(meta))


def skeleton_meta(skeleton: Skeleton) -> dict[str, Any]:
    """What ``skeleton.js`` must know of a skeleton."""
    return {
        "keypoints": skeleton.keypoints,
        "sides": skeleton.sides,
        "limbs": skeleton.limbs,
        "limb_sides": [limb_side(skeleton, *limb) for limb in skeleton.limbs],
        "colors": {side: "#{2:02x}{1:02x}{0:02x}".format(*color) for side, color in SIDE_COLORS.items()},
    }


@contextmanager
def html_file(
    path: str | Path,
    title: str,
    skeleton: Skeleton,
    fps: float,
    frame_count: int | None,
    size: tuple[int, int],
    most_images: int = MOST_IMAGES,
) -> Iterator[Write]:
    """An output like those of :mod:`pose.inference.outputs`.

    Of a long video pictures are kept at even distances; skeletons of every frame.

    Args:
        path: Where to write.
        title: The page's title.
        skeleton: What the keypoints are.
        fps: The frames of a second.
        frame_count: How many frames the video has, None if nobody knows; then the first pictures are kept.
        size: Width and height of the frames.
        most_images: How many frames' pictures are kept.

    Raises:
        OutputError: The place cannot be written.
    """
    step = 1 if frame_count is None else -(-frame_count // most_images)
    factor = min(1.0, _WIDTH / size[0])
    meta = skeleton_meta(skeleton) | {
        "title": title, "fps": fps, "width": size[0], "height": size[1],
        "picture_width": _WIDTH,
    }  # fmt: skip
    head, tail = page("viewer", meta).split("<!--FRAMES-->")
    kept = 0
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(head)

        def write(frame: Frame, poses: Poses, drawn: object) -> None:
            nonlocal kept
            image = None
            if kept < most_images and frame.number % step == 0:
                small = cv2.resize(frame.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
                data = cv2.imencode(".jpg", small, _QUALITY)[1].tobytes()
                image = "data:image/jpeg;base64," + base64.b64encode(data).decode()
                kept += 1
            entry = {"number": frame.number, "persons": persons(frame, poses), "picture": image}
            file.write(f"<script>add({_script_json(entry)})</script>\n")

        yield write
        file.write(tail)


def persons(frame: Frame, poses: Poses) -> list[dict[str, Any]]:
    """The persons of a frame as the pages' scripts take them; numbers as in the results file, rounded further."""
    found = []
    for record in records(frame, poses):
        points = iter(record["keypoints"])
        keypoints = [
            [round(x, 1), round(y, 1), round(score, 3)] for x, y, score in zip(points, points, points, strict=True)
        ]
        person = {"keypoints": keypoints, "box": record["box"], "score": round(record["score"], 4)}
        found.append(person | {key: record[key] for key in ("track_id",) if key in record})
    return found


def _script_json(value: Any) -> str:
    """JSON that may stand in a script: nothing in it can end the script."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
