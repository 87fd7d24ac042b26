"""Files that are never half there and never in the place of an input: written beside and renamed; and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.errors import DataError, OutputError, PoseError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of the files that are looked for in a folder of images."""

RARE_SUFFIXES = (".gif", ".avif", ".heic", ".heif", ".jxl", ".jp2")
"""Suffixes of images that not every OpenCV decodes: one in a folder is read, or named as one that cannot be."""

LISTED_SUFFIXES = (*IMAGE_SUFFIXES, *RARE_SUFFIXES)
"""Suffixes of all files that are taken for images where a folder, a pattern or an archive is looked through."""

DAMAGED = (
    *(OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)
"""What libraries raise about a file that is cut off, damaged or not what its name says: NumPy, torch, json, zipfile and
readers of labelling tools. NotImplementedError and RecursionError are RuntimeErrors, as is an encrypted archive's."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    A symbolic link is followed: what it leads to is replaced, not the link.

    Raises:
        OutputError: The folder cannot be made, the file cannot be written, or something that is no regular file has
            its name; what was there stays.
    """
    path = _regular(Path(path))
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # same suffix: writers choose by it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        temporary.unlink(missing_ok=True) if path.parent.is_dir() else None


@contextmanager
def told_as(temporary: Path, path: Path) -> Iterator[None]:
    """Errors in the block that name a temporary file name the one that was asked for."""
    try:
        yield
    except PoseError as error:
        if str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(path))) from error


def _regular(path: Path) -> Path:
    """Where a file is written: the path, or what it leads to as a symbolic link.

    Raises:
        OutputError: Something that is no regular file is there: a folder, a device, a pipe.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.is_dir():
            raise OutputError(f"{path}: is a folder; give the name of a file")
        if target.exists() and not target.is_file():
            raise OutputError(f"{path}: is no regular file (a device or a pipe); give the name of a file")
    except (OSError, RuntimeError) as error:  # links in a circle are a RuntimeError before Python 3.13
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written ({error}); choose another place") from error
    return target


def check_outputs(outputs: Iterable[str | Path | None], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuses outputs that would destroy something or cannot be written: every tool calls it before its work.

    Args:
        outputs: Files that will be written; None is passed over.
        inputs: Files and folders that are read; None is passed over. The images in a folder, at whatever depth, are
            inputs, too.

    Raises:
        OutputError: An output is one of the inputs or another output, by whatever name or link, or is there and is no
            regular file; or its folder cannot be written or made.
    """
    proven: set[Path] = set()
    read = [Path(path) for path in inputs if path is not None]
    taken = {_identity(path): "an input" for path in read}
    folders = [path.resolve() for path in read if path.is_dir()]
    for path in (Path(output) for output in outputs if output is not None):
        target = _regular(path)
        identity = _identity(path)
        if target.suffix.lower() in LISTED_SUFFIXES and target.is_file():
            folder = next((each for each in folders if target.resolve().is_relative_to(each)), None)
            if folder is not None:
                raise OutputError(f"{path}: is an image of the folder {folder}, which is read; choose another name")
        if identity in taken:
            raise OutputError(f"{path}: is {taken[identity]} too; choose another name for what is written")
        taken[identity] = "another output"
        folder = _existing(target.parent)
        if folder not in proven:
            _prove(folder, path)
            proven.add(folder)


def check_kind(path: str | Path | None, *suffixes: str) -> None:
    """Refuses an output that would take the place of a file of another kind; None is passed over.

    Args:
        path: A file that will be written, as a person named it.
        suffixes: What names of its kind end in, e.g. ".json". A file there without any suffix is of no kind.

    Raises:
        OutputError: A file with another suffix is there, by this name or where it leads to as a link.
    """
    if path is None:
        return
    target = _regular(Path(path))
    if target.is_file() and target.suffix.lower() not in ("", *suffixes):
        raise OutputError(f"{path}: is there and no {suffixes[0]} file; choose a name that ends in {suffixes[0]}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: what is missing is made when a file is written."""
    return next((each for each in (folder, *folder.parents) if os.path.lexists(each)), folder)


def _prove(folder: Path, path: Path) -> None:
    """Proves that files can be made in a folder that is there.

    Raises:
        OutputError: They cannot; names ``path``.
    """
    probe = folder / f".probe.{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


def _identity(path: Path) -> tuple[int, int] | Path:
    """What is the same for every name of a file: its device and its number there, or where it would be."""
    try:
        status = path.stat()
    except OSError:
        try:
            return path.resolve()
        except (OSError, RuntimeError):  # links in a circle: reading them says so
            return path.absolute()
    return status.st_dev, status.st_ino


def check_folder(path: str | Path | None, option: str) -> None:
    """Refuses a folder to read from that is not there; None is passed over.

    Args:
        path: The folder.
        option: What names it, for the message.

    Raises:
        DataError: There is no such folder.
    """
    if path is not None and not Path(path).is_dir():
        raise DataError(f"{option} {path}: no such folder; give that of the images")


def make_folder(path: str | Path) -> Path:
    """Makes a folder and proves that it can be written.

    Raises:
        OutputError: It cannot.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written as a folder ({error.strerror or error}); choose another place"
        ) from error
    _prove(path, path)
    return path


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON beside and renames.

    Raises:
        OutputError: The place cannot be written, or a number is NaN or infinite, which is not JSON.
    """
    text = json_text(path, value)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def json_text(path: str | Path, value: Any) -> str:
    """JSON that any program reads.

    Args:
        path: The file that it is for, for the message.
        value: What it says.

    Raises:
        OutputError: A number is NaN or infinite, which is not JSON.
    """
    try:
        return json.dumps(value, allow_nan=False)  # several times as fast as json.dump
    except ValueError as error:
        raise OutputError(f"{path}: not written, since it would hold NaN or infinity, which is not JSON") from error


def read_json(path: str | Path, what: str) -> Any:
    """Reads JSON.

    Args:
        path: The file.
        what: What it should be, for messages, e.g. "annotation file".

    Raises:
        DataError: It is missing, unreadable or no JSON.
    """
    try:
        with open(path, "rb") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise DataError(f"{path}: {what} not found; give its path or see data/README.md for how to get it") from error
    except OSError as error:
        raise DataError(f"{path}: {what} cannot be read ({error.strerror or error})") from error
    except RecursionError as error:
        raise DataError(f"{path}: {what} is nested too deeply to be one; write it again") from error
    except ValueError as error:
        raise DataError(f"{path}: {what} is not JSON, perhaps cut off ({error}); fetch or write it again") from error


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
