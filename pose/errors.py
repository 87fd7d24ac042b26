"""Errors that a person can mend, and how the tools tell them: one line and exit status 2."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

_REFUSED = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EIO)
_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)
"""How torch says that there is none left; its error for a GPU is a RuntimeError, too."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""Signals that would end a process amid a file, so that its half stayed; SIGKILL cannot be helped."""


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
    "nncf": "nncf",
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
    "ai_edge_quantizer": "litert",
    "executorch": "executorch",
    "torchao": "executorch",
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

    So is a disk that is full and a path that the system refuses, wherever they are met. Ctrl-C leaves with status 130,
    and SIGTERM and SIGHUP do as Ctrl-C does, with 128 and their number: what is half written goes. Where nobody reads
    the output any more the tool ends silently, as others do. Any other exception is a defect of ours and keeps its
    traceback.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            with _ending_as_ctrl_c():
                status = main() or 0
                sys.stdout.flush()
            sys.exit(status)
        except PoseError as error:
            _end(" ".join(str(error).split()))
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not _MEMORY.search(str(error)):
                raise
            _end("not enough memory; take a smaller input, network or batch, or fewer workers")
        except ModuleNotFoundError as error:
            line = missing_line(error)
            if line is None:
                raise
            _end(line)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            sys.exit(141)  # as of SIGPIPE, which Windows has not
        except OSError as error:
            if error.errno in _REFUSED and error.filename is not None:
                _end(f"{error.filename}: {error.strerror}; give another path")
            if error.errno not in _FULL:
                raise
            with contextlib.suppress(OSError):  # the same once more, where it was the standard output
                sys.stdout.flush()
            _end(f"{error.filename or 'an output'}: cannot be written ({error.strerror})")
        except Ended as error:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + error.number)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run


def _end(line: str) -> NoReturn:
    """Ends a tool with one line of what is wrong."""
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


class Ended(KeyboardInterrupt):
    """A signal that asks a process to end.

    Attributes:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _ending_as_ctrl_c() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise :class:`Ended`, unless they are ignored or have a handler already."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
