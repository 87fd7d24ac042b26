"""All formats, by the names that a person gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pose.errors import DataError, PoseError
from pose.files import DAMAGED
from pose.formats import coco, cvat, deeplabcut, keypoints_json, label_studio, labelme, openpose, research, sleap, yolo
from pose.formats.dataset import PoseDataset
from pose.formats.options import ReadOptions, WriteOptions
from pose.options import OptionError

Read = Callable[[Path, ReadOptions], PoseDataset]
Write = Callable[[PoseDataset, Path, WriteOptions], Counter[str]]


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What it is called on the command line.
        about: What it is, for people.
        recognizes: Whether a path, which exists, holds it.
        read: Reads it; None where it can only be written.
        write: Writes it and counts what it cannot hold; None where it can only be read.
        suffixes: The suffixes of files that are written in it unless another format is named.
        folder: Whether what is written is a folder.
    """

    name: str
    about: str
    recognizes: Callable[[Path], bool] | None = None
    read: Read | None = None
    write: Write | None = None
    suffixes: tuple[str, ...] = ()
    folder: bool = False


FORMATS = {
    each.name: each
    for each in (
        Format(
            "keypoints",
            "keypoints.json of this project's demo (COCO's results)",
            keypoints_json.recognizes, keypoints_json.read, keypoints_json.write,
        ),
        Format("yolo", "YOLO-pose folder with data.yaml", yolo.recognizes, yolo.read, yolo.write, folder=True),
        Format("mpii", "MPII's .mat, or its JSON as HRNet has it", research.recognizes_mpii, research.read_mpii),
        Format("aic", "AI Challenger's JSON", research.recognizes_aic, research.read_aic),
        Format("labelme", "LabelMe's JSON, a file or a folder of them", labelme.recognizes, labelme.read),
        Format("sleap", "project of SLEAP (.slp) or DeepLabCut (its folder or labels)", sleap.recognizes, sleap.read),
        Format("openpose", "OpenPose's JSON, a file an image, BODY_25", write=openpose.write, folder=True),
        Format(
            "deeplabcut", "DeepLabCut's table of poses, as movement loads it", write=deeplabcut.write,
            suffixes=(".csv", ".h5"),
        ),
        Format("cvat", "CVAT's XML of images or videos, or its archive", cvat.recognizes, cvat.read),
        Format(
            "label-studio",
            "Label Studio's JSON export; out: tasks with predictions, and their labelling configuration",
            label_studio.recognizes, label_studio.read, label_studio.write,
        ),
        Format(
            "coco",
            "COCO keypoint annotations; also CrowdPose's, Halpe's and COCO-WholeBody's body joints, CVAT's archive",
            coco.recognizes, coco.read, coco.write, (".json",),
        ),
        Format("cvat-coco", "archive that CVAT imports as drafts", write=coco.write_archive, suffixes=(".zip",)),
    )
}  # fmt: skip
"""The formats by name; a path is of the first one that recognizes it."""

READABLE = tuple(name for name, each in FORMATS.items() if each.read)
WRITABLE = tuple(name for name, each in FORMATS.items() if each.write)


def read_dataset(path: str | Path, format_name: str | None = None, options: ReadOptions | None = None) -> PoseDataset:
    """Reads labeled persons.

    Args:
        path: A file or folder.
        format_name: One of :data:`READABLE`; None tells it by what is there.
        options: What the format does not say.

    Raises:
        DataError: Nothing is there, no format knows it, or it is not of its format.
        OptionError: There is no format of this name to read.
    """
    path = Path(path)
    chosen = input_format(path, format_name)
    assert chosen.read is not None  # as READABLE says
    with _data_errors(path, f"is not in the format {chosen.name}"):
        return chosen.read(path, options or ReadOptions())


@contextmanager
def _data_errors(path: Path, problem: str) -> Iterator[None]:
    """Whatever goes wrong with a file is a DataError that names it."""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error
    except PoseError:
        raise
    except DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        raise DataError(f"{path}: {problem} ({reason})") from error


def input_format(path: Path, name: str | None = None) -> Format:
    """The format to read a path in; see :func:`read_dataset`."""
    if name is not None and name not in READABLE:
        raise OptionError(f"--from: no format {name!r} to read; there are {', '.join(READABLE)}")
    with _data_errors(path, "cannot be read"):
        if not path.exists():
            raise DataError(f"{path}: annotation file not found; give its path or see data/README.md for how to get it")
        if name is not None:
            return FORMATS[name]
        for each in FORMATS.values():
            if _recognizes(each, path):
                return each
    raise DataError(f"{path}: in none of the formats that are known ({', '.join(READABLE)}); name one by --from")


def _recognizes(each: Format, path: Path) -> bool:
    """Whether a path holds a format; a folder by a file's name, as ``labels.json``, is none of its files."""
    try:
        return each.recognizes is not None and each.recognizes(path)
    except OSError:
        if path.is_dir():
            return False
        raise


def output_format(path: Path, name: str | None = None) -> Format:
    """The format to write a path in: the named one, or that of its suffix.

    Raises:
        OptionError: There is no such format to write, or the suffix tells none.
    """
    if name is not None:
        if name not in WRITABLE:
            raise OptionError(f"--to: no format {name!r} to write; there are {', '.join(WRITABLE)}")
        return FORMATS[name]
    for each in FORMATS.values():
        if path.suffix.lower() in each.suffixes:
            return each
    raise OptionError(f"--to: say which format {path} shall have: {', '.join(WRITABLE)}")
