"""Train a person detector.

    python tools/train_detector.py configs/detector/person.py
    python tools/train_detector.py CONFIG --resume
    python tools/train_detector.py CONFIG --cfg-options data.root=/data/people train.batch_size=32

The work folder gets last.pth and best.pth. Ctrl-C and SIGTERM save and leave; --resume goes on exactly where they, or
a crash, left it.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split

from pose.command_line import CommandParser, add_training_arguments, parse_options, work_dir_of
from pose.detection.settings import load_detector_settings
from pose.detection.train import train
from pose.device import choose_device
from pose.errors import command


@command
def main() -> int:
    parser = CommandParser(__doc__)
    add_training_arguments(parser, "detector_")
    arguments = parser.parse_args()
    settings = load_detector_settings(arguments.config, parse_options(arguments.cfg_options))
    work_dir = work_dir_of(arguments, "detector_")
    summary = train(settings, work_dir, choose_device(arguments.device), arguments.resume)
    best, stopped = summary["best"], summary["stopped"]
    if best:
        figure = f"AP50 {best['AP50']:.3f} on the pictures held out"
        print(f"best {figure}, after epoch {best['epoch']}: {summary['checkpoint']}")
        print(f"measure it: python tools/test_detector.py {summary['checkpoint']}")
    if stopped:
        print(f"stopped by {stopped.name}, everything is saved; the same command with --resume goes on")
        return 128 + stopped
    return 0


if __name__ == "__main__":
    main()
