"""Very many pictures as parts of work: folders, lists of names, and tar archives as WebDataset packs them."""

from __future__ import annotations

import glob
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pose.errors import DataError
from pose.files import LISTED_SUFFIXES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

File = Path | bytes | DataError
"""A picture's file, what is in it, or why there is none."""


@dataclass(frozen=True)
class Part:
    """The pictures that are done and written together.

    Attributes:
        number: The part's number, from 0 on.
        root: What names are relative to.
        names: The names of the pictures, or of one archive where ``archive`` is True.
        archive: Whether it is an archive.
    """

    number: int
    root: Path
    names: tuple[str, ...]
    archive: bool = False

    def files(self) -> Iterator[tuple[str, File]]:
        """Each picture's name and file, in order; what cannot be read of an archive is one more, with the reason."""
        if not self.archive:
            yield from ((name, self.root / name) for name in self.names)
            return
        name = self.names[0]
        try:
            with tarfile.open(self.root / name, "r|*") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep all of them, its hints know none
                    if member.isfile() and member.name.lower().endswith(LISTED_SUFFIXES):
                        content = archive.extractfile(member)
                        yield f"{name}/{member.name}", content.read() if content else b""
        except (OSError, tarfile.TarError, EOFError) as error:
            yield name, DataError(f"{self.root / name}: archive cannot be read to its end ({error})")


def list_parts(source: str | Path, size: int) -> list[Part]:
    """The parts of an input, the same in every process that lists it.

    Args:
        source: A folder, whose pictures and archives are found in all folders below; a text file of names, one a line,
            relative to its folder; a picture, an archive, or a pattern such as ``"shards/*.tar"``.
        size: Pictures of a part; an archive is one part, however many it holds.

    Raises:
        DataError: There is no such file, or nothing in it.
    """
    root, names = _names(Path(source), str(source))
    if not names:
        endings = ", ".join((*LISTED_SUFFIXES, *TAR_SUFFIXES))
        raise DataError(f"{source}: no pictures and no archives; known are {endings}")
    images = [name for name in names if not _is_archive(name)]
    parts = [tuple(images[start : start + size]) for start in range(0, len(images), size)]
    archives = [(name,) for name in names if _is_archive(name)]
    return [Part(number, root, chosen, number >= len(parts)) for number, chosen in enumerate([*parts, *archives])]


def _names(path: Path, pattern: str) -> tuple[Path, list[str]]:
    """What names are relative to, and they themselves."""
    if path.is_dir():
        return path, sorted(_below(path, ""))
    if path.is_file():
        if _is_known(path.name):
            return path.parent, [path.name]
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: neither picture nor archive nor a text file of names ({error})") from error
        return path.parent, list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    found = sorted(match for match in glob.glob(pattern, recursive=True) if _is_known(match))
    if not found:
        raise DataError(f"{pattern}: no such folder, list, picture or archive, and no pattern that matches any")
    return Path(), found


def _below(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _below(Path(entry.path), f"{name}/")
            elif _is_known(entry.name):
                yield name


def _is_archive(name: str) -> bool:
    return name.lower().endswith(TAR_SUFFIXES)


def _is_known(name: str) -> bool:
    return name.lower().endswith((*LISTED_SUFFIXES, *TAR_SUFFIXES))
