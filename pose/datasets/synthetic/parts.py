"""What drawn people are made of: parts, materials, outlines."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Part(IntEnum):
    """What a pixel of a person belongs to; below 16, so that part and person share one byte."""

    HEAD = 1
    TORSO = 2
    PELVIS = 3
    LEFT_UPPER_ARM = 4
    RIGHT_UPPER_ARM = 5
    LEFT_FOREARM = 6
    RIGHT_FOREARM = 7
    LEFT_THIGH = 8
    RIGHT_THIGH = 9
    LEFT_SHIN = 10
    RIGHT_SHIN = 11
    BAG = 12


class Material(IntEnum):
    """What an outline is painted with."""

    SKIN = 0
    SKIN_SHADE = 1
    HAIR = 2
    SHIRT = 3
    TRIM = 4
    TROUSERS = 5
    SHOES = 6
    WHITE = 7
    DARK = 8
    LIPS = 9
    BAG = 10


@dataclass
class Outlines:
    """Collects outlines, each the convex hull of at most five spheres, in the body frame."""

    spheres: list[list] = field(default_factory=list)
    middles: list[np.ndarray] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    materials: list[int] = field(default_factory=list)
    nearer: list[float] = field(default_factory=list)

    def add(self, part: Part, material: Material, *spheres: tuple[np.ndarray, float], nearer: float = 0.0) -> None:
        """``nearer`` moves the outline's place in the painting order, not the outline."""
        rows = [(*center, radius) for center, radius in spheres]
        self.middles.append(np.mean([center for center, _ in spheres], axis=0))
        self.spheres.append(rows + rows[:1] * (5 - len(rows)))
        self.parts.append(part)
        self.materials.append(material)
        self.nearer.append(nearer)
