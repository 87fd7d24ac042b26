"""Configuration files as plain dicts: Python ones, which are code, and JSON or YAML ones, which are not.

mmengine reads all three, too, but makes any object that a YAML file names and imports any module that a file asks for
(``custom_imports``). A file from others should not do that, so that JSON and YAML are read here as plain values.

mmengine imports yapf 0.43.0, which keeps its grammar in the user's cache folder and renames that file before all of it
is written (findings/yapf_grammar_read_half_written.sh): of processes that are started at once on a new machine
(``torchrun``, the workers of a test run), one may read a part of it and fail with ``EOFError``.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from pose import resources
from pose.options import OptionError

PLAIN_SUFFIXES = (".json", ".yaml", ".yml")
"""Configurations of plain values: reading one executes nothing."""

SUFFIXES = (".py", *PLAIN_SUFFIXES)

BASE = "_base_"
"""The key that names the file, or the list of files, that a configuration builds on."""


TRIES, PAUSE = 50, 0.1
"""How often, and after how many seconds, mmengine is imported again: the file that another process writes has 1 KB."""


def import_mmengine() -> ModuleType:
    """Imports mmengine, again where another process was about to write what it reads.

    Raises:
        OptionError: yapf's file of the grammar stays damaged, as a full disk may leave it.
    """
    for _ in range(TRIES):
        try:
            return importlib.import_module("mmengine")
        except (EOFError, pickle.UnpicklingError):
            time.sleep(PAUSE)
    from platformdirs import user_cache_dir  # yapf's own

    folder = user_cache_dir("YAPF", "Google")
    raise OptionError(f"{folder}: yapf, which mmengine imports, finds its files damaged there; remove that folder")


def read_config_file(path: str | Path) -> dict[str, Any]:
    """What a configuration file says, with all that it builds on.

    Args:
        path: A file of one of :data:`SUFFIXES`. A Python file is executed, and so are those that it builds on. A JSON
            or YAML file may build on others of its kind, and on Python files that come with the project.

    Raises:
        OptionError: The file has another suffix, holds no mapping, or builds on what it may not.
        Exception: Whatever else reading, or the code of a Python file, raises.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise OptionError(f"a configuration is a file of {', '.join(SUFFIXES)}, got {path.name!r}")
    return _plain(path, ()) if path.suffix in PLAIN_SUFFIXES else _executed(path)


def _executed(path: Path) -> dict[str, Any]:
    return import_mmengine().Config.fromfile(os.fspath(path)).to_dict()


def _plain(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A JSON or YAML file with its bases; ``above`` are those that build on it."""
    if path.resolve() in above:
        raise OptionError(f"{path} builds on itself")
    text = path.read_text(encoding="utf-8")
    sections = json.loads(text) if path.suffix == ".json" else _yaml(text)
    if not isinstance(sections, dict) or not all(isinstance(key, str) for key in sections):
        raise OptionError("a configuration needs names and their values (a mapping)")
    names = sections.pop(BASE, [])
    whole: dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else names:
        base = _base(path, name)
        whole |= _plain(base, (*above, path.resolve())) if base.suffix in PLAIN_SUFFIXES else _executed(base)
    Config = import_mmengine().Config
    merged = Config._merge_a_into_b(sections, whole)
    return Config(merged).to_dict()


def _base(path: Path, name: object) -> Path:
    """The file that a JSON or YAML configuration builds on: beside it, or one that comes with the project."""
    if not isinstance(name, str):
        raise OptionError(f"{BASE} names files, got {name!r}")
    base = path.parent / name
    base = base if base.is_file() else resources.configuration(name)
    ours = base.resolve().is_relative_to((resources.ROOT / "configs").resolve())
    if base.suffix not in PLAIN_SUFFIXES and not (base.suffix == ".py" and ours):
        raise OptionError(
            f"{BASE}: {name} is code, which a JSON or YAML configuration builds on only where it comes with the "
            "project; write that one as JSON or YAML too"
        )
    return base


def _yaml(text: str) -> Any:
    import yaml  # mmengine needs it, too

    return yaml.safe_load(text)
