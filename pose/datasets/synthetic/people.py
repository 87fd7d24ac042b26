"""Drawn people: a 3-D body in a random pose, seen from any side, as convex outlines with exact keypoints.

A body is a set of outlines, each the convex hull of a few spheres, painted from far to near. Depth
therefore decides what hides what, and which side is left follows from where the person faces: the face
shows from the front, the hair from behind, nose and toes point to where the person looks.

Body frame: x to the person's left, y down, z forward, in units of the standing height, origin between
the hips. View frame: x right, y down, z towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose.datasets.synthetic.parts import Material, Outlines, Part
from pose.datasets.synthetic.poses import choose_arm, choose_stance, limb, turn
from pose.skeleton import COCO

_KEYPOINT = {name: index for index, name in enumerate(COCO.keypoints)}
_SIDES = ((1, "left"), (-1, "right"))


@dataclass
class Person:
    """One person in the view frame, in units of the standing height.

    Attributes:
        keypoints: (17, 3) float64 x, y, z.
        yaw: Degrees the body is turned: 0 faces the camera, 90 the picture's right side, 180 away.
        roll: Degrees the body is turned in the picture; near 90 or -90 it lies.
        turned_away: (17,) bool, keypoints hidden by the head or hair they sit on.
        shown_on: (17, 16) bool, entry (k, part): keypoint k counts as visible on that part.
        spheres: (P, S, 4) float64 x, y, z, radius of P outlines, far to near; short ones repeat a sphere.
        parts: (P,) uint8 of :class:`Part`.
        materials: (P,) uint8 of :class:`Material`.
    """

    keypoints: np.ndarray
    yaw: float
    roll: float
    turned_away: np.ndarray
    shown_on: np.ndarray
    spheres: np.ndarray
    parts: np.ndarray
    materials: np.ndarray


def _add_arms(rng: np.random.Generator, out: Outlines, points: dict, torso: np.ndarray, girth: float) -> None:
    sleeve = rng.choice(3)  # none, short, long
    for side, name in _SIDES:
        upper, lower, _ = limb(choose_arm(rng), side, 1)
        shoulder = points[f"{name}_shoulder"]
        points[f"{name}_elbow"] = elbow = shoulder + torso @ upper * points["upper_arm"]
        points[f"{name}_wrist"] = wrist = elbow + torso @ lower * points["forearm"]
        cover = Material.SHIRT if sleeve == 2 else Material.SKIN
        arm, forearm = Part[f"{name.upper()}_UPPER_ARM"], Part[f"{name.upper()}_FOREARM"]
        out.add(arm, cover, (shoulder, 0.034 * girth), (elbow, 0.027 * girth))
        out.add(forearm, cover, (elbow, 0.027 * girth), (wrist, 0.020 * girth), nearer=0.002)
        out.add(forearm, Material.SKIN, (wrist, 0.018 * girth), (wrist + torso @ lower * 0.04, 0.022), nearer=0.001)
        if sleeve == 1:
            hem = shoulder + 0.55 * (elbow - shoulder)
            out.add(arm, Material.SHIRT, (shoulder, 0.040 * girth), (hem, 0.036 * girth), nearer=0.003)


def _add_legs(rng: np.random.Generator, out: Outlines, points: dict, angles: np.ndarray, girth: float) -> None:
    style = rng.choice(4, p=(0.5, 0.15, 0.2, 0.15))  # trousers, bare, shorts, skirt
    skirt = []
    for (side, name), leg in zip(_SIDES, angles, strict=True):
        upper, lower, front = limb(leg, side, -1)
        hip = points[f"{name}_hip"]
        points[f"{name}_knee"] = knee = hip + upper * points["thigh"]
        points[f"{name}_ankle"] = ankle = knee + lower * points["shin"]
        cover = Material.TROUSERS if style == 0 else Material.SKIN
        thigh, shin = Part[f"{name.upper()}_THIGH"], Part[f"{name.upper()}_SHIN"]
        out.add(thigh, cover, (hip, 0.058 * girth), (knee, 0.038 * girth))
        out.add(shin, cover, (knee, 0.038 * girth), (ankle, 0.025 * girth), nearer=-0.002)
        heel = ankle + 0.022 * lower - 0.012 * front
        out.add(shin, Material.SHOES, (heel, 0.026), (heel + 0.005 * lower + 0.085 * front, 0.020), nearer=0.004)
        if style == 2:
            hem = hip + 0.65 * (knee - hip)
            out.add(thigh, Material.TROUSERS, (hip, 0.062 * girth), (hem, 0.053 * girth), nearer=0.003)
        skirt += [(hip, 0.066 * girth), (hip + 0.75 * (knee - hip), 0.062 * girth)]
    if style == 3:
        out.add(Part.PELVIS, Material.TROUSERS, *skirt, nearer=0.05)


def _add_torso(rng: np.random.Generator, out: Outlines, points: dict, torso: np.ndarray, girth: float) -> None:
    neck, chest = points["neck"], points["neck"] + torso @ (0.0, 0.10, 0.012)
    shoulders = [(0.82 * points[f"{name}_shoulder"] + 0.18 * neck, 0.038 * girth) for _, name in _SIDES]
    hips = [(points[f"{name}_hip"] + torso @ (0.0, -0.02, 0.0), 0.058 * girth) for _, name in _SIDES]
    out.add(Part.PELVIS, Material.TROUSERS, *((points[f"{name}_hip"], 0.060 * girth) for _, name in _SIDES))
    out.add(Part.TORSO, Material.SHIRT, *shoulders, (chest, 0.072 * girth), *hips, nearer=0.008)
    front = np.array([0.0, 0.0, 0.075 * girth])
    decal = rng.integers(4)  # none, buttons' line, chest print, open collar
    if decal == 1:
        ends = (neck + torso @ (front + (0, 0.04, 0)), 0.008), (torso @ (front + (0, -0.03, 0)), 0.008)
        out.add(Part.TORSO, Material.TRIM, *ends)
    elif decal == 2:
        spots = [(chest + torso @ (front + (0.025 * side, 0.0, 0.0)), 0.025) for side in (1, -1)]
        out.add(Part.TORSO, Material.TRIM, *spots)
    elif decal == 3:
        spots = [(neck + torso @ (front + (x, y, 0.0)), 0.006) for x, y in ((0.03, 0.0), (-0.03, 0.0), (0.0, 0.06))]
        out.add(Part.TORSO, Material.SKIN, *spots)
    if rng.random() < 0.12:
        back = torso @ (0.0, 0.0, -0.085 * girth)
        corners = [(0.55, 0.045), (-0.55, 0.045), (0.5, 0.20), (-0.5, 0.20)]
        width = np.linalg.norm(points["left_shoulder"] - neck)
        spots = [(neck + torso @ (x * width, y, 0.0) + back, 0.035) for x, y in corners]
        out.add(Part.BAG, Material.BAG, *spots)


def _add_head(rng: np.random.Generator, out: Outlines, points: dict, head: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Adds neck, head, hair and face; returns the keypoints (17,) bool that look away from the camera."""
    size = points["head"]
    center = points["neck"] + head @ (0.0, -0.062 * size - 0.025, 0.008)

    def at(x: float, y: float, z: float, radius: float) -> tuple[np.ndarray, float]:
        return center + size * (head @ (x, y, z)), size * radius

    turned = np.zeros(COCO.num_keypoints, bool)
    for name, normal, least in (
        ("nose", (0.0, 0.0, 1.0), -0.12),
        ("left_eye", (0.45, 0.0, 0.89), 0.05),
        ("right_eye", (-0.45, 0.0, 0.89), 0.05),
        ("left_ear", (1.0, 0.0, -0.1), -0.35),
        ("right_ear", (-1.0, 0.0, -0.1), -0.35),
    ):
        turned[_KEYPOINT[name]] = (view @ head @ normal)[2] < least

    out.add(Part.HEAD, Material.SKIN, (points["neck"], 0.028), at(0, 0.03, -0.01, 0.026), nearer=-0.004)
    out.add(Part.HEAD, Material.SKIN, at(0, -0.004, 0, 0.057), at(0, 0.032, 0.012, 0.042))
    faces_camera = (view @ head)[2, 2] > 0.6
    style = rng.choice(4, p=(0.06, 0.5, 0.26, 0.18))  # bald, short, long, cap
    if style:
        cover = Material.TRIM if style == 3 else Material.HAIR
        above = -0.02 if faces_camera else 0.03
        out.add(Part.HEAD, Material.HAIR, at(0, -0.008, -0.030, 0.058), at(0, 0.02, -0.04, 0.04), nearer=above)
        fringe = at(0.027, -0.045, 0.018, 0.022), at(-0.027, -0.045, 0.018, 0.022), at(0, -0.045, -0.03, 0.042)
        out.add(Part.HEAD, cover, *fringe, at(0, -0.05, 0.02, 0.024), nearer=0.04)
    if style == 2:
        locks = at(0.035, 0, -0.045, 0.03), at(-0.035, 0, -0.045, 0.03)
        tips = at(0.03, 0.13, -0.05, 0.028), at(-0.03, 0.13, -0.05, 0.028)
        out.add(Part.HEAD, Material.HAIR, *locks, *tips, nearer=-0.03 if faces_camera else 0.01)
    if style == 3:
        out.add(Part.HEAD, Material.TRIM, at(0.02, -0.04, 0.075, 0.01), at(-0.02, -0.04, 0.075, 0.01),
                at(0, -0.045, 0.03, 0.015), nearer=0.045)  # fmt: skip

    points["nose"] = at(0, 0.012, 0.068, 0)[0]
    for side, name in _SIDES:
        points[f"{name}_eye"] = at(0.026 * side, -0.009, 0.050, 0)[0]
        points[f"{name}_ear"] = at(0.058 * side, 0.004, -0.006, 0)[0]
        if not turned[_KEYPOINT[f"{name}_eye"]]:
            out.add(Part.HEAD, Material.WHITE, at(0.026 * side, -0.009, 0.050, 0.014), nearer=0.05)
            out.add(Part.HEAD, Material.DARK, at(0.026 * side, -0.009, 0.052, 0.009), nearer=0.06)
        ear = at(0.057 * side, -0.003, -0.006, 0.012), at(0.055 * side, 0.012, -0.004, 0.009)
        out.add(Part.HEAD, Material.SKIN_SHADE, *ear, nearer=0.01)
    if not turned[0]:
        out.add(Part.HEAD, Material.SKIN_SHADE, at(0, -0.004, 0.056, 0.005), at(0, 0.012, 0.062, 0.010), nearer=0.03)
        out.add(Part.HEAD, Material.LIPS, at(0.013, 0.038, 0.042, 0.005), at(-0.013, 0.038, 0.042, 0.005))
    return turned


def _shown_on(keypoints: np.ndarray) -> np.ndarray:
    """(17, 16) bool of :attr:`Person.shown_on`: the torso hides a shoulder or hip at its far side."""
    shown = np.zeros((COCO.num_keypoints, 16), bool)
    shown[:5, Part.HEAD] = True
    for _, name in _SIDES:
        upper = name.upper()
        limb = {"elbow": ("UPPER_ARM", "FOREARM"), "wrist": ("FOREARM",), "knee": ("THIGH", "SHIN"), "ankle": ("SHIN",)}
        limb |= {"shoulder": ("UPPER_ARM",), "hip": ("THIGH",)}
        for joint, parts in limb.items():
            shown[_KEYPOINT[f"{name}_{joint}"], [Part[f"{upper}_{part}"] for part in parts]] = True
        shown[_KEYPOINT[f"{name}_knee"], Part.PELVIS] = True  # a skirt
    for joint, nearby in (
        ("shoulder", [Part.TORSO]),
        ("hip", [Part.TORSO, Part.PELVIS, Part.LEFT_THIGH, Part.RIGHT_THIGH]),
    ):
        left, right = _KEYPOINT[f"left_{joint}"], _KEYPOINT[f"right_{joint}"]
        gap = keypoints[left] - keypoints[right]
        sideways = gap[2] / np.linalg.norm(gap)
        shown[left, nearby] |= sideways > -0.6
        shown[right, nearby] |= sideways < 0.6
    return shown


def draw_person(rng: np.random.Generator, yaw: float | None = None, roll: float | None = None) -> Person:
    """A person of random build, clothing and pose.

    Args:
        rng: The only source of randomness.
        yaw: Degrees, see :class:`Person`; ``None`` draws one: front 70 %, back 14 %, any 16 %.
        roll: Degrees; ``None`` draws one: mostly upright, 3 % lying.
    """
    if yaw is None:
        yaw = rng.choice((rng.uniform(-35, 35), rng.uniform(145, 215), rng.uniform(-180, 180)), p=(0.7, 0.14, 0.16))
    if roll is None:
        roll = rng.choice((-90, 90)) + rng.normal(0, 15) if rng.random() < 0.03 else rng.normal(0, 5)
    view = turn(2, roll) @ turn(0, rng.uniform(-20, 5)) @ turn(1, yaw)

    legs, lean = choose_stance(rng)
    torso = turn(0, -lean) @ turn(2, rng.normal(0, 5)) @ turn(1, rng.normal(0, 9))
    head = torso @ turn(1, np.clip(rng.normal(0, 12), -45, 45)) @ turn(0, rng.normal(-2, 9))
    lengths = rng.normal(1, 0.06, 7).clip(0.85, 1.15)
    girth = rng.uniform(1.1, 1.55)
    names = ("upper_arm", "forearm", "thigh", "shin")
    points = dict(zip(names, lengths[:4] * (0.165, 0.145, 0.235, 0.235), strict=True))
    points["head"] = rng.uniform(1.5, 1.95)
    points["neck"] = torso @ (0.0, -0.30 * lengths[4], 0.0)
    for side, name in _SIDES:
        points[f"{name}_shoulder"] = points["neck"] + torso @ (0.112 * lengths[5] * girth**0.5 * side, 0.03, 0.0)
        points[f"{name}_hip"] = np.array([0.066 * lengths[6] * girth**0.5 * side, 0.0, 0.0])

    out = Outlines()
    _add_legs(rng, out, points, legs, girth)
    _add_torso(rng, out, points, torso, girth)
    _add_arms(rng, out, points, torso, girth)
    turned = _add_head(rng, out, points, head, view)

    spheres = np.array(out.spheres)
    spheres[..., :3] = spheres[..., :3] @ view.T
    keypoints = np.array([points[name] for name in COCO.keypoints]) @ view.T
    order = np.argsort(np.array(out.middles) @ view[2] + out.nearer, kind="stable")
    closeness = rng.uniform(0, 0.3)  # a mild perspective, the same for outlines and keypoints
    keypoints[:, :2] *= 1 + closeness * keypoints[:, 2:]
    spheres[..., [0, 1, 3]] *= 1 + closeness * spheres[..., 2:3]
    return Person(
        keypoints=keypoints,
        yaw=yaw,
        roll=roll,
        turned_away=turned,
        shown_on=_shown_on(keypoints),
        spheres=spheres[order],
        parts=np.array(out.parts, np.uint8)[order],
        materials=np.array(out.materials, np.uint8)[order],
    )
