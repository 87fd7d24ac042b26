"""From persons to batches: pixels and keypoints move together, orders are reproducible, broken pictures are told."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings

import cv2
import numpy as np
import psutil
import pytest
import torch
from tiny import HEIGHT, INPUT_SIZE, WIDTH, centroid, dot_image, write_tiny_set

from pose.datasets.augment import Augmentation
from pose.datasets.broken_images import BrokenImages
from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.datasets.image_folder import View
from pose.datasets.images import read_image, warp
from pose.datasets.loading.loader import batches, make_loader
from pose.datasets.loading.order import EpochBatches
from pose.datasets.workers import usable_processors, usable_workers
from pose.errors import DataError
from pose.geometry import apply_affine, crop_affine
from pose.prediction import MEAN, STD, to_input
from pose.skeleton import COCO

ALWAYS = Augmentation(half_body_probability=0.5, rotation_probability=1.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def persons(root):
    return read_annotations(root / "annotations" / "person_keypoints_train2017.json", COCO)


@pytest.fixture
def dataset(root, persons):
    def make(augmentation=None, seed=0, size=INPUT_SIZE, folder=None):
        return CropDataset(persons, folder or root / "train2017", COCO, size, augmentation, seed)

    return make


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [0, 30, -75])
@pytest.mark.parametrize("scale", [(60, 80), (24, 32), (150, 200)])
def test_a_dot_at_a_keypoint_is_found_at_the_warped_keypoint(flip, degrees, scale):
    point = np.array([[41.0, 33.0]])
    affine = crop_affine((45, 36), scale, (96, 128), degrees, flip)
    crop = warp(dot_image(point), affine, (96, 128))
    assert crop.shape == (128, 96, 3)
    np.testing.assert_allclose(centroid(crop[..., 0]), apply_affine(point, affine)[0], atol=0.1)


def item(dataset, epoch, row):
    """Crop, keypoints and labelled of one person."""
    batch = dataset[epoch, row]
    assert batch.rows.tolist() == [row]
    return batch.crops[0].numpy(), batch.keypoints[0], batch.labeled[0]


def test_a_mirrored_crop_is_the_crop_of_the_mirrored_picture_with_its_sides_swapped(dataset, root, persons):
    mirrored = Augmentation(0, flip_probability=1.0, scale_std=0.0, rotation_probability=0.0)
    persons.keypoints[3, 6:8, 2] = 0  # a right shoulder and a left elbow
    crop, points, labeled = item(dataset(mirrored), 0, 3)
    image = cv2.imread(str(root / "train2017" / "000000000002.jpg"))
    x, y, w, h = persons.boxes[3]
    width = max(w, h * 0.5) * 1.25  # the crop is half as wide as high
    affine = crop_affine((WIDTH - 1 - (x + w / 2), y + h / 2), (width, 2 * width), INPUT_SIZE)
    assert np.abs(crop.astype(int) - warp(image[:, ::-1], affine, INPUT_SIZE)).max() <= 2
    expected = persons.keypoints[3][COCO.flip_index]
    expected[:, 0] = WIDTH - 1 - expected[:, 0]
    np.testing.assert_allclose(points, apply_affine(expected[:, :2], affine), atol=1e-3)
    assert np.flatnonzero(~labeled).tolist() == [5, 8]  # now the left shoulder and the right elbow
    plain = item(dataset(), 0, 3)
    assert np.flatnonzero(~plain[2]).tolist() == [6, 7]


def test_an_augmented_crop_shows_its_keypoints_where_it_says(root, persons, monkeypatch):
    # one dot a picture, at the first keypoint: the brightness of the crop belongs to it
    seen = 0
    for row in range(12):
        point = np.array([[20.0 + 4 * row, 30.0]])
        persons.keypoints[row, :1, :2] = point
        dataset = CropDataset(persons.take([row]), root / "train2017", COCO, (96, 128), ALWAYS, seed=row)
        monkeypatch.setattr(dataset, "source", type("Dot", (), {"view": lambda *_, at=point: View(dot_image(at))})())
        batch = dataset[1, 0]
        at = batch.keypoints[0, 0 if not dataset.crop_of(1, 0).flip else int(COCO.flip_index[0])]
        if ((at > 8) & (at < (88, 120))).all():
            np.testing.assert_allclose(centroid(batch.crops[0, ..., 1].numpy()), at, atol=0.15)
            seen += 1
    assert seen > 6


def test_augmentation_depends_on_seed_epoch_and_person_alone(dataset):
    first = dataset(ALWAYS)
    crops = {key: item(first, *key)[0] for key in [(0, 0), (1, 0), (0, 1)]}
    again = dataset(ALWAYS)
    for key in reversed(crops):  # another order
        np.testing.assert_array_equal(item(again, *key)[0], crops[key])
    assert not np.array_equal(crops[0, 0], crops[1, 0])
    assert not np.array_equal(item(dataset(ALWAYS, seed=1), 0, 0)[0], crops[0, 0])


def test_a_batch_holds_the_crops_of_its_persons(dataset):
    data = dataset(ALWAYS)
    batch = data.__getitems__([(2, 5), (2, 0), (0, 5)])
    for place, key in enumerate([(2, 5), (2, 0), (0, 5)]):
        crop, points, labeled = item(data, *key)
        np.testing.assert_array_equal(batch.crops[place], crop)
        np.testing.assert_allclose(batch.keypoints[place], points, rtol=1e-6)
        np.testing.assert_array_equal(batch.labeled[place], labeled)
    assert batch.problems == ()


def test_the_network_sees_normalized_rgb():
    crops = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    crops[..., 0], crops[..., 2] = 255, 51  # blue 1.0, green 0, red 0.2
    images = to_input(crops, "cpu")
    assert images.shape == (1, 3, 2, 3)
    expected = [(value - mean) / std for value, mean, std in zip((0.2, 0.0, 1.0), MEAN, STD, strict=True)]
    np.testing.assert_allclose(images[0, :, 1, 1], expected, rtol=1e-5)


def order(length=50, batch_size=7, epoch=0, first_batch=0, **options):
    """The batches of an epoch, as lists of rows."""
    sampler = EpochBatches(length, batch_size, **{"train": True, **options})
    sampler.epoch, sampler.first_batch = epoch, first_batch
    found = list(sampler)
    assert len(found) == len(sampler) - first_batch
    assert all(number == epoch for batch in found for number, _, copy in batch if copy == 0)
    return [[row for _, row, _ in batch] for batch in found]


def test_an_epochs_order_is_a_shuffle_by_seed_and_epoch():
    batches = order(seed=0, epoch=3)
    assert batches == order(seed=0, epoch=3)
    assert [len(batch) for batch in batches] == [7] * 7  # the 50th person is left out
    rows = sum(batches, [])
    assert len(set(rows)) == 49
    assert rows not in (sum(order(epoch=4), []), sum(order(seed=1, epoch=3), []), sorted(rows))


def test_processes_share_out_the_batches_of_one():
    alone = order(batch_size=3, accumulate=2)
    assert len(alone) == 16  # whole steps of two batches
    first, second = (order(batch_size=3, shard=(rank, 2)) for rank in range(2))
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == alone


def test_an_epoch_goes_on_where_it_was_left():
    assert order(epoch=2, first_batch=3) == order(epoch=2)[3:]
    assert order(epoch=2, first_batch=7) == []


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_testing_shares_out_the_same_batches_to_any_number_of_processes(processes):
    shares = [order(10, 3, train=False, shard=(rank, processes)) for rank in range(processes)]
    assert sorted(sum(shares, [])) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_worker_processes_change_nothing(dataset):
    def load(workers):
        loader = make_loader(dataset(ALWAYS), 5, workers, train=True, seed=3)
        loader.batch_sampler.epoch = 2
        return list(batches(loader))

    alone, shared = load(0), load(2)
    assert len(alone) == len(shared) == 2  # 12 persons: the incomplete third batch is dropped
    for one, other in zip(alone, shared, strict=True):
        for field in one._fields[:4]:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert alone[0].crops.dtype == torch.uint8
    assert alone[0].crops.shape == (5, INPUT_SIZE[1], INPUT_SIZE[0], 3)


def test_batches_keep_their_pixels_when_later_ones_come(dataset):
    loaded = list(batches(make_loader(dataset(), 1, 2, train=False)))  # more batches than places in shared memory
    for row, batch in enumerate(loaded):
        assert batch.rows.tolist() == [row]
        np.testing.assert_array_equal(batch.crops, dataset()[0, row].crops)


def test_epochs_that_are_given_up_do_not_block_the_workers(dataset):
    loader = make_loader(dataset(ALWAYS), 2, 2, train=True)
    for epoch in range(8):
        loader.batch_sampler.epoch = epoch
        next(iter(batches(loader)))
    expected = dataset(ALWAYS)
    for batch in batches(loader):
        for place, row in enumerate(batch.rows):
            np.testing.assert_array_equal(batch.crops[place], expected[7, row].crops[0])


def test_a_worker_that_the_system_ends_is_told(dataset):
    loader = make_loader(dataset(), 1, 2, train=False)
    with pytest.raises(DataError, match="the system ended a process that loads data.*lower data.workers"):
        for number, _ in enumerate(batches(loader)):
            if number == 0:
                for worker in multiprocessing.active_children():
                    os.kill(worker.pid, signal.SIGKILL)


def _hold_batches(dataset, connection):
    """Has workers whose batches nobody reads, with no room in shared memory: they fill the pipe."""
    torch.utils.data._utils.worker.MP_STATUS_CHECK_INTERVAL = 0.1
    loader = make_loader(dataset, 3, 2, train=False)
    loader.collate_fn._busy[:] = 1
    waiting = iter(loader)
    next(waiting)
    connection.send([worker.pid for worker in waiting._workers])
    signal.pause()


def test_workers_end_with_a_main_process_that_is_killed(dataset):
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_hold_batches, args=(dataset(size=(384, 512)), child))
    process.start()
    workers = parent.recv()
    assert all(map(psutil.pid_exists, workers))
    process.kill()
    process.join()
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = list(filter(psutil.pid_exists, workers))
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def test_a_data_set_with_crops_in_its_own_memory_is_loaded(dataset):
    class Own(CropDataset):
        def batch(self, keys):
            return (
                super().batch(keys)._replace(crops=torch.full((len(keys), *INPUT_SIZE[::-1], 3), 7, dtype=torch.uint8))
            )

    plain = dataset()
    own = Own(plain.persons, plain.images.root, COCO, INPUT_SIZE)
    assert all((batch.crops == 7).all() for batch in batches(make_loader(own, 2, 1, train=False)))


def test_testing_takes_every_person_in_order(dataset):
    rows = np.concatenate([batch.rows for batch in batches(make_loader(dataset(), 5, 0, train=False))])
    assert rows.tolist() == list(range(12))


def test_a_batch_above_the_data_is_refused(dataset):
    with pytest.raises(DataError, match="12 persons, fewer than the batch size 13; lower train.batch_size"):
        make_loader(dataset(), 13, 0, train=True)
    with pytest.raises(DataError, match=r"than the batch size 16 \(4 x 2 processes x 2 accumulated\)"):
        make_loader(dataset(), 4, 0, train=True, shard=(0, 2), accumulate=2)


def copy_images(root, tmp_path):
    for source in (root / "train2017").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path / "000000000003.jpg"


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def damage_empty(path):
    path.write_bytes(b"")


def damage_text(path):
    path.write_text("not a picture")


def damage_other(path):
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "cut off"),
        (damage_empty, "not a picture"),
        (damage_text, "not a picture"),
        (damage_other, f"picture is {WIDTH + 1} x {HEIGHT}, its annotations say {WIDTH} x {HEIGHT}"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named_by_whoever_reads_it(dataset, root, tmp_path, damage, message, workers):
    damage(copy_images(root, tmp_path))
    loader = make_loader(dataset(folder=tmp_path), 4, workers, train=False)
    with pytest.raises(DataError, match=rf"000000000003\.jpg: .*{message}"):
        list(batches(loader))


LEAVES_WITH_A_LOADER = """
import sys
from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.datasets.loading.loader import make_loader
from pose.skeleton import COCO
dataset = CropDataset(read_annotations(sys.argv[1], COCO), sys.argv[2], COCO, (64, 96))
waiting = iter(make_loader(dataset, 2, 2, train=True))
next(waiting)
print("still referred to", flush=True)
"""


def test_there_are_no_more_workers_than_processors(dataset):
    """More only take turns, and PyTorch warns at length."""
    assert usable_workers(10**6) == usable_processors() >= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_loader(dataset(), 4, 10**3, train=False)


def test_a_program_ends_though_a_loader_with_workers_is_still_referred_to(root):
    paths = [root / "annotations" / "person_keypoints_train2017.json", root / "train2017"]
    command = [sys.executable, "-c", LEAVES_WITH_A_LOADER, *map(str, paths)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stdout == "still referred to\n", ended.stderr


def test_missing_pictures_are_counted_before_anything_starts(dataset, root, tmp_path):
    copy_images(root, tmp_path).unlink()
    with pytest.raises(DataError, match=r"000000000003\.jpg: picture not found; .*\(1 of 6 are missing\)"):
        dataset(folder=tmp_path)
    with pytest.raises(DataError, match="absent: picture folder not found"):
        dataset(folder=tmp_path / "absent")


def test_others_take_the_place_of_broken_pictures_up_to_a_share(root, persons, tmp_path):
    damage_truncate(copy_images(root, tmp_path))  # persons 4 and 5

    def load(workers):
        data = CropDataset(persons, tmp_path, COCO, INPUT_SIZE, ALWAYS, broken_share=0.2)
        return list(batches(make_loader(data, 4, workers, train=True)))

    loaded = load(0)
    rows = np.concatenate([batch.rows for batch in loaded]).tolist()
    assert sorted(rows) == [0, 1, 2, 3, 6, 6, 6, 7, 8, 9, 10, 11]  # the next person who can be seen
    problems = [problem for batch in loaded for problem in batch.problems]
    assert len(problems) == 3  # 4, then 5; 5
    assert all("000000000003.jpg: picture is cut off" in problem for problem in problems)
    for alone, shared in zip(loaded, load(2), strict=True):
        assert torch.equal(alone.crops, shared.crops)
        assert alone.problems == shared.problems


def test_broken_pictures_are_told_once_and_stop_what_they_exceed():
    told = []
    broken = BrokenImages(share=0.02, count=100)
    broken.add(["a.jpg: cut off", "a.jpg: cut off"], told.append)
    broken.add(["b.jpg: cut off", "a.jpg: cut off"], told.append)
    assert told == [
        "warning: skipped a.jpg: cut off (1 of at most 2)",
        "warning: skipped b.jpg: cut off (2 of at most 2)",
    ]
    with pytest.raises(DataError, match="c.jpg: cut off .3 of 100 pictures cannot be used, up to 2 are skipped"):
        broken.add(["c.jpg: cut off"], told.append)


def test_testing_takes_no_broken_picture(root, persons, tmp_path):
    damage_truncate(copy_images(root, tmp_path))
    data = CropDataset(persons, tmp_path, COCO, INPUT_SIZE)
    assert isinstance(data[0, 4], DataError)
    assert not isinstance(data[0, 3], DataError)


def test_bytes_behind_a_picture_do_not_make_it_cut_off_and_a_thumbnails_end_is_not_its_own(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    thumbnail = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    with_thumbnail = data[:2] + thumbnail + data[2:]
    path = tmp_path / "phone.jpg"
    path.write_bytes(with_thumbnail + bytes(100_000))
    assert read_image(path).shape == (40, 60, 3)
    path.write_bytes(with_thumbnail[:-100])
    with pytest.raises(DataError, match="phone.jpg: picture is cut off"):
        read_image(path)
