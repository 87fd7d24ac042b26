"""The page of a data set: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.orientation import read_named
from pose.errors import DataError
from pose.evaluation.analysis.charts import bar_chart
from pose.evaluation.analysis.page import html_table, write_sections
from pose.files import make_folder
from pose.formats.dataset import PoseDataset
from pose.formats.skeleton_sheet import draw_skeleton_sheet
from pose.inspection.duplicates import Duplicate, ImageFile
from pose.inspection.persons import PersonCheck
from pose.inspection.sides import SURE, ExchangeCheck, PairCheck
from pose.visualization import draw_skeletons

PAGE = "dataset.html"
SHOWN = 8
"""Examples of each kind."""

_LARGEST = (260, 220)  # pixels of an example


class Examples:
    """Draws persons of a data set as parts of a page.

    Args:
        dataset: The data set whose persons are drawn.
        images: The folder of its images; None draws on a plain ground.
    """

    def __init__(self, dataset: PoseDataset, images: Path | None) -> None:
        self.dataset = dataset
        self.images = images
        self.boxes = dataset.boxes_or_extents()
        self._image = lru_cache(maxsize=8)(self._read)

    def _read(self, row: int) -> np.ndarray:
        record = self.dataset.images[row]
        if self.images is not None:
            try:
                return read_named(self.images, record.file_name, (record.width, record.height)).image
            except DataError:
                pass
        return np.full((max(record.height, 1), max(record.width, 1), 3), 225, np.uint8)

    def person(self, row: int) -> str:
        """A person with keypoints and box."""
        points, box = self.dataset.keypoints[row], self.boxes[row]
        image = self._image(int(self.dataset.owners[row]))
        shown = points[points[:, 2] > 0, :2]
        ends = np.concatenate([shown, [box[:2], box[:2] + box[2:]]])
        ends = ends[np.isfinite(ends).all(1)]
        low, high = (ends.min(0), ends.max(0)) if len(ends) else (np.zeros(2), np.array(image.shape[1::-1], float))
        room = 0.1 * (high - low).max() + 4
        low, high = low - room, high + room
        factor = min(_LARGEST[0] / (high[0] - low[0]), _LARGEST[1] / (high[1] - low[1]))
        size = tuple(np.maximum(((high - low) * factor).round().astype(int), 1).tolist())
        affine = np.array([[factor, 0, -factor * low[0]], [0, factor, -factor * low[1]]])
        view = cv2.warpAffine(image, affine, size, flags=cv2.INTER_AREA, borderValue=(225, 225, 225))
        if np.isfinite(box).all():
            corners = ((np.array([box[:2], box[:2] + box[2:]]) - low) * factor).round().astype(int).tolist()
            cv2.rectangle(view, tuple(corners[0]), tuple(corners[1]), (80, 220, 80), 1)
        moved = np.hstack([(points[:, :2] - low) * factor, points[:, 2:] > 0])
        view = draw_skeletons(view, moved[None], np.array([[0, 0, 70, 140]]), self.dataset.skeleton)
        record = self.dataset.images[self.dataset.owners[row]]
        name = f"person {row}" if self.dataset.ids[row] < 0 else f"annotation {self.dataset.ids[row]}"
        return _figure(view, f"{name}, {record.file_name}")

    def sheet(self, rows: Sequence[int] | np.ndarray) -> str:
        """The first persons of a list."""
        return f'<div class="side">{"".join(self.person(int(row)) for row in rows[:SHOWN])}</div>' if len(rows) else ""


def write_page(
    folder: Path,
    name: str,
    dataset: PoseDataset,
    images: Path | None,
    persons: PersonCheck,
    pairs: PairCheck,
    exchanged: ExchangeCheck,
    duplicates: str,
) -> Path:
    """Writes the page.

    Args:
        folder: Made if it is not there.
        name: The data set's name.
        dataset: What it is about.
        images: The folder of its images.
        persons, pairs, exchanged: What the checks found.
        duplicates: That part of the page, from :func:`duplicate_section`.

    Raises:
        OutputError: The folder cannot be written.
    """
    page = make_folder(folder) / PAGE
    examples = Examples(dataset, images)
    sections = [
        ("Who trains", _left_out(dataset, persons, examples)),
        ("Sizes", _sizes(persons, examples)),
        ("Joints", _joints(dataset, persons, examples)),
        ("Left and right", _sides(dataset, images, pairs, exchanged, examples)),
        ("Duplicates", duplicates),
    ]
    write_sections(page, name, sections)
    return page


def _left_out(dataset: PoseDataset, persons: PersonCheck, examples: Examples) -> str:
    text = (
        f"<p>{persons.trained.sum():,} of {len(dataset):,} annotations train, on {len(dataset.images):,} images, "
        f"{len(np.unique(dataset.owners[persons.trained])):,} of them with somebody who trains.</p>"
    )
    rows = [[rule, f"{len(found):,}"] for rule, found in persons.left_out.items()]
    rows += [[f"not read as it was: {what}", f"{count:,}"] for what, count in dataset.left_out.items() if count]
    text += html_table(["left out", "annotations"], rows)
    for rule, found in persons.left_out.items():
        text += f"<h3>{escape(rule)}</h3>{examples.sheet(found)}" if len(found) else ""
    return text


def _sizes(persons: PersonCheck, examples: Examples) -> str:
    total = max(1, sum(persons.sizes.values()))
    bars = {name: [count / total] for name, count in persons.sizes.items()}
    shares = zip((5, 25, 50, 75, 95), persons.heights, strict=True)
    heights = ", ".join(f"{share} % below {height:.0f}" for share, height in shares)
    return (
        f"<p>Share of the persons by COCO's sizes, {persons.boxed:,} of them by their boxes' areas. Box heights in "
        f"pixels: {heights}.</p>"
        + bar_chart(bars, ["share"], 1.0, "Persons by size")
        + f"<p>{len(persons.cut):,} persons ({len(persons.cut) / total:.1%}) touch the image's edge with "
        f"their box: cut off there.</p>{examples.sheet(persons.cut)}"
    )


def _joints(dataset: PoseDataset, persons: PersonCheck, examples: Examples) -> str:
    total = max(1, int(persons.trained.sum()))
    names = dataset.skeleton.keypoints
    seen = persons.labeled - persons.hidden
    bars = {name: [seen[k] / total, persons.hidden[k] / total] for k, name in enumerate(names)}
    few = int(persons.joints[1:4].sum())
    return (
        "<p>How many of the persons that train have each joint labelled as seen and as hidden. "
        f"{few:,} persons ({few / total:.1%}) have one to three joints, {persons.joints[-1]:,} "
        f"({persons.joints[-1] / total:.1%}) all {len(names)}.</p>"
        + bar_chart(bars, ["seen", "hidden"], 1.0, "Labelled joints")
        + f"<h3>Joints outside their box: {len(persons.outside):,} persons</h3>{examples.sheet(persons.outside)}"
        + f"<h3>Joints outside their image: {len(persons.off_image):,} persons</h3>{examples.sheet(persons.off_image)}"
    )


def _sides(
    dataset: PoseDataset, images: Path | None, pairs: PairCheck, exchanged: ExchangeCheck, examples: Examples
) -> str:
    names = dataset.skeleton.keypoints
    told = [f"wrong: {names[one]} and {names[other]}" for one, other in pairs.wrong]
    told += [f"missing: {names[one]} and {names[other]}" for one, other in pairs.missing]
    verdict = (
        f"The data contradict the flip pairs: {'; '.join(told)}. The asymmetry would be {pairs.best_asymmetry:.3f}."
        if told
        else "No other pairs fit the data better."
    )
    sheet = _figure(draw_skeleton_sheet(dataset, images), "left is orange, right is blue")
    return (
        f"<p>The data and their mirror differ by {pairs.asymmetry:.3f} of a person's size ({pairs.persons:,} persons). "
        f"<b>{escape(verdict)}</b></p>{sheet}"
        f"<h3>Perhaps exchanged: {len(exchanged.exchanged):,} persons</h3>"
        f"<p>Persons who look, with a probability above {SURE:g}, like copies of the others with left and right "
        f"exchanged. {exchanged.accuracy:.1%} of all are told from their own exchanged copies: near 100 % the list is "
        f"nearly complete, near 50 % nothing can be told.</p>{examples.sheet(exchanged.exchanged)}"
    )


def duplicate_section(
    across: Sequence[Duplicate], within: Sequence[Duplicate], files: Sequence[ImageFile], broken: Sequence[str]
) -> str:
    """The part of the page about images that look the same.

    Args:
        across: Pairs in different splits.
        within: Pairs in one split.
        files: All images, by the rows that the pairs name.
        broken: What was wrong with images that cannot be read.
    """

    def pair(each: Duplicate) -> str:
        views = []
        for row in (each.first, each.second):
            image = files[row].read()
            factor = min(_LARGEST[0] / image.shape[1], _LARGEST[1] / image.shape[0])
            size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
            views.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        high = max(len(view) for view in views)
        rims = [(0, high - len(view), 0, 4, cv2.BORDER_CONSTANT) for view in views]
        views = [cv2.copyMakeBorder(view, *rim, value=[255] * 3) for view, rim in zip(views, rims, strict=True)]
        mirrored = ", mirrored" if each.mirrored else ""
        names = " and ".join(files[row].path.name for row in (each.first, each.second))
        return _figure(np.hstack(views), f"{names}: {each.distance} bits{mirrored}")

    text = (
        f"<p>{len(files):,} images compared, {len(broken):,} could not be read.</p>"
        if files
        else "<p>Not looked for.</p>"
    )
    for title, found in (("Across splits", across), ("Within a split", within)):
        shown = "".join(pair(each) for each in found[:SHOWN])
        text += f"<h3>{title}: {len(found):,} pairs</h3><div class='side'>{shown}</div>"
    return text + "".join(f"<p>{escape(each)}</p>" for each in broken[:SHOWN])


def _figure(image: np.ndarray, caption: str) -> str:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    source = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
    return f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
