"""Find the poses of very many pictures, and write them as tables.

    python tools/predict.py photos --out found
    python tools/predict.py names.txt --out found --format jsonl --detector yolo.onnx
    python tools/predict.py "shards/*.tar" --out found --weights base --batch 64
    torchrun --nproc-per-node 8 tools/predict.py photos --out found
    python tools/predict.py photos --out found --network CONFIG CHECKPOINT

INPUT is a folder (with those below), a text file of names, one a line, relative to it, a tar archive as WebDataset
packs them, or a quoted pattern of such. The rows, one a picture, are in parts of --part pictures, an archive each: see
docs/predict.md. Processes that torchrun starts, on one machine or on several with a common folder, share the parts. The
same command goes on after any stop; no part is done twice. Pictures that cannot be used are rows with the reason,
counted and named in summary.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pose.command_line import CommandParser, count, parse_options
from pose.datasets.workers import usable_processors
from pose.errors import command
from pose.files import check_outputs, sha256
from pose.inference.bulk.finder import FindPoses
from pose.inference.bulk.run import RUN, SUMMARY, open_run, run_parts, shard, summarize
from pose.inference.bulk.sources import list_parts
from pose.inference.bulk.writers import FORMATS
from pose.inference.command_line import add_detector_arguments, make_predictor, take_network
from pose.inference.video.files import quiet_opencv
from pose.weights import shipped, shipped_detector
from pose.wording import counted


def parse() -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument("input", help="folder, list of names, archive, picture or quoted pattern")
    parser.add_argument(
        "--network",
        nargs="+",
        default=[],
        metavar="FILE",
        help="CONFIG CHECKPOINT or an exported file (default: the weights that come with the repository)",
    )
    add_detector_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--format", choices=FORMATS, default="parquet", help="of the tables (default: %(default)s)")
    parser.add_argument("--batch", type=count(), default=16, metavar="N", help="pictures at once (default: 16)")
    parser.add_argument("--part", type=count(), default=1000, metavar="N", help="pictures of a part (default: 1,000)")
    parser.add_argument("--workers", type=count(), metavar="N", help="threads that decode (default: by the cores)")
    arguments = parser.parse_args()
    take_network(parser, arguments)
    return arguments


@command
def main() -> None:
    arguments = parse()
    quiet_opencv()
    rank, processes = shard()
    if arguments.format == "parquet":
        import pyarrow.parquet  # noqa: F401 - that it is missing is told before the network runs
    parts = list_parts(arguments.input, arguments.part)
    read = [arguments.config, arguments.checkpoint, arguments.detector, arguments.detector_weights]
    check_outputs([arguments.out / RUN, arguments.out / SUMMARY], [*read, arguments.input])
    arguments.device = own_device(arguments)
    predictor = make_predictor(arguments, may_compile=True)
    predictor.batch_size = max(predictor.batch_size, arguments.batch)
    keypoints = list(predictor.network.skeleton.keypoints)
    open_run(arguments.out, {**depends_on(arguments), "keypoints": keypoints}, parts)
    workers = arguments.workers or max(1, min(8, usable_processors() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    finder = FindPoses(predictor, workers)
    counts = run_parts(finder, parts, arguments.out, FORMATS[arguments.format], arguments.batch, warn)
    print(f"{f'process {rank} of {processes}: ' if processes > 1 else ''}{counts.describe(finder)}", flush=True)
    total = summarize(arguments.out, parts)
    if total is not None:
        print(
            f"{arguments.out}: {counted(len(parts), 'part')}, {counted(total['pictures'], 'picture')}, "
            f"{counted(total['persons'], 'person')}, {counted(len(total['bad']), 'bad picture')} (named in {SUMMARY})",
            flush=True,
        )


def own_device(arguments: argparse.Namespace) -> str:
    """The GPU of this process, where torchrun started several and a checkpoint computes on one."""
    local = os.environ.get("LOCAL_RANK")
    by_torch = arguments.config is None or arguments.checkpoint is not None
    if local is None or not by_torch or arguments.device not in ("auto", "cuda"):
        return arguments.device
    import torch

    return f"cuda:{int(local) % torch.cuda.device_count()}" if torch.cuda.is_available() else arguments.device


def depends_on(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the rows depend on, so that a folder never holds those of two networks."""
    ours = shipped(arguments.weights) if arguments.config is None else None
    network = ours.checkpoint if ours else arguments.checkpoint or arguments.config
    detector = arguments.detector
    if detector is None and arguments.config is None and not arguments.boxes:
        found = shipped_detector()
        detector = None if found is None else str(found.checkpoint)
    names = ("boxes", "detector_class", "detector_pixels", "box_threshold", "format", "part")
    return {
        "network_sha256": sha256(network),
        "detector": sha256(detector) if detector and Path(detector).is_file() else detector,
        "options": parse_options(arguments.cfg_options),
        **{name: getattr(arguments, name) for name in names},
    }


def warn(message: str) -> None:
    tqdm.write(f"warning: {' '.join(message.split())}", file=sys.stderr)
