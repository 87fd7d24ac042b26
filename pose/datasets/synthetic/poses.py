"""Poses: ranges of joint angles, and the rotations that turn angles into bones.

Body frame: x to the person's left, y down, z forward.
"""

from __future__ import annotations

import numpy as np

# Degrees, each row (flexion, abduction, bend, twist) as (low, high): flexion swings a limb forward,
# abduction outward, bend closes elbow or knee, twist turns the plane of the bend outward.
_ARMS = (
    (0.43, ((-20, 20), (4, 20), (5, 40), (-40, 10))),  # hanging
    (0.20, ((-40, 40), (3, 12), (10, 70), (-25, 10))),  # swinging
    (0.09, ((150, 185), (5, 40), (0, 60), (-30, 60))),  # raised
    (0.08, ((-10, 20), (60, 110), (0, 50), (-10, 100))),  # sideways
    (0.08, ((-10, 20), (70, 110), (70, 110), (70, 100))),  # waving
    (0.07, ((-25, -5), (35, 55), (90, 110), (-100, -80))),  # hand on the hip
    (0.03, ((50, 110), (-10, 20), (0, 80), (-60, 30))),  # forward
    (0.02, ((10, 50), (0, 15), (90, 130), (-60, -20))),  # hand before the chest
)
_STAND = ((-6, 8), (1, 10), (0, 12), (-8, 8))
_SIT = ((70, 100), (0, 25), (60, 110), (-10, 10))
_CROUCH = ((85, 125), (5, 25), (95, 140), (-10, 10))
# One leg, the other, and the range of the torso's forward lean.
_LEGS = (
    (0.48, (_STAND, _STAND, (-6, 12))),
    (0.24, (((12, 40), (0, 8), (0, 25), (-5, 5)), ((-35, -5), (0, 8), (5, 60), (-5, 5)), (-4, 15))),  # walking
    (0.11, (((-10, 25), (12, 40), (0, 40), (-10, 10)), ((-10, 15), (12, 40), (0, 20), (-10, 10)), (-8, 15))),  # wide
    (0.05, (((40, 90), (0, 15), (40, 100), (-8, 8)), ((-35, 0), (0, 10), (10, 60), (-5, 5)), (0, 25))),  # lunging
    (0.07, (_SIT, _SIT, (-15, 15))),
    (0.02, (_CROUCH, _CROUCH, (5, 35))),
    (0.03, (_STAND, _STAND, (20, 70))),  # bending over
)


def _choose(rng: np.random.Generator, table: tuple) -> tuple:
    shares, poses = zip(*table, strict=True)
    return poses[rng.choice(len(poses), p=shares)]


def choose_arm(rng: np.random.Generator) -> np.ndarray:
    """(4,) radians for one arm, as :func:`limb` takes them."""
    low, high = np.deg2rad(_choose(rng, _ARMS)).T
    return rng.uniform(low, high)


def choose_stance(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Both legs' angles (2, 4) in radians, as :func:`limb` takes them, and the torso's lean in degrees."""
    *legs, lean = _choose(rng, _LEGS)
    low, high = np.moveaxis(np.deg2rad(legs), -1, 0)
    return rng.permutation(rng.uniform(low, high)), rng.uniform(*lean)


def turn(axis: int, degrees: float) -> np.ndarray:
    """(3, 3) rotation about x, y or z (axis 0, 1, 2), in the sense y to z, z to x, x to y."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix


def limb(angles: np.ndarray, side: int, hinge: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit directions (3,) of upper bone, lower bone and of the lower bone's front side.

    ``angles`` is (flexion, abduction, bend, twist) in radians, ``hinge`` is 1 for an elbow, which
    closes forward, and -1 for a knee.
    """
    (sin_f, sin_a, sin_b, sin_t), (cos_f, cos_a, cos_b, cos_t) = np.sin(angles), np.cos(angles)
    upper = np.array([side * sin_a, cos_a * cos_f, cos_a * sin_f])
    swing = hinge * np.array([0.0, -sin_f, cos_f])
    sideways = np.cross(upper, swing)
    swing = cos_t * swing + side * sin_t * sideways
    return upper, cos_b * upper + sin_b * swing, hinge * (cos_b * swing - sin_b * upper)
