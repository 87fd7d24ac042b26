"""Train an image classifier: both papers' ImageNet networks, on ImageNet or any folder with a folder a class.

    python tools/train_classifier.py configs/imagenet/mobilenet_v2_x0.5_dynamic.py
    python tools/train_classifier.py CONFIG --resume
    python tools/train_classifier.py CONFIG --cfg-options data.root=/data/imagenet train.precision=bfloat16
    torchrun --nproc-per-node 4 tools/train_classifier.py CONFIG --cfg-options train.batch_size=64

The work folder gets last.pth, best.pth (by top-1), metrics.csv and TensorBoard's files. Ctrl-C and SIGTERM save and
leave; --resume goes on exactly where they, or a crash, left it.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import shlex

from pose.classification.settings import load_classifier_settings
from pose.classification.train import train
from pose.command_line import CommandParser, add_training_arguments, parse_options, work_dir_of
from pose.device import choose_device
from pose.engine import distributed
from pose.errors import command


@command
def main() -> int:
    parser = CommandParser(__doc__)
    add_training_arguments(parser, "classifier_")
    parser.add_argument("--seed", type=int, help="of initialisation, order and augmentation")
    arguments = parser.parse_args()
    options = parse_options(arguments.cfg_options)
    if arguments.seed is not None:
        options["train.seed"] = arguments.seed
    settings = load_classifier_settings(arguments.config, options)
    work_dir = work_dir_of(arguments, "classifier_")
    with distributed.process_group(choose_device(arguments.device)) as device:
        summary = train(settings, work_dir, device, arguments.resume)
        best, checkpoint, stopped = summary["best"], summary["checkpoint"], summary["stopped"]
        if best:
            figures = f"top-1 {100 * best['top1']:.2f} %, top-5 {100 * best['top5']:.2f} %"
            distributed.say(f"best {figures} after epoch {best['epoch']}: {checkpoint}")
            told = ["python", "tools/test_classifier.py", arguments.config, str(checkpoint)]
            told += ["--cfg-options", *arguments.cfg_options] if arguments.cfg_options else []
            distributed.say(f"test it: {shlex.join(told)}")
        if stopped:
            distributed.say(f"stopped by {stopped.name}, everything is saved; the same command with --resume goes on")
            return 128 + stopped
    return 0


if __name__ == "__main__":
    main()
