"""Errors that a person can mend, and how the tools tell them: one line and exit status 2."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable

_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)
"""How torch says that there is none left; its error for a GPU is a RuntimeError, too."""


EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "pycocotools": "train",
    "mmengine": "train",
    "yaml": "train",
    "tensorboard": "train",
    "mmcv": "video",
    "faster_coco_eval": "fast-eval",
    "onnx": "export",
    "openvino": "openvino",
    "matplotlib": "plots",
    "scipy": "compare",
    "flask": "serve",
    "werkzeug": "serve",
    "optuna": "tune",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "psutil": "test",
    "pyarrow": "large",
}
"""Which extra of setup.py installs a module that the core of the package does without."""


def missing(module: str) -> str:
    """What to do where a module of :data:`EXTRAS` is not installed, in a line."""
    extra = EXTRAS[module]
    return (
        f"this needs {module}, which is not installed and comes with the extra {extra}: "
        f'pip install ".[{extra}]" in the repository'
    )


class PoseError(Exception):
    """Something a person can mend. The message is one line: which file or option, what is wrong, what to do."""


class DataError(PoseError, ValueError):
    """Annotations, detections, pictures or results that cannot be used as they are."""


class CheckpointError(PoseError, ValueError):
    """A checkpoint that is broken or belongs to another network."""


class OutputError(PoseError, OSError):
    """A place that cannot be written."""


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """Makes a tool's ``main``: a :class:`PoseError` is told in one line with exit status 2.

    Ctrl-C leaves with status 130. Any other exception is a defect of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            sys.exit(main() or 0)
        except PoseError as error:
            message = " ".join(str(error).split())
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not _MEMORY.search(str(error)):
                raise
            print("error: not enough memory; take a smaller input, network or batch, or fewer workers", file=sys.stderr)
            sys.exit(2)
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in EXTRAS:
                raise
            print(f"error: {missing(module)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run
