"""Checkpoints that mmpose publishes of networks that this project has: their files by name, known by hash.

    train.initial_weights=mmpose:td-hm_mobilenetv2_8xb64-210e_coco-256x192

Nothing is fetched unless somebody asks for it, by ``tools/download_weights.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

from torch import hub

from pose.errors import CheckpointError, OutputError
from pose.files import make_folder, sha256
from pose.options import OptionError, nearest

MMPOSE = "mmpose:"

_FOLDER = "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco"


class Published(NamedTuple):
    """A file of mmpose's model zoo; the figures are mmpose's own, of val2017 with detected boxes.

    Attributes:
        file: Its name. Eight digits before the date are the beginning of its SHA-256.
        config: The configuration that builds its network here.
        input_size: Width and height, where they are not the configuration's.
        ap: AP that mmpose prints.
    """

    file: str
    config: str
    input_size: tuple[int, int]
    ap: float

    @property
    def digits(self) -> str:
        """The beginning of its SHA-256."""
        return self.file.rpartition("_")[0].rpartition("-")[2]

    @property
    def url(self) -> str:
        """Where mmpose has it."""
        return f"{_FOLDER}/{self.file}"


_MOBILENET, _RESNET = "configs/coco/mobilenet_v2_x1.0_type_a_static.py", "configs/simple_baseline/resnet50.py"

PUBLISHED = {
    entry.file.rpartition("_")[0].rpartition("-")[0]: entry
    for entry in (
        Published("td-hm_mobilenetv2_8xb64-210e_coco-256x192-55a04c35_20221016.pth", _MOBILENET, (192, 256), 0.648),
        Published("td-hm_mobilenetv2_8xb64-210e_coco-384x288-d3ab1457_20221013.pth", _MOBILENET, (288, 384), 0.677),
        Published("td-hm_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth", _RESNET, (192, 256), 0.718),
        Published("td-hm_res50_8xb64-210e_coco-384x288-7b8db90e_20220923.pth", _RESNET, (288, 384), 0.731),
        Published("td-hm_res50_dark-8xb64-210e_coco-256x192-c129dcb6_20220926.pth", _RESNET, (192, 256), 0.724),
        Published("td-hm_res50_dark-8xb64-210e_coco-384x288-8b90b538_20220926.pth", _RESNET, (288, 384), 0.735),
    )
}
"""The files by mmpose's name of their configuration; from the ``.yml`` files beside it, version 1.3.2."""


def published(name: str) -> Published:
    """The entry of a name.

    Raises:
        OptionError: There is none; says which there are.
    """
    if name not in PUBLISHED:
        raise OptionError(f"no checkpoint {MMPOSE}{name}: {nearest(name, list(PUBLISHED))}")
    return PUBLISHED[name]


def folder() -> Path:
    """Where such files lie: where mmpose and torch keep theirs, ``~/.cache/torch/hub/checkpoints`` as a rule."""
    return Path(hub.get_dir(), "checkpoints")


def published_file(path: str | Path) -> str | Path:
    """The file of ``mmpose:NAME``; any other path as it is.

    Raises:
        OptionError: There is no such name.
        CheckpointError: The file is not there, or not the published one.
    """
    if not str(path).startswith(MMPOSE):
        return path
    name = str(path).removeprefix(MMPOSE)
    entry = published(name)
    file = folder() / entry.file
    if not file.is_file():
        raise CheckpointError(
            f"{path}: not there, and nothing is fetched unasked; `python tools/download_weights.py {path}` fetches it, "
            f"or put {entry.url}, whose SHA-256 begins with {entry.digits}, at {file}"
        )
    check(file, entry)
    return file


def check(file: Path, entry: Published) -> None:
    """Compares a file with the digits of its SHA-256 that are published.

    Raises:
        CheckpointError: It is another file.
    """
    found = sha256(file)
    if not found.startswith(entry.digits):
        raise CheckpointError(f"{file}: not the published file, its SHA-256 begins with {found[:8]}; remove it")


def download(name: str) -> Path:
    """Fetches a published file unless it is there; it gets its name when its hash is right.

    Raises:
        OptionError: There is no such name.
        CheckpointError: It cannot be fetched, or is another file.
        OutputError: The folder cannot be written.
    """
    entry = published(name)
    file = make_folder(folder()) / entry.file
    if file.is_file():
        check(file, entry)
        return file
    try:
        hub.download_url_to_file(entry.url, str(file), hash_prefix=entry.digits)
    except URLError as error:
        raise CheckpointError(f"{entry.url}: cannot be fetched ({error.reason}); put the file at {file}") from error
    except RuntimeError as error:  # torch's word for a wrong hash
        raise CheckpointError(f"{entry.url}: {error}; try again") from error
    except OSError as error:
        raise OutputError(f"{file}: cannot be fetched or written ({error})") from error
    return file
