"""Pictures of drawn people: background, people and things in front of each other, and what COCO would annotate.

Everything is drawn at twice the size and averaged down. Beside the picture goes a map that says for each
pixel whose it is and which part: visibility, box and area are read from that map, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose.datasets.synthetic.parts import Material
from pose.datasets.synthetic.people import Person, draw_person
from pose.datasets.synthetic.things import DIRECTIONS, SKINS, draw_background, draw_thing, grain, muted, stripes
from pose.skeleton import COCO, PERSON_CATEGORY

_HAIRS = np.array([(25, 22, 20), (30, 45, 70), (50, 80, 120), (110, 170, 215), (45, 65, 150), (150, 150, 155)])
_LEAST_AREA = 24
"""Visible pixels below which a person is too hidden to be annotated."""


@dataclass
class Scene:
    """A picture and what is known about it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        owner: (H, W) uint8, 0 where no person shows, else 16 x (1 + index into ``people``) plus the number
            of the :class:`~pose.datasets.synthetic.parts.Part`.
        people: All people drawn, hidden ones too.
        annotations: COCO records without ids, in the order of ``people``.
        annotated: For each annotation the index into ``people``.
    """

    image: np.ndarray
    owner: np.ndarray
    people: list[Person]
    annotations: list[dict]
    annotated: list[int]


def _palette(rng: np.random.Generator, person: Person) -> np.ndarray:
    """(2, P, 3, 3) uint8 BGR: plain or patterned, outline, edge / fill / lit, colour."""
    colors = muted(rng, rng.uniform(10, 246, (2, len(Material), 3)))
    between, hair = rng.uniform(0, len(SKINS) - 1), _HAIRS[rng.integers(len(_HAIRS))]
    low = int(between)
    skin = SKINS[low] + (between - low) * (SKINS[low + 1] - SKINS[low]) + rng.normal(0, 5, 3)
    for material, color in (
        (Material.SKIN, skin),
        (Material.SKIN_SHADE, skin * 0.8),
        (Material.HAIR, hair + rng.normal(0, 10, 3)),
        (Material.WHITE, (240, 240, 240)),
        (Material.DARK, rng.integers(0, 60, 3)),
        (Material.LIPS, skin * (0.55, 0.5, 0.8)),
    ):
        colors[:, material] = color
    contrast = rng.uniform(0, 0.6, (len(Material), 1)) * (rng.random((len(Material), 1)) < 0.5)
    colors[1] = colors[0] + contrast * (colors[1] - colors[0])
    each = colors[:, person.materials] * rng.uniform(0.92, 1.08, (len(person.materials), 1))
    tones = np.array([rng.uniform(0.35, 0.7), 1.0, rng.uniform(1.0, 1.25)])
    return np.clip(each[:, :, None] * tones[:, None], 0, 255).astype(np.uint8)


def _outlines(spheres: np.ndarray, scale: float, origin: np.ndarray, edge: float) -> np.ndarray:
    """(3, P, 24, 2) int32 in 1/16 pixel: convex hulls of the spheres grown by ``edge``, as they are, and lit."""
    centers, radii = origin + scale * spheres[..., :2], scale * spheres[..., 3]
    farthest = (centers @ DIRECTIONS + radii[..., None]).argmax(1)  # (P, 24): the sphere on the hull that way
    rows = np.arange(len(spheres))[:, None]
    centers, radii = centers[rows, farthest], radii[rows, farthest][..., None]
    light = radii * np.array((-0.25, -0.25))
    hulls = np.stack([centers + (radii + edge) * DIRECTIONS.T, centers + radii * DIRECTIONS.T,
                      centers + light + 0.55 * radii * DIRECTIONS.T])  # fmt: skip
    return np.round(hulls * 16).astype(np.int32)


def _draw_person(
    rng: np.random.Generator, canvas: np.ndarray, owner: np.ndarray, person: Person, number: int,
    scale: float, origin: np.ndarray,
) -> None:  # fmt: skip
    """Draws a person whose hips' middle lies at ``origin`` (x, y), ``scale`` canvas pixels tall when upright."""
    edge = rng.uniform(0.3, 1.0) + 0.004 * scale
    hulls = _outlines(person.spheres, scale, origin, edge)
    left, top = np.maximum(hulls.min((0, 1, 2)) // 16 - 1, 0)
    right, bottom = np.minimum(hulls.max((0, 1, 2)) // 16 + 2, owner.shape[::-1])
    pattern_angle = np.deg2rad(person.roll) + rng.choice((0.0, np.pi / 2, rng.uniform(0, np.pi)))
    palette = _palette(rng, person)
    if left >= right or top >= bottom:
        return
    hulls -= np.array((left, top), np.int32) * 16
    patch = np.zeros((bottom - top, right - left), np.uint8)
    flat = np.isin(person.materials, (Material.WHITE, Material.DARK, Material.LIPS))
    for index, tones in enumerate(np.where(flat[:, None], (1, 1, 1), (0, 1, 2)).tolist()):
        for tone in tones:
            cv2.fillConvexPoly(patch, hulls[tone, index], 3 * index + 1 + tone, shift=4)

    count = 3 * len(person.materials)
    owners = np.zeros(256, np.uint8)
    owners[1 : count + 1] = np.repeat(16 * number + person.parts, 3)
    colors = np.zeros((256, 1, 3), np.uint8)
    colors[1 : count + 1, 0] = palette[0].reshape(-1, 3)
    colors[129 : count + 129, 0] = palette[1].reshape(-1, 3)
    mask = (patch > 0).astype(np.uint8)
    cv2.copyTo(cv2.LUT(patch, owners), mask, owner[top:bottom, left:right])
    patch += 128 * stripes(rng, left, top, right - left, bottom - top, pattern_angle)
    painted = cv2.LUT(cv2.cvtColor(patch, cv2.COLOR_GRAY2BGR), colors)
    cv2.copyTo(painted, mask, canvas[top:bottom, left:right])


def _place(
    rng: np.random.Generator, person: Person, width: int, height: int, scale: float, taken: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the hips' middle goes and the extent (x0, y0, x1, y1) that results; the least crowded of eight tries."""
    low = (person.spheres[..., :2] - person.spheres[..., 3:]).min((0, 1)) * scale
    high = (person.spheres[..., :2] + person.spheres[..., 3:]).max((0, 1)) * scale
    size, room = high - low, np.array((width, height))
    outside = 0.3 * size if rng.random() < 0.2 else np.zeros(2)
    first, last = -outside, room - size + outside
    corners = rng.uniform(np.minimum(first, last), np.maximum(first, last), (8, 2))
    crowded = np.zeros(8)
    for box in taken:
        overlap = np.minimum(corners + size, box[2:]) - np.maximum(corners, box[:2])
        crowded += overlap.clip(0).prod(1) / min(size.prod(), (box[2:] - box[:2]).prod())
    corner = corners[np.maximum(crowded, 0.1).argmin()]
    return corner - low, np.concatenate([corner, corner + size])


def _finish(rng: np.random.Generator, canvas: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: the canvas averaged down, with light, contrast, blur and grain of a camera."""
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.9))
    gain, offset = rng.uniform(0.7, 1.1) * rng.uniform(0.92, 1.08, 3), rng.uniform(-10, 20)
    table = (np.arange(256)[:, None] * gain + offset).clip(0, 255).astype(np.uint8)
    noise = grain()
    if width > noise.shape[1] or height > noise.shape[0]:
        noise = np.tile(noise, (height // noise.shape[0] + 1, width // noise.shape[1] + 1, 1))
    top, left = rng.integers(0, (noise.shape[0] - height + 1, noise.shape[1] - width + 1))
    strength = rng.uniform(0, 6) / 64
    image = cv2.LUT(image, table[:, None])
    return cv2.addWeighted(image, 1, noise[top : top + height, left : left + width], strength, 0, dtype=cv2.CV_8U)


def _annotate(person: Person, number: int, owner: np.ndarray, scale: float, origin: np.ndarray) -> dict | None:
    """The COCO record without ids, or None for a person too hidden to be annotated."""
    height, width = owner.shape
    shows = owner >> 4 == number
    area = int(shows.sum())
    if area < _LEAST_AREA:
        return None
    columns, rows = np.flatnonzero(shows.any(0)), np.flatnonzero(shows.any(1))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]

    xy = ((origin + scale * person.keypoints[:, :2] - 0.5) / 2).round(2)
    inside = ((xy >= 0) & (xy <= (width - 1, height - 1))).all(1) & ~person.turned_away
    x, y = np.where(inside[:, None], xy, 0).round().astype(int).T
    top = owner[y, x]
    on_part = person.shown_on[np.arange(COCO.num_keypoints), top & 15]
    visible = inside & (top >> 4 == number) & on_part
    if not visible.any():
        inside[:] = False
    flags = np.where(visible, 2, inside.astype(int))
    labeled = zip(np.where(inside[:, None], xy, 0).tolist(), flags.tolist(), strict=True)
    return {
        "segmentation": [],
        "num_keypoints": int(inside.sum()),
        "area": area,
        "iscrowd": 0,
        "keypoints": [value for point, flag in labeled for value in (*point, flag)],
        "bbox": box,
        "category_id": PERSON_CATEGORY,
    }


def draw_scene(rng: np.random.Generator, width: int, height: int, max_people: int = 3) -> Scene:
    """A picture of one to ``max_people`` people, smaller ones behind larger ones, things between and before them.

    Args:
        rng: The only source of randomness.
        width: Pixels, at least 16.
        height: Pixels, at least 16.
        max_people: How many persons are drawn at most, from 1 to 15.

    Raises:
        ValueError: A size or ``max_people`` out of range.
    """
    if min(width, height) < 16 or not 1 <= max_people <= 15:
        raise ValueError(f"need width and height >= 16 and 1 to 15 people, got {width} x {height}, {max_people}")
    canvas = draw_background(rng, 2 * width, 2 * height)
    owner = np.zeros(canvas.shape[:2], np.uint8)
    count = min(max_people, int(rng.choice((1, 2, 3), p=(0.55, 0.31, 0.14))))
    if max_people > 3 and rng.random() < 0.3:
        count = int(rng.integers(3, max_people + 1))
    people = [draw_person(rng) for _ in range(count)]
    scales = np.sort(np.exp(rng.uniform(np.log(0.42), np.log(1.3 if count == 1 else 1.1), count))) * 2 * height
    origins: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    for person, scale in zip(people, scales, strict=True):
        origin, extent = _place(rng, person, 2 * width, 2 * height, scale, taken)
        origins.append(origin)
        taken.append(extent)
    for number, (person, scale, origin) in enumerate(zip(people, scales, origins, strict=True), 1):
        _draw_person(rng, canvas, owner, person, number, scale, origin)
        if rng.random() < 0.17:
            draw_thing(rng, canvas, owner, 0.03 * scale, 0.17 * scale, origin + scale * rng.normal(0, 0.22, 2))

    small = owner[::2, ::2]
    placed = zip(people, scales, origins, strict=True)
    records = [_annotate(person, number, small, *place) for number, (person, *place) in enumerate(placed, 1)]
    annotations = {index: record for index, record in enumerate(records) if record}
    return Scene(
        image=_finish(rng, canvas, width, height),
        owner=small,
        people=people,
        annotations=list(annotations.values()),
        annotated=list(annotations),
    )
