"""How fast networks train, and how much of the time goes into waiting for data.

    python tools/benchmark_training.py --cfg-options data.root=/data/coco
    python tools/benchmark_training.py configs/coco/resnet18_type_a_static.py --batch 64 --precision bfloat16

Prints a table in Markdown: persons per second with a batch that lies on the device, and with batches
from the data set's pictures. Without --device it takes a GPU where there is one.

    python tools/benchmark_training.py --native
    python tools/benchmark_training.py --native --write docs/tables/training_steps.md
    python tools/benchmark_training.py --native configs/imagenet/mobilenet_v2_x0.5_{static,dynamic,dcd}.py --batch 8

needs no data; classifiers go, too: training steps on a CPU, by PyTorch's operations and by native ones (train.native),
networks in turns in one process, in processor time and as ratios to the first network; then the peak memory with the
dynamic kernels kept and mixed again (train.recompute_kernels).
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from pose.benchmark import machine
from pose.classification.settings import ClassifierSettings, load_classifier_settings
from pose.command_line import CommandParser, add_device_argument, count, parse_options
from pose.config import PRECISIONS, Settings, load_settings, read_sections
from pose.datasets.crops import Batch, CropDataset
from pose.datasets.loading.loader import batches, make_loader
from pose.device import choose_device
from pose.engine.train import learn, make_trainer
from pose.engine.trainer import Trainer
from pose.engine.training_data import make_train_dataset
from pose.errors import command
from pose.heatmap import mean_squared_loss
from pose.models.dynamic.base import DynamicLayer
from pose.models.native.training.layers import available, has_pairs, kernel_bytes
from pose.models.pose_net import HEATMAP_STRIDE
from pose.tables import Page, check_page, table_head, table_lines, table_row

AnySettings = Settings | ClassifierSettings

FOLDER = Path(__file__).parents[1] / "configs" / "coco"
CONFIGS = (
    "mobilenet_v2_x1.0_type_b_static.py",
    "mobilenet_v2_x1.0_type_b_dynamic.py",
    "resnet18_type_a_static.py",
    "resnet18_type_a_dynamic.py",
)
KINDS = ("static", "dynamic", "dcd")
STEP_CONFIGS = tuple(FOLDER.parent / "lsp/small" / f"mobilenet_v2_x0.5_type_b_{kind}.py" for kind in KINDS)
COLUMNS = ("network", "precision", "batch", "persons/s", "persons/s with data", "waiting for data", "memory")
STEP_COLUMNS = (
    "operations", "network", "ms a step", "persons/s", "ratio to the first", "quartiles", "torch / native",
)  # fmt: skip
MEMORY_COLUMNS = ("operations", "network", "kernels", "kept", "mixed again")
WARM_UP = 5
"""The number of steps before the clock starts."""


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--batch", nargs="+", type=count(), help="default: 32 128; 16 32 with --native")
    parser.add_argument("--native", action="store_true", help="steps on a CPU by torch's and by native operations")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=count(), default=50, help="measured steps of each (default: %(default)s)")
    add_device_argument(parser)
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    arguments = parser.parse_args()
    check_page(arguments.write, *arguments.configs)
    overrides = parse_options(arguments.cfg_options)
    if arguments.native:
        page = Page("Training steps on a CPU", f"{machine()}, {torch.get_num_threads()} threads")
        settings = {path.stem: load_any(path, overrides) for path in arguments.configs or STEP_CONFIGS}
        for batch_size in arguments.batch or (16, 32):
            compare_steps(page, settings, batch_size, arguments.steps)
        for batch_size in arguments.batch or (16, 32):
            compare_memory(page, settings, batch_size)
    else:
        device = choose_device(arguments.device)
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        page = Page("Training with pictures from the data set", f"{machine()}, {where}")
        page.add(*table_head(COLUMNS))
        for config in arguments.configs or [FOLDER / name for name in CONFIGS]:
            settings = load_settings(config, overrides)
            dataset = make_train_dataset(settings)
            for precision, batch_size in product(arguments.precision, arguments.batch or (32, 128)):
                schedule = replace(settings.train, precision=precision, batch_size=batch_size)
                cells = time_training(replace(settings, train=schedule), dataset, device, arguments.steps)
                page.add(table_row([config.stem, precision, batch_size, *cells]))
    page.write(arguments.write)


def time_training(settings: Settings, dataset: CropDataset, device: torch.device, steps: int) -> list[str]:
    """Trains a fresh network, on one batch over and over and then on the data set's; the cells of its row."""
    trainer = make_trainer(settings, device)
    loaded = endless(dataset, settings.train.batch_size, settings.data.workers)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    alone, _ = measure(trainer, repeated(next(loaded)), steps)
    fed, waiting = measure(trainer, loaded, steps)
    loaded.close()
    memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
    return [f"{alone:.3g}", f"{fed:.3g}", f"{waiting:.0%}", memory]


def load_any(path: Path, overrides: dict[str, Any]) -> AnySettings:
    """The settings of a pose network or, where the model has no head, of a classifier."""
    model = read_sections(path)[1].get("model", {})
    return load_settings(path, overrides) if "head" in model else load_classifier_settings(path, overrides)


def compare_steps(page: Page, settings: dict[str, AnySettings], batch_size: int, steps: int) -> None:
    """Times a step of each network, by PyTorch's and by native operations, in turns; adds a table to the page.

    Native operations come in bfloat16, too, where the processor has such products.
    """
    trainers = {
        (kind, name): step_trainer(made, native, precision=precision)
        for kind, (native, precision) in operations().items()
        for name, made in settings.items()
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in trainers}
    data = {name: step_batch(made, batch_size) for name, made in settings.items()}
    for step in range(steps + 1):
        for key, trainer in trainers.items():
            started = time.process_time()
            trainer.learn(*data[key[1]])
            if step:  # the first one warms up
                times[key].append(time.process_time() - started)
    first = next(iter(settings))
    rows = []
    for (kind, name), own in times.items():
        low, middle, high = quartiles([one / base for one, base in zip(own, times[kind, first], strict=True)])
        gain = quartiles([one / base for one, base in zip(times["torch", name], own, strict=True)])[1]
        speed = batch_size / statistics.median(own)
        row = [kind, name, f"{1000 * statistics.median(own):.0f}", f"{speed:.1f}"]
        rows.append([*row, f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{gain:.2f}" if kind != "torch" else ""])
    page.add(f"**Batch {batch_size}, {steps} steps of each in turns, processor time**", "")
    page.add(*table_lines(STEP_COLUMNS, rows), "")


def operations() -> dict[str, tuple[bool, str]]:
    """Ways to make steps, by name: whether they are native, and their precision."""
    found = {"torch": (False, "float32"), "native": (True, "float32")}
    if available() and has_pairs():
        found["native, bfloat16"] = (True, "bfloat16")
    return found


def quartiles(values: list[float]) -> list[float]:
    """The three quartiles of one or more values."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * values


def compare_memory(page: Page, settings: dict[str, AnySettings], batch_size: int) -> None:
    """Adds a table of the peak memory of a step of the networks with mixed kernels, kept and mixed again."""
    page.add(f"**Batch {batch_size}, tensors of a step at most, beside weights and optimizer**", "")
    page.add(*table_head(MEMORY_COLUMNS))
    for name, made in settings.items():
        model = made.build_model()
        if not kernel_bytes(model, batch_size):
            continue
        kernels = f"{kernel_bytes(model, batch_size) / 2**20:.0f} MiB"
        for kind, (native, precision) in operations().items():
            peaks = [peak_memory(made, native, recompute, batch_size, precision) for recompute in (False, True)]
            page.add(table_row([kind, name, kernels, *(f"{peak / 2**20:.0f} MiB" for peak in peaks)]))
    page.add("")


def peak_memory(settings: AnySettings, native: bool, recompute: bool, batch_size: int, precision: str) -> int:
    """The most bytes of tensors that a step holds beside weights and optimizer, by PyTorch's own account."""
    trainer = step_trainer(settings, native, recompute, precision)
    data = step_batch(settings, batch_size)
    trainer.learn(*data)  # makes the optimizer's averages
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        trainer.learn(*data)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def step_trainer(settings: AnySettings, native: bool, recompute: bool = False, precision: str = "float32") -> Trainer:
    """A trainer on the CPU; in PyTorch's operations only static networks are faster in channels_last."""
    torch.manual_seed(0)
    model = settings.build_model().train()
    last = native or not any(isinstance(module, DynamicLayer) for module in model.modules())
    loss = mean_squared_loss if isinstance(settings, Settings) else cross_entropy
    choices = dict(channels_last=last, native=native, recompute_kernels=recompute, precision=precision)
    return Trainer(model, torch.device("cpu"), loss, **choices)


def step_batch(settings: AnySettings, batch_size: int) -> tuple[torch.Tensor, ...]:
    """Random images, and heatmaps and weights or labels, as :meth:`Trainer.learn` takes them."""
    if isinstance(settings, ClassifierSettings):
        side = settings.data.input_size
        return torch.randn(batch_size, 3, side, side), torch.randint(0, 1000, (batch_size,))
    width, height = settings.data.input_size
    points = settings.skeleton().num_keypoints
    heatmaps = torch.rand(batch_size, points, height // HEATMAP_STRIDE, width // HEATMAP_STRIDE)
    return torch.randn(batch_size, 3, height, width), heatmaps, torch.ones(batch_size, points)


def endless(dataset: CropDataset, batch_size: int, workers: int) -> Iterator[Batch]:
    """Training batches, epoch after epoch."""
    loader = make_loader(dataset, batch_size, workers, train=True)
    while True:
        yield from batches(loader)
        loader.batch_sampler.epoch += 1


def repeated(batch: Batch) -> Iterator[Batch]:
    """Yields one batch for ever."""
    while True:
        yield batch


def measure(trainer: Trainer, loaded: Iterator[Batch], steps: int) -> tuple[float, float]:
    """Persons per second, and the share of the time that went into waiting for batches."""
    for _ in range(WARM_UP):
        learn(trainer, next(loaded)).item()  # waits for the device
    persons, waited = 0, 0.0
    started = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(loaded)
        waited += time.perf_counter() - asked
        loss = learn(trainer, batch)
        persons += len(batch.rows)
    loss.item()
    seconds = time.perf_counter() - started
    return persons / seconds, waited / seconds


if __name__ == "__main__":
    main()
