"""Light-weight human pose estimation with dynamic convolution.

import cv2
from pose import Predictor, draw_poses

image = cv2.imread("me.jpg")
cv2.imwrite("drawn.jpg", draw_poses(image, Predictor.from_weights()(image)))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference.predictor import Predictor
    from pose.poses import Person, Poses
    from pose.skeleton import COCO, Skeleton
    from pose.visualization import draw_poses

__version__ = "0.1.0"

_HOMES = {
    "COCO": "pose.skeleton",
    "Person": "pose.poses",
    "Poses": "pose.poses",
    "Predictor": "pose.inference.predictor",
    "Skeleton": "pose.skeleton",
    "draw_poses": "pose.visualization",
}
"""Where each public name is defined; its module is imported when the name is first asked for."""

__all__ = ["COCO", "Person", "Poses", "Predictor", "Skeleton", "draw_poses"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_HOMES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
