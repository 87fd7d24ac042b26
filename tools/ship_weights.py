"""Put a trained network's weights into data/weights, where the demo finds them.

    python tools/ship_weights.py CONFIG work_dirs/RUN/best.pth --name hands --about "14 keypoints" --default

Weights are kept in half precision, half the size; test the file that was written, not the one that was read. The hash
goes into data/weights/index.json; what they were trained on and how they do belongs into data/weights/README.md.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pose.checkpoint import in_half_precision, load_checkpoint, load_state, save_checkpoint
from pose.config import load_settings
from pose.errors import CheckpointError, command
from pose.files import check_outputs, make_folder, read_json, sha256, write_json
from pose.options import OptionError
from pose.skeleton import BUILT_IN
from pose.weights import FOLDER, INDEX, ROOT


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration in this repository")
    parser.add_argument("checkpoint", type=Path, help="trained weights")
    parser.add_argument("--name", required=True, help="what they are called; also the file's name")
    parser.add_argument("--about", required=True, help="what they are, in a line")
    parser.add_argument("--replace", action="store_true", help="in place of the weights that have this name")
    parser.add_argument("--default", action="store_true", help="take them where no weights are named")
    arguments = parser.parse_args()
    if not re.fullmatch(r"[\w.-]+", arguments.name):
        raise OptionError(f"--name {arguments.name}: letters, digits, . _ - alone; it is the file's name")
    settings = load_settings(arguments.config)
    config, skeleton = _inside(arguments.config), settings.data.skeleton
    skeleton = skeleton if skeleton in BUILT_IN else _inside(Path(skeleton))
    contents = load_checkpoint(arguments.checkpoint)
    if "optimizer" in contents:
        raise CheckpointError(f"{arguments.checkpoint}: is a training's state; take the best.pth beside it")
    state = contents["model"]
    load_state(settings.build_model(), state, arguments.checkpoint)  # they fit
    index = FOLDER / INDEX
    entries = read_json(index, "list of weights") if index.is_file() else {"default": arguments.name, "weights": {}}
    if arguments.name in entries["weights"] and not arguments.replace:
        raise OptionError(f"--name {arguments.name}: {index} has such weights; take another name, or add --replace")
    half = in_half_precision(state, arguments.checkpoint)
    file = make_folder(FOLDER) / f"{arguments.name}.pth"
    check_outputs([file, index], [arguments.config, arguments.checkpoint, skeleton])
    kept = {"calibration": contents["calibration"]} if "calibration" in contents else {}
    save_checkpoint(file, {"model": half, **kept})
    entries["weights"][arguments.name] = {
        "file": file.name,
        "sha256": sha256(file),
        "config": config,
        "skeleton": skeleton,
        "about": arguments.about,
    }
    if arguments.default:
        entries["default"] = arguments.name
    write_json(index, entries)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, sha256 {entries['weights'][arguments.name]['sha256']}")
    print(f"next: say in {FOLDER / 'README.md'} what they were trained on and how they do")


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
