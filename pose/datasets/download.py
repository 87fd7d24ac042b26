"""Fetching archives: resumed where they stopped, checked by size and hash, unpacked once."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pose.errors import DataError, OutputError
from pose.files import make_folder, replacing, sha256

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A zip file somewhere.

    Args:
        name: The file's name.
        url: Where it is.
        size: The file's size in bytes.
        sha256: Hexadecimal digits.
        members: The members to unpack; None for all.
        makes: Files or folders, relative to the data's root, that are there once it is unpacked, and how many
            files a folder holds then (1 for a file).
    """

    name: str
    url: str
    size: int
    sha256: str
    members: Collection[str] | None
    makes: dict[str, int]


_HOST = "http://images.cocodataset.org"
_KEYPOINTS = tuple(f"annotations/person_keypoints_{split}.json" for split in ("train2017", "val2017"))

COCO_2017 = (
    Archive(
        "annotations_trainval2017.zip",
        f"{_HOST}/annotations/annotations_trainval2017.zip",
        252_907_541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        _KEYPOINTS,
        dict.fromkeys(_KEYPOINTS, 1),
    ),
    Archive(
        "val2017.zip",
        f"{_HOST}/zips/val2017.zip",
        815_585_330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        None,
        {"val2017": 5_000},
    ),
    Archive(
        "train2017.zip",
        f"{_HOST}/zips/train2017.zip",
        19_336_861_798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        None,
        {"train2017": 118_287},
    ),
)


def fetch(archive: Archive, folder: str | Path) -> tuple[Path, bool]:
    """Downloads an archive; a part that is there already is continued.

    The unfinished file is called ``<name>.part``; it gets its name when size and hash are right.

    A whole file that a person put there is checked and taken.

    Returns:
        The path of the whole archive, and whether it was downloaded.

    Raises:
        DataError: The address cannot be reached, the connection broke, or what came or was there is not the archive.
        OutputError: The folder cannot be written, or its disk is too full.
    """
    folder = make_folder(folder)
    target, part = folder / archive.name, folder / f"{archive.name}.part"
    if target.exists():
        if target.stat().st_size != archive.size or sha256(target) != archive.sha256:
            raise DataError(f"{target}: not the known {archive.name} of {archive.size:,} bytes; remove or replace it")
        return target, False
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(folder).free
    if free < archive.size - have:
        raise OutputError(f"{folder}: {archive.name} needs {archive.size - have:,} bytes more, {free:,} are free")
    if have < archive.size:
        _receive(archive, part, have)
    if part.stat().st_size != archive.size or sha256(part) != archive.sha256:
        part.unlink()
        raise DataError(f"{archive.url}: what was fetched is not the known {archive.name}; it was removed, try again")
    os.replace(part, target)
    return target, True


def _receive(archive: Archive, part: Path, have: int) -> None:
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            continued = response.status == 206
            done = have if continued else 0
            bar = tqdm(total=archive.size, initial=done, desc=archive.name, unit="B", unit_scale=True)
            with bar, open(part, "ab" if continued else "wb") as file:
                while block := response.read(_BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{archive.url}: cannot be fetched ({reason}); try again, it goes on where it stopped, "
            f"or put {archive.name} from elsewhere into {part.parent}"
        ) from error
    except OSError as error:
        raise OutputError(f"{part}: cannot be written ({error.strerror or error})") from error
    if part.stat().st_size < archive.size:
        raise DataError(f"{archive.url}: the connection ended early; try again, it goes on where it stopped")


def unpack(archive: Archive, path: Path, root: str | Path) -> None:
    """Unpacks an archive into ``root``; each file is written beside and renamed, those of the right size are kept.

    Raises:
        DataError: The archive is broken.
        OutputError: The place cannot be written.
    """
    root = make_folder(root)
    try:
        with zipfile.ZipFile(path) as file:
            members = [
                member
                for member in file.infolist()
                if not member.is_dir() and (archive.members is None or member.filename in archive.members)
            ]
            for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file"):
                target = root / member.filename
                if target.is_file() and target.stat().st_size == member.file_size:
                    continue
                with replacing(target) as temporary, file.open(member) as source, open(temporary, "wb") as sink:
                    shutil.copyfileobj(source, sink, _BLOCK)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not a whole zip file ({error}); remove it and fetch it again") from error


def missing(archives: Collection[Archive], root: str | Path) -> list[str]:
    """What these archives should have made and is not there or not whole, relative to ``root``."""
    return [name for archive in archives for name, count in archive.makes.items() if _files(Path(root, name)) < count]


def _files(path: Path) -> int:
    """How many files a folder holds, unfinished ones not counted; 1 for a file, 0 for nothing."""
    if not path.is_dir():
        return int(path.is_file())
    with os.scandir(path) as entries:
        return sum(not entry.name.startswith(".") for entry in entries)
