"""A folder with a folder a class, listed into arrays: a million images cost megabytes, which forked workers share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from pose.errors import DataError

LAYOUT = "a split is a folder with a folder for each class, as torchvision's ImageFolder has it"


@dataclass(frozen=True)
class LabeledImages:
    """Images and their classes, in the order that torchvision's ``ImageFolder`` gives them.

    Attributes:
        root: The folder.
        classes: Names of the classes, sorted.
        names: (N,) bytes, files relative to their class's folder.
        labels: (N,) int32, rows of ``classes``.
    """

    root: str
    classes: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> str:
        """An image's file."""
        return os.path.join(self.root, self.classes[self.labels[row]], os.fsdecode(bytes(self.names[row])))


def list_images(root: str | Path) -> LabeledImages:
    """Lists a split.

    Args:
        root: Its folder. Below each class's folder every file with a suffix of an image counts, in whatever folder.

    Raises:
        DataError: There is no such folder, it has fewer than two classes, or a class has no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: image folder not found; {LAYOUT}")
    try:
        with os.scandir(root) as entries:
            classes = sorted(entry.name for entry in entries if entry.is_dir())
        if len(classes) < 2:
            found = f"one class, {classes[0]!r}" if classes else "no folder of a class"
            raise DataError(f"{root}: has {found}; {LAYOUT}, and it takes two classes to tell apart")
        listed = [_names(root / name) for name in classes]
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be listed ({error.strerror or error})") from error
    empty = [name for name, names in zip(classes, listed, strict=True) if not len(names)]
    if empty:
        more = f" ({len(empty)} classes are empty)" if len(empty) > 1 else ""
        raise DataError(f"{root / empty[0]}: holds no image{more}; remove the folder or fill it ({IMG_EXTENSIONS})")
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(names) for names in listed])
    return LabeledImages(str(root), tuple(classes), np.concatenate(listed), labels)


def _names(folder: Path) -> np.ndarray:
    """(n,) bytes: the images below a class's folder, relative to it."""
    names: list[bytes] = []
    for place, _, files in sorted(os.walk(folder, followlinks=True)):
        inner = os.path.relpath(place, folder)
        chosen = sorted(name for name in files if name.lower().endswith(IMG_EXTENSIONS))
        names += [os.fsencode(name if inner == "." else os.path.join(inner, name)) for name in chosen]
    return np.array(names, dtype=bytes)


def check_classes(classes: tuple[str, ...], other: LabeledImages, where: str) -> None:
    """Refuses images of other classes than a network knows.

    Args:
        classes: The classes that it knows.
        other: The images.
        where: What the classes are of, for the message.

    Raises:
        DataError: They differ; names a class that is missing and one that is not known.
    """
    missing = [name for name in classes if name not in set(other.classes)]
    unknown = [name for name in other.classes if name not in set(classes)]
    if missing or unknown:
        parts = [f"{len(missing)} are missing (e.g. {missing[0]!r})"] if missing else []
        parts += [f"{len(unknown)} are unknown there (e.g. {unknown[0]!r})"] if unknown else []
        raise DataError(f"{other.root}: other classes than {where}: {', '.join(parts)}")
