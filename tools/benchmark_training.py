"""How fast networks train, and how much of the time goes into waiting for data.

    python tools/benchmark_training.py --cfg-options data.root=/data/coco
    python tools/benchmark_training.py configs/coco/resnet18_type_a_static.py --batch 64 --precision bfloat16

Prints a table in Markdown: persons per second with a batch that lies on the device, and with batches
from the data set's pictures; docs/benchmarks.md keeps such tables. Without --device it takes a GPU where
there is one.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from pose.datasets.loader import Batch, CropDataset, batches, make_loader
from pose.engine.command_line import choose_device, parse_options
from pose.engine.config import load_settings
from pose.engine.epoch import learn
from pose.engine.learner import PRECISIONS, Learner
from pose.engine.train import make_learner
from pose.engine.training_data import make_train_dataset
from pose.errors import command

FOLDER = Path(__file__).parents[1] / "configs" / "coco"
CONFIGS = (
    "mobilenet_v2_x1.0_type_b_static.py",
    "mobilenet_v2_x1.0_type_b_dynamic.py",
    "resnet18_type_a_static.py",
    "resnet18_type_a_dynamic.py",
)
WARM_UP = 5
"""Steps before the clock starts."""


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=[FOLDER / name for name in CONFIGS], type=Path)
    parser.add_argument("--batch", nargs="+", type=int, default=[32, 128], help="default: 32 128")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=50, help="measured steps of each (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda ... (default: a GPU where there is one)")
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    print(f"{describe(device)}, torch {torch.__version__}\n")
    print("| network | precision | batch | persons/s | persons/s with data | waiting for data | memory |")
    print("|---|---|---|---|---|---|---|")
    for config in arguments.configs:
        settings = load_settings(config, parse_options(arguments.cfg_options))
        dataset = make_train_dataset(settings)
        for precision in arguments.precision:
            for batch_size in arguments.batch:
                schedule = replace(settings.train, precision=precision, batch_size=batch_size)
                learner = make_learner(replace(settings, train=schedule), device)
                loaded = endless(dataset, batch_size, settings.data.workers)
                alone, _ = measure(learner, repeated(next(loaded)), arguments.steps)
                fed, waiting = measure(learner, loaded, arguments.steps)
                memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
                cells = (config.stem, precision, batch_size, f"{alone:.0f}", f"{fed:.0f}", f"{waiting:.0%}", memory)
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
                loaded.close()
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)


def describe(device: torch.device) -> str:
    """The machine's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def endless(dataset: CropDataset, batch_size: int, workers: int) -> Iterator[Batch]:
    """Epoch after epoch of training batches."""
    loader = make_loader(dataset, batch_size, workers, train=True)
    while True:
        yield from batches(loader)
        loader.batch_sampler.epoch += 1


def repeated(batch: Batch) -> Iterator[Batch]:
    """One batch for ever."""
    while True:
        yield batch


def measure(learner: Learner, loaded: Iterator[Batch], steps: int) -> tuple[float, float]:
    """Persons per second, and the share of the time that went into waiting for batches."""
    for _ in range(WARM_UP):
        learn(learner, next(loaded)).item()  # waits for the device
    persons, waited = 0, 0.0
    started = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(loaded)
        waited += time.perf_counter() - asked
        loss = learn(learner, batch)
        persons += len(batch.rows)
    loss.item()
    seconds = time.perf_counter() - started
    return persons / seconds, waited / seconds


if __name__ == "__main__":
    main()
