"""Which file a ``file_name`` of an annotation file means, as tools on other systems write them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any


def plain_name(name: str) -> str:
    """A ``file_name`` with slashes between its folders, without ``./`` before and in it."""
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for place, part in enumerate(parts) if part != "." and (part or not place))


def is_absolute(name: str) -> bool:
    """Whether a plain name starts at a root or a drive."""
    return name.startswith("/") or re.match("[A-Za-z]:/", name) is not None


def find_image(root: str, name: str) -> str:
    """The file of a picture.

    A file of exactly that name comes first. Else backslashes are slashes; a name that starts with the last folders of
    ``root`` is taken from there; of an absolute name, which is of another machine, the longest end that is a file below
    ``root`` counts; and upper case is lower case where just one file fits.

    Args:
        root: The folder that names are relative to.
        name: The name that the annotation file has.

    Returns:
        The path; where there is no such file, that of the name below ``root``.
    """
    exact = os.path.join(root, name)
    if os.path.isfile(exact):
        return exact
    plain = plain_name(name)
    parts = plain.split("/")
    tails = [plain]
    if is_absolute(plain):
        tails += ["/".join(parts[start:]) for start in range(1, len(parts))]
    else:
        folders = plain_name(os.path.abspath(root)).split("/")
        shared = [count for count in range(len(parts) - 1, 0, -1) if folders[-count:] == parts[:count]]
        tails += ["/".join(parts[count:]) for count in shared]
    for tail in tails:
        path = os.path.join(root, tail)
        if os.path.isfile(path):
            return path
    for tail in tails:
        folder, _, last = os.path.join(root, tail).rpartition("/")
        fitting = _by_lower_case(folder).get(last.lower(), ())
        if len(fitting) == 1:
            return os.path.join(folder, fitting[0])
    return exact


def linked(path: str) -> str:
    """A picture's path by the folder that links on the way to its own lead to: of one picture one, whoever names it."""
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)


@lru_cache(maxsize=64)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


@lru_cache(maxsize=64)
def _by_lower_case(folder: str) -> Mapping[str, tuple[str, ...]]:
    """The names in a folder by what they are in lower case."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    for name in names:
        found[name.lower()] = (*found.get(name.lower(), ()), name)
    return found


def ids_of_one_image(images: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
    """Maps each image record's id to the first id of the records that name the same picture.

    Args:
        images: Image records with ``id`` and ``file_name``. One without a name is its own picture.
    """
    first: dict[str, Any] = {}
    return {
        image["id"]: first.setdefault(plain_name(image["file_name"]), image["id"])
        if isinstance(image.get("file_name"), str)
        else image["id"]
        for image in images
    }


class ImageNames:
    """The pictures of an annotation file by their names, to find the one that a file is.

    Args:
        images: The file's records, with ``id`` and ``file_name``.

    Attributes:
        first: For each id the first id of the same picture, see :func:`ids_of_one_image`.
        ids: That first id by plain name.

    Raises:
        KeyError, TypeError, AttributeError: A record has no id or no name.
    """

    def __init__(self, images: Sequence[Mapping[str, Any]]) -> None:
        self.first = ids_of_one_image(images)
        self.ids: dict[str, Any] = {}
        others: dict[str, set[Any]] = {}
        for image in images:
            name, image_id = plain_name(image["file_name"]), self.first[image["id"]]
            self.ids[name] = image_id
            for other in (name.lower(), *([name.lower().rpartition("/")[2]] if is_absolute(name) else [])):
                others.setdefault(other, set()).add(image_id)
        self._others = {name: min(found) for name, found in others.items() if len(found) == 1}

    def id_of(self, image: str | Path) -> Any:
        """The id of a picture by its path, or None.

        A name may have as many of the path's last folders as it likes. Where none fits, case does not matter, and of an
        absolute name, which may be of another machine, the last part is enough, where only one picture has such a name.
        """
        parts = Path(image).absolute().parts
        tails = [plain_name("/".join(parts[start:]).replace("//", "/", 1)) for start in range(len(parts))]
        found = next((self.ids[tail] for tail in tails if tail in self.ids), None)
        if found is None:
            found = next((self._others[tail.lower()] for tail in tails if tail.lower() in self._others), None)
        return found
