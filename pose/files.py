"""Files that are never half there: written beside and renamed; and hashes that name them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.errors import DataError, OutputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    Raises:
        OutputError: The folder cannot be made or the file cannot be written; what was there stays.
    """
    path = Path(path)
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


def make_folder(path: str | Path) -> Path:
    """Makes a folder and proves that it can be written.

    Raises:
        OutputError: It cannot.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written as a folder ({error.strerror or error}); choose another place"
        ) from error
    return path


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON beside and renames.

    Raises:
        OutputError: The place cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(value))  # several times as fast as json.dump


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
