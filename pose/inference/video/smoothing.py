"""Steadier keypoints in videos: the One-Euro filter (Casiez et al., CHI 2012), one per person and joint.

A joint that hardly moves is filtered hard, so that it stops trembling; a fast one hardly, so that it does
not lag. Speeds are in person sizes a second: the same setting holds for any picture size and frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strength:
    """A filter's numbers.

    Attributes:
        cutoff: Hz, of a joint at rest.
        slope: Hz more per person size a second.
        speed_cutoff: Hz, of the speed itself.
    """

    cutoff: float
    slope: float
    speed_cutoff: float


STRENGTHS = {"off": None, "light": Strength(1.5, 4.0, 1.5), "strong": Strength(0.5, 4.0, 1.0)}

_LONGEST_GAP = 0.5  # seconds after which a person's filter starts anew


@dataclass
class _State:
    time: float
    points: np.ndarray  # (K, 2) filtered
    speed: np.ndarray  # (K, 2) filtered, person sizes a second


class Smoother:
    """Filters the keypoints of persons with identities.

    Args:
        strength: One of :data:`STRENGTHS`.
        fps: Frames a second.
    """

    def __init__(self, strength: str, fps: float) -> None:
        self.strength = STRENGTHS[strength]
        self.fps = fps
        self._states: dict[int, _State] = {}

    def __call__(self, frame: int, ids: np.ndarray, keypoints: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """Filtered keypoints.

        Args:
            frame: Its number, rising from call to call.
            ids: (N,) identities.
            keypoints: (N, K, 3) x, y in pixels, and joint scores, which stay.
            areas: (N,) pixels^2 of the padded crops; a person's size is the square root.

        Returns:
            (N, K, 3).
        """
        if self.strength is None:
            return keypoints
        now = frame / self.fps
        self._states = {key: state for key, state in self._states.items() if now - state.time <= _LONGEST_GAP}
        smooth = keypoints.copy()
        for row, key in enumerate(ids.tolist()):
            state = self._states.get(key)
            points = keypoints[row, :, :2]
            if state is None:
                self._states[key] = _State(now, points, np.zeros_like(points))
                continue
            smooth[row, :, :2] = _step(self.strength, state, now, points, np.sqrt(areas[row]))
        return smooth


def _step(strength: Strength, state: _State, now: float, points: np.ndarray, size: float) -> np.ndarray:
    """Equations 1 to 5 of the paper for one person's (K, 2) points; the speed is that of a joint in the plane."""
    elapsed = now - state.time
    speed = (points - state.points) / (elapsed * size)
    state.speed = state.speed + _alpha(strength.speed_cutoff, elapsed) * (speed - state.speed)
    cutoff = strength.cutoff + strength.slope * np.linalg.norm(state.speed, axis=1, keepdims=True)
    state.points = state.points + _alpha(cutoff, elapsed) * (points - state.points)
    state.time = now
    return state.points


def _alpha(cutoff: np.ndarray | float, elapsed: float) -> np.ndarray | float:
    """The share of the new value in a first-order low-pass of ``cutoff`` Hz after ``elapsed`` seconds."""
    turned = 2 * np.pi * cutoff * elapsed
    return turned / (turned + 1)
