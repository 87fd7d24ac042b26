"""An annotation file of train2017's size: quickly there, and shared by the workers instead of copied."""

import time

import numpy as np
import pytest

from pose.datasets.augment import Augmentation
from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.datasets.image_folder import ImageFolder, View
from pose.datasets.loading.loader import batches, make_loader
from pose.datasets.synthetic.dataset import write_annotations_only
from pose.skeleton import COCO

IMAGES, PERSONS, WORKERS = 56_599, 149_813, 8


def shared_out(pid):
    """MiB of a process, pages that several share divided among them."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024


class OneImage:
    """In place of pictures that there are not."""

    image = np.zeros((480, 640, 3), np.uint8)

    def view(self, row, step):
        return View(self.image.copy())


@pytest.mark.slow
def test_train2017_loads_in_half_a_minute_and_costs_less_than_a_gigabyte_with_eight_workers(tmp_path, monkeypatch):
    path = tmp_path / "train.json"
    write_annotations_only(path, IMAGES, PERSONS)
    before = shared_out("self")
    started = time.process_time()
    persons = read_annotations(path, COCO)
    assert time.process_time() - started < 30
    assert len(persons) == PERSONS
    monkeypatch.setattr(ImageFolder, "missing", lambda _: [])
    dataset = CropDataset(persons, tmp_path, COCO, (192, 256), Augmentation())
    dataset.source = OneImage()
    loader = make_loader(dataset, 32, WORKERS, train=True)
    waiting = batches(loader)
    seen = np.concatenate([next(waiting).rows for _ in range(100)])
    assert len(np.unique(seen)) == 3200
    workers = [worker.pid for worker in loader._iterator._workers]
    assert len(workers) == WORKERS
    assert shared_out("self") + sum(map(shared_out, workers)) - before < 1024
