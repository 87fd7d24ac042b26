"""What becomes of poses: drawn pictures, a video, a window, COCO-format JSON, CSV.

Each output is a ``with`` block that gives a function to call with every frame. Files are written as
frames come, so that a long video needs no memory, and appear under their names when the block ends
without an error.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.errors import OutputError
from pose.files import replacing
from pose.inference.images import write_image
from pose.inference.inputs import Frame
from pose.inference.video.files import writing_video
from pose.poses import Poses
from pose.skeleton import PERSON_CATEGORY, Skeleton

Write = Callable[[Frame, Poses, np.ndarray], None]
"""Takes a frame, its poses and the frame with the poses drawn, (H, W, 3) uint8 BGR."""


_WINDOW = (1280, 720)  # pixels, at most


class Stop(Exception):
    """A person closed the window: finish what is there."""


@contextmanager
def json_file(path: str | Path) -> Iterator[Write]:
    """A list in COCO's keypoint results format.

    A record has COCO's ``image_id``, ``category_id``, ``keypoints`` and ``score``, then ``box``,
    ``box_score``, ``track_id`` in videos, ``file_name`` or ``frame``, and the picture's ``width``
    and ``height``. The box is not called
    ``bbox``: with that key pycocotools takes the list for box detections.

    Raises:
        OutputError: The place cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        separator = "[\n"

        def write(frame: Frame, poses: Poses, drawn: np.ndarray) -> None:
            nonlocal separator
            for record in records(frame, poses):
                file.write(separator + json.dumps(record))
                separator = ",\n"

        yield write
        file.write("\n]\n" if separator == ",\n" else "[]\n")


def records(frame: Frame, poses: Poses) -> list[dict[str, Any]]:
    """The records of one frame's persons, see :func:`json_file`."""
    found = poses.to_coco(frame.number)
    boxes, box_scores = poses.boxes.round(3).tolist(), poses.box_scores.round(5).tolist()
    height, width = frame.image.shape[:2]
    where = {"frame": frame.number} if frame.path is None else {"file_name": frame.path.name}
    for row, record in enumerate(found):
        record |= {"box": boxes[row], "box_score": box_scores[row], **where, "width": width, "height": height}
        if poses.track_ids is not None:
            record["track_id"] = int(poses.track_ids[row])
    return found


@contextmanager
def annotation_file(path: str | Path, skeleton: Skeleton, threshold: float) -> Iterator[Write]:
    """COCO's annotations: ``images`` with their sizes, those without persons among them, and what was found on them.

    Labelling and analysis tools read it, where a results list means nothing to them. Joints from the threshold on are
    seen, others not labelled; ``area`` is the box's, and ``score`` the person's.

    Raises:
        OutputError: The place cannot be written.
    """
    images: list[dict[str, Any]] = []
    count = 0
    limbs = [[first + 1, second + 1] for first, second in skeleton.limbs]
    category = {"id": PERSON_CATEGORY, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": limbs}
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('{"annotations": [')

        def write(frame: Frame, poses: Poses, drawn: np.ndarray) -> None:
            nonlocal count
            name = f"{frame.number:06}.jpg" if frame.path is None else frame.path.name
            height, width = frame.image.shape[:2]
            images.append({"id": frame.number, "file_name": name, "width": width, "height": height})
            for record in records(frame, poses):
                points = np.reshape(record["keypoints"], (-1, 3))
                points[:, 2] = 2 * (points[:, 2] >= threshold)
                points[points[:, 2] == 0] = 0
                box = record["box"]
                count += 1
                person = {
                    "id": count,
                    "image_id": frame.number,
                    "category_id": PERSON_CATEGORY,
                    "iscrowd": 0,
                    "bbox": box,
                    "area": round(box[2] * box[3], 3),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "keypoints": points.ravel().tolist(),
                    "score": record["score"],
                }
                if "track_id" in record:
                    person["track_id"] = record["track_id"]
                file.write(("" if count == 1 else ",") + "\n" + json.dumps(person))

        yield write
        file.write(f'\n], "images": {json.dumps(images)}, "categories": {json.dumps([category])}}}\n')


@contextmanager
def csv_file(path: str | Path, skeleton: Skeleton) -> Iterator[Write]:
    """A table with a line per person: where, who, its box, and x, y and score of each keypoint.

    Raises:
        OutputError: The place cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        columns = [f"{name}_{what}" for name in skeleton.keypoints for what in ("x", "y", "score")]
        table.writerow(
            ["image_id", "file_name", "track_id", "score", "box_x", "box_y", "box_width", "box_height", *columns]
        )

        def write(frame: Frame, poses: Poses, drawn: np.ndarray) -> None:
            for record in records(frame, poses):
                who = [record["image_id"], record.get("file_name", ""), record.get("track_id", ""), record["score"]]
                table.writerow([*who, *record["box"], *record["keypoints"]])

        yield write


@contextmanager
def drawn_images(folder: str | Path) -> Iterator[Write]:
    """A drawn picture for each picture file, of the same name; PNG where its format cannot be written.

    Raises:
        OutputError: The place cannot be written.
    """

    def write(frame: Frame, poses: Poses, drawn: np.ndarray) -> None:
        assert frame.path is not None
        write_image(drawn_path(folder, frame.path), drawn)

    yield write


def drawn_path(folder: str | Path, image: Path) -> Path:
    """Where :func:`drawn_images` writes a picture's drawn one."""
    suffix = image.suffix if cv2.haveImageWriter(f"a{image.suffix}") else ".png"
    return Path(folder, image.stem + suffix)


@contextmanager
def drawn_video(path: str | Path, fps: float) -> Iterator[Write]:
    """A video of the drawn frames.

    Raises:
        OutputError: The place cannot be written, or not in this format.
    """
    with writing_video(path, fps) as write_frame:
        yield lambda frame, poses, drawn: write_frame(drawn)


@contextmanager
def window(title: str, wait: bool) -> Iterator[Write]:
    """A window that shows each drawn frame; q, Escape or closing it stops.

    Args:
        title: The window's title.
        wait: Show each frame until a key is pressed.

    Raises:
        OutputError: There is no display.
        Stop: From the write function, when a person has seen enough.
    """
    unix = sys.platform not in ("win32", "darwin")
    if unix and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError("--show: there is no display here; leave it out and look at the written files")
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # Qt misses fonts that nothing here needs
    try:
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    except cv2.error as error:
        raise OutputError("--show: this OpenCV has no windows (a headless build); leave it out") from error

    shown: tuple[int, ...] = ()

    def write(frame: Frame, poses: Poses, drawn: np.ndarray) -> None:
        nonlocal shown
        if drawn.shape != shown:
            shown = drawn.shape
            factor = min(1.0, _WINDOW[0] / shown[1], _WINDOW[1] / shown[0])
            cv2.resizeWindow(title, max(1, round(factor * shown[1])), max(1, round(factor * shown[0])))
        cv2.imshow(title, drawn)
        while True:
            key = cv2.waitKey(50 if wait else 1) & 0xFF
            if key in (ord("q"), 27) or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
                raise Stop
            if not wait or key != 0xFF:
                return

    try:
        yield write
    finally:
        cv2.destroyAllWindows()
