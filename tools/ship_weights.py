"""Put a trained network's weights into data/weights, where the demo finds them.

    python tools/ship_weights.py CONFIG work_dirs/RUN/best.pth --name hands --about "14 keypoints" --default
    python tools/ship_weights.py CONFIG person_detector.pth --detector --name person --about "boxes" --default

Weights are kept in half precision, half the size; test the file that was written, not the one that was read. The hash
goes into data/weights/index.json; what they were trained on and how they do belongs into data/weights/README.md.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pose.checkpoint import in_half_precision, load_checkpoint, load_state, save_checkpoint
from pose.command_line import CommandParser
from pose.config import load_settings
from pose.detection.settings import load_detector_settings, load_network
from pose.errors import CheckpointError, command
from pose.files import check_outputs, make_folder, read_json, sha256, write_json
from pose.options import OptionError
from pose.skeleton import BUILT_IN
from pose.weights import FOLDER, INDEX, ROOT


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("config", type=Path, help="configuration in this repository")
    parser.add_argument("checkpoint", type=Path, help="trained weights")
    parser.add_argument("--name", required=True, help="what they are called; also the file's name")
    parser.add_argument("--about", required=True, help="what they are, in a line")
    parser.add_argument("--replace", action="store_true", help="in place of the weights that have this name")
    parser.add_argument("--detector", action="store_true", help="they are a person detector's")
    parser.add_argument("--default", action="store_true", help="take them where no weights are named")
    arguments = parser.parse_args()
    if not re.fullmatch(r"[\w.-]+", arguments.name):
        raise OptionError(f"--name {arguments.name}: letters, digits, . _ - alone; it is the file's name")
    index = FOLDER / INDEX
    entries = read_json(index, "list of weights") if index.is_file() else {"default": arguments.name, "weights": {}}
    kind = "detectors" if arguments.detector else "weights"
    entries.setdefault(kind, {})
    if arguments.name in entries[kind] and not arguments.replace:
        raise OptionError(f"--name {arguments.name}: {index} has such {kind}; take another name, or add --replace")
    file = FOLDER / f"{arguments.name}.pth"
    other = entries.get("weights" if arguments.detector else "detectors", {})
    if arguments.name in other:
        raise OptionError(f"--name {arguments.name}: {index} has another kind of network of this name; take another")
    check_outputs([file, index], [arguments.config, arguments.checkpoint])
    contents, facts = (detector if arguments.detector else pose_network)(arguments.config, arguments.checkpoint)
    entry = {"file": file.name, "config": _inside(arguments.config), **facts}
    make_folder(FOLDER)
    save_checkpoint(file, contents)
    digest = sha256(file)
    entries[kind][arguments.name] = {**entry, "sha256": digest, "about": arguments.about}
    if arguments.default:
        entries["default_detector" if arguments.detector else "default"] = arguments.name
    write_json(index, entries)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, sha256 {digest}")
    print(f"next: say in {FOLDER / 'README.md'} what they were trained on and how they do")


def pose_network(config: Path, checkpoint: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What is kept of a trained pose network, and what the index says of it beside its file."""
    settings = load_settings(config)
    skeleton = settings.data.skeleton
    contents = load_checkpoint(checkpoint)
    if "optimizer" in contents:
        raise CheckpointError(f"{checkpoint}: is a training's state; take the best.pth beside it")
    state = contents["model"]
    load_state(settings.build_model(), state, checkpoint)  # they fit
    kept = {"calibration": contents["calibration"]} if "calibration" in contents else {}
    half = in_half_precision(state, checkpoint)
    return {"model": half, **kept}, {"skeleton": skeleton if skeleton in BUILT_IN else _inside(Path(skeleton))}


def detector(config: Path, checkpoint: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The same of a detector, as tools/pack_detector.py wrote it; where the data lay is the configuration's."""
    network, trained = load_network(checkpoint)
    settings = replace(load_detector_settings(config), model=trained.model, test=trained.test)
    return {"model": in_half_precision(network.state_dict(), checkpoint), "settings": settings.to_dict()}, {}


def _inside(path: Path) -> str:
    """A path from the repository's root on.

    Raises:
        OptionError: It leads elsewhere.
    """
    try:
        return path.resolve().relative_to(ROOT.resolve()).as_posix()
    except ValueError as error:
        raise OptionError(f"{path}: is not in this repository, which the weights come with") from error


if __name__ == "__main__":
    main()
