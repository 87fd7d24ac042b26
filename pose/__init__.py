"""Light-weight human pose estimation with dynamic convolution.

from pose import Predictor
poses = Predictor.from_config("configs/quickstart.py", "work_dirs/quickstart/best.pth")("street.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference.predictor import Poses, Predictor

__version__ = "0.1.0"

__all__ = ["Poses", "Predictor"]


def __getattr__(name: str) -> Any:
    """Imports the predictor where it is first asked for: a training run has no use for it."""
    if name in __all__:
        from pose.inference import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
