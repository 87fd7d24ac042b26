"""Train a pose network.

    python tools/train.py configs/coco/mobilenet_v2_x0.5_type_b_dynamic.py
    python tools/train.py CONFIG --resume
    python tools/train.py CONFIG --cfg-options data.root=/data/coco train.batch_size=64
    torchrun --nproc-per-node 4 tools/train.py CONFIG

The work folder gets last.pth, best.pth, metrics.csv, data.json (who was left out and why) and TensorBoard's files
(`tensorboard --logdir work_dirs`). Ctrl-C and SIGTERM save and leave; --resume goes on exactly
where they, or a crash, left it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from pose.command_line import CommandParser, add_training_arguments, settings_from, work_dir_of
from pose.device import choose_device
from pose.engine import distributed
from pose.engine.train import train
from pose.errors import command
from pose.evaluation.protocol import ANNOTATED


@command
def main() -> int:
    parser = CommandParser(__doc__)
    add_training_arguments(parser)
    parser.add_argument("--seed", type=int, help="of initialisation, order and augmentation")
    parser.add_argument("--check-data", action="store_true", help="decode every picture first, tell which are broken")
    arguments = parser.parse_args()
    settings = settings_from(arguments, train__seed=arguments.seed)
    work_dir = work_dir_of(arguments)
    with distributed.process_group(choose_device(arguments.device)) as device:
        summary = train(settings, work_dir, device, arguments.resume, arguments.check_data)
        best, checkpoint, stopped = summary["best"], summary["checkpoint"], summary["stopped"]
        if best:
            boxes = settings.train.validation_boxes
            distributed.say(f"best AP {best['AP']:.3f} ({boxes} boxes) after epoch {best['epoch']}: {checkpoint}")
            distributed.say(f"test it: {shlex.join(test_command(arguments, checkpoint, boxes))}")
        if stopped:
            distributed.say(f"stopped by {stopped.name}, everything is saved; the same command with --resume goes on")
            return 128 + stopped
    return 0


def test_command(arguments: argparse.Namespace, checkpoint: Path, boxes: str) -> list[str]:
    """What tests the run's best network as it was validated, with the options that it was trained with.

    Where there is a test split, it is that which is tested. A run that ``pose-train`` began is tested by ``pose-test``.
    """
    installed = Path(sys.argv[0]).stem == "pose-train"
    command = [*(["pose-test"] if installed else ["python", "tools/test.py"]), arguments.config, str(checkpoint)]
    command += ["--boxes", boxes] if boxes == ANNOTATED else []
    return [*command, "--cfg-options", *arguments.cfg_options] if arguments.cfg_options else command
