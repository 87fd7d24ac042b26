"""Test an image classifier: top-1 and top-5 of a checkpoint, and what its attention is worth.

    python tools/test_classifier.py CONFIG CHECKPOINT
    python tools/test_classifier.py CONFIG CHECKPOINT --images /data/imagenet_v2 --inspect use aggregations resolutions

Images are resized to data.resize (256) and cut to data.input_size (224). --inspect tests a dynamic network in other
ways: `use` tells each layer's entropy and use of its kernels, `aggregations` mixes the same kernels in other ways
(DY-CNN, Table 3), `resolutions` switches the attention off at a resolution or leaves it on at that one alone (Table 4).
Which layers are dynamic (Table 5) and the temperature (Table 6, Figure 5) are of the training: configs/imagenet has
these, and TensorBoard and metrics.csv the curves.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from dataclasses import asdict
from pathlib import Path

import torch

from pose.checkpoint import load_checkpoint, load_state, trained_state
from pose.classification.evaluate import accuracy, make_test_loader
from pose.classification.folder import check_classes, list_images
from pose.classification.initial import CLASSES
from pose.classification.settings import load_classifier_settings
from pose.command_line import CommandParser, add_config_arguments, parse_options
from pose.device import choose_device
from pose.engine.inspection import MIXED, TABLES, figure_table, inspect, use_table
from pose.errors import CheckpointError, command
from pose.files import check_kind, check_outputs, write_json


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="trained weights (.pth)")
    parser.add_argument("--images", type=Path, help="a folder with a folder a class (default: data.val)")
    parser.add_argument("--inspect", nargs="+", choices=TABLES, default=(), help="look into a dynamic network")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling of --inspect aggregations")
    arguments = parser.parse_args()
    settings = load_classifier_settings(arguments.config, parse_options(arguments.cfg_options))
    folder = arguments.images or settings.data.folder("val")
    check_outputs([arguments.out], [arguments.config, arguments.checkpoint, folder, settings.data.folder("train")])
    check_kind(arguments.out, ".json")
    checkpoint = load_checkpoint(arguments.checkpoint)
    classes = checkpoint.get(CLASSES)
    if not classes or not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise CheckpointError(f"{arguments.checkpoint}: does not name its classes: not of tools/train_classifier.py")
    images = list_images(folder)
    check_classes(tuple(classes), images, arguments.checkpoint)
    device = choose_device(arguments.device)
    model = settings.build_model(len(classes))
    load_state(model, trained_state(checkpoint), arguments.checkpoint)
    model.to(device)
    loader = make_test_loader(images, settings)

    def test() -> dict[str, float]:
        return accuracy(model, loader, device)

    if arguments.inspect:
        layers, tables = inspect(model, test, arguments.inspect, arguments.seed, arguments.config)
        print(use_table(layers))
        for title, rows in tables.items():
            print(figure_table(title, rows))
        figures = tables[MIXED]["attention"]
        contents = {"layers": [asdict(layer) for layer in layers], **tables}
    else:
        figures, contents = test(), {}
    print(f"{len(images)} images of {len(classes)} classes, {settings.data.resize} -> {settings.data.input_size}")
    print(f"top-1 {100 * figures['top1']:.2f} %  top-5 {100 * figures['top5']:.2f} %")
    if arguments.out:
        epoch = checkpoint.get("epoch")
        epoch = epoch if isinstance(epoch, int) else None
        written = {"figures": figures, "images": len(images), "epoch": epoch, **contents}
        write_json(arguments.out, {**written, "settings": settings.to_dict(), "torch": torch.__version__})
        print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
