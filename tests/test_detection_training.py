"""Training a detector to the end, stopped and resumed, and its tools."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_project import run_tool

from pose.checkpoint import load_checkpoint, save_checkpoint, trained_state
from pose.datasets.loading.loader import plain_batches
from pose.detection.data import open_training_data
from pose.detection.dataset import CanvasDataset, canvas_loader, collate
from pose.detection.detector import PersonDetector, read_checkpoint, trained_network
from pose.detection.initial import load_backbone
from pose.detection.settings import (
    load_detector_settings,
    load_network,
    make_detector_settings,
    stored_detector_settings,
)
from pose.detection.train import make_trainer, train
from pose.engine.progress import TrainingError
from pose.errors import CheckpointError, DataError
from pose.options import OptionError
from pose.resources import SAMPLE

__all__ = ["run_tool"]

ROOT = Path(__file__).parents[1]
NOWHERE = Path(__file__) / "out.json"


NUMBERS = ("width", "blocks", "kernel_size", "frozen")
"""Options of a detector's network that are one number."""

SHORT = dict(epochs=3, canvases=12, canvas_size=[96, 96], batch_size=4, warm_up=0.5, average_decay=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten pictures with one or two bright upright rectangles as persons, boxes by hand."""
    root = tmp_path_factory.mktemp("rectangles")
    (root / "pictures").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(10):
        image = rng.integers(0, 80, (96, 128, 3), np.uint8)
        for left in (8, 72)[: 1 + number % 2]:
            x, y, width = left + int(rng.integers(12)), int(rng.integers(4, 20)), int(rng.integers(20, 34))
            image[y : y + 2 * width, x : x + width] = (40, 180, 250)
            box = [x, y, width, 2 * width]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": box,
                 "area": 2 * width**2, "num_keypoints": 1}
            )  # fmt: skip
        cv2.imwrite(str(root / "pictures" / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
    (root / "truth.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return root


def settings_of(data, **train_options):
    return make_detector_settings(
        dict(
            data=dict(
                root=str(data),
                sources=[dict(images="pictures", annotations="truth.json")],
                cache=str(data / "cache"),
                held_out=5,
                test_annotations="truth.json",
                test_images="pictures",
            ),
            model=dict(width=0.5, channels=[32, 32, 24], blocks=1),
            canvas=dict(grids=[1.0], scale=[0.8, 1.2]),
            train=dict(SHORT, **train_options),
            test=dict(input_area=128 * 96),
        )
    )


def test_it_learns_what_a_person_looks_like(data, tmp_path, run_tool):
    settings = settings_of(
        data, epochs=12, canvases=64, batch_size=8, learning_rate=4e-3, validate_every=12, average_decay=0.8
    )
    best = train(settings, tmp_path / "run", "cpu")["best"]
    assert best["epoch"] == 12
    assert best["recall"] > 0.5  # two pictures of three persons that it has not seen
    detector = PersonDetector.from_checkpoint(tmp_path / "run" / "best.pth", threshold=0.3)
    image = cv2.imread(str(data / "pictures" / "1.png"))
    boxes = detector(image)
    assert boxes.dtype == np.float64
    assert boxes.shape[1] == 5
    assert (np.diff(boxes[:, 4]) <= 0).all()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:4] <= (128, 96)).all()
    assert len(detector(np.zeros((40, 30, 3), np.uint8))) == 0

    best_path, out = tmp_path / "run" / "best.pth", tmp_path / "boxes.json"
    status, figures, _ = run_tool("test_detector.py", best_path, "--out", out, "--device", "cpu")
    assert status == 0
    coco = next(line for line in figures.splitlines() if line.startswith("AP "))  # after the training's own lines
    lines = [line.split() for line in figures.splitlines() if line.startswith("  recall")]
    numbers = {name: float(value) for name, value in (line for line in reversed(lines) if len(line) == 2)}
    assert float(coco.split("AP50 ")[1].split()[0]) > 0.6
    assert numbers["recall_keypoints"] == numbers["recall"] > 0.6  # of all ten
    assert "  recall_keypoints_l nobody is such" in figures  # nobody there is 96 pixels wide and high
    assert "precision" in figures
    again = run_tool("test_detector.py", "--boxes", out, "--annotations", data / "truth.json")[1]
    assert again.splitlines()[0] == coco
    last = load_checkpoint(tmp_path / "run" / "last.pth")
    network, _ = load_network(tmp_path / "run" / "last.pth")
    assert torch.equal(network.final.weight, last["average"]["module.final.weight"])
    status, packed, _ = run_tool("pack_detector.py", best_path, tmp_path / "packed.pth")
    assert status == 0
    assert "2 pictures held out" in packed
    assert (tmp_path / "packed.pth").stat().st_size < 0.7 * best_path.stat().st_size
    half = PersonDetector.from_checkpoint(tmp_path / "packed.pth")
    full = PersonDetector.from_checkpoint(best_path, threshold=half.settings.threshold)
    assert full(image) == pytest.approx(half(image), abs=1.0)  # pixels
    status, found, _ = run_tool("detect.py", best_path, data / "pictures", "--out", tmp_path / "drawn")
    assert status == 0
    assert "on 10 pictures" in found
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 10
    records = json.loads((tmp_path / "drawn" / "boxes.json").read_text())
    assert {record["image_id"] for record in records} <= set(range(10))


@pytest.mark.parametrize(("repeats", "accumulate", "checks"), [(1, 1, 6), (2, 1, 6), (1, 3, 3)])
def test_a_stopped_training_ends_with_the_very_weights(data, tmp_path, repeats, accumulate, checks, monkeypatch):
    """Stopped after a number of optimizer steps; seven batches are two steps of three, and one is left out."""
    settings = settings_of(data, accumulate=accumulate, **({"canvases": 28} if accumulate > 1 else {}))
    if repeats > 1:  # of weights that are not those of chance, which a resumed training must not take instead
        weights = {
            name: value + 0.01 * torch.rand(value.shape) for name, value in settings.build_model().state_dict().items()
        }
        save_checkpoint(tmp_path / "start.pth", {"model": weights})
        schedule = replace(settings.train, repeats=repeats, initial_weights=str(tmp_path / "start.pth"))
        settings = replace(settings, model={**settings.model, "frozen": 1}, train=schedule)
    train(settings, tmp_path / "whole", "cpu")
    left = iter(range(checks - 1, -1, -1))  # steps until a signal

    def wishes(timer):
        return False, next(left, 1) == 0

    with monkeypatch.context() as patch:
        patch.setattr("pose.engine.epoch.CheckpointTimer.requests", wishes)
        train(settings, tmp_path / "parts", "cpu")
    assert load_checkpoint(tmp_path / "parts" / "last.pth")["batches"] > 0
    train(settings, tmp_path / "parts", "cpu", resume=True)
    whole, parts = (load_checkpoint(tmp_path / name / "last.pth") for name in ("whole", "parts"))
    for kept in ("model", "average"):
        assert all(torch.equal(value, parts[kept][name]) for name, value in whole[kept].items())
    assert whole["best"] == parts["best"]
    with pytest.raises(TrainingError, match="holds a training run"):
        train(settings, tmp_path / "whole", "cpu")


def test_stages_of_chance_are_not_frozen(data, tmp_path):
    """A fresh run needs weights for them; one that is resumed has them, whatever its settings say of a start."""
    settings = settings_of(data, epochs=1)
    frozen = replace(settings, model={**settings.model, "frozen": 2})
    with pytest.raises(OptionError, match=r"model.frozen: 2 stages .* train.initial_backbone or train.initial_weights"):
        train(frozen, tmp_path / "run", "cpu")
    with pytest.raises(OptionError, match=r"model.frozen: 2 stages"):
        train(frozen, tmp_path / "run", "cpu", resume=True)  # there is nothing to resume: fresh as well
    train(settings, tmp_path / "run", "cpu")
    before = load_checkpoint(tmp_path / "run" / "last.pth")["model"]
    train(replace(frozen, train=replace(frozen.train, epochs=2)), tmp_path / "run", "cpu", resume=True)
    after = load_checkpoint(tmp_path / "run" / "last.pth")["model"]
    for name in ("stages.0.0.conv.weight", "final.weight"):
        assert torch.equal(before[name], after[name]) == name.startswith("stages")


def test_a_larger_head_starts_from_the_backbone_of_a_trained_detector(data, tmp_path):
    """The rest of the network is that of chance, as it is without a start."""
    settings = settings_of(data, epochs=1)
    train(settings, tmp_path / "run", "cpu")
    path = tmp_path / "run" / "last.pth"
    model = {**settings.model, "channels": [32, 16, 16], "blocks": 2, "frozen": 1}
    larger = replace(settings, model=model, train=replace(settings.train, initial_backbone=str(path)))
    state = make_trainer(larger, torch.device("cpu")).model.state_dict()
    chance = make_trainer(replace(settings, model={**model, "frozen": 0}), torch.device("cpu")).model.state_dict()
    trained = trained_state(load_checkpoint(path))
    for name, value in state.items():
        expected = trained[name] if name.startswith("stages") else chance[name]
        assert torch.equal(value, expected), name
    wider = replace(larger, model={**model, "width": 1.0, "frozen": 0})
    with pytest.raises(CheckpointError, match="last.pth: its backbone has another width than model.width"):
        make_trainer(wider, torch.device("cpu"))
    whole = replace(larger, train=replace(settings.train, initial_weights=str(path)))
    with pytest.raises(CheckpointError, match="last.pth: checkpoint of another network"):
        make_trainer(whole, torch.device("cpu"))
    detector = make_trainer(settings, torch.device("cpu")).model
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:3000])
    save_checkpoint(tmp_path / "pose.pth", {"model": {"backbone.weight": torch.zeros(1)}})
    contents = load_checkpoint(path)
    odd = {**contents["settings"], "model": {"bogus": 1}}
    save_checkpoint(tmp_path / "odd.pth", {"model": contents["model"], "settings": odd})
    for wrong, message in {
        "gone.pth": "checkpoint not found",
        "cut.pth": "not a whole checkpoint",
        "pose.pth": "not the weights of torchvision's mobilenet_v2.*; a detector's checkpoint is taken, too",
        "odd.pth": "unknown option .*bogus",
    }.items():
        with pytest.raises(CheckpointError, match=f"{wrong}: {message}"):
            load_backbone(detector, tmp_path / wrong)
    with pytest.raises(CheckpointError, match="another width"):
        load_backbone(make_trainer(replace(settings, model=dict(width=0.35)), torch.device("cpu")).model, path)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_worker_processes_change_nothing(data, tmp_path):
    settings = settings_of(data, epochs=1)
    for workers in (0, 1):
        chosen = replace(settings, data=replace(settings.data, workers=workers))
        train(chosen, tmp_path / str(workers), "cpu")
    assert cv2.getNumThreads() == 1
    alone, shared = (load_checkpoint(tmp_path / str(workers) / "last.pth")["model"] for workers in (0, 1))
    assert all(torch.equal(value, shared[name]) for name, value in alone.items())


class Ended(CanvasDataset):
    """Its worker is ended by the system at the third canvas."""

    def __getitem__(self, place):
        if place[1] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(place)


def test_a_worker_that_the_system_ends_is_told(data):
    images = open_training_data(settings_of(data).data)
    drawn = Ended(images.images, images.cache, images.train_rows, 4, (96, 96), settings_of(data).canvas)
    loader = canvas_loader(drawn, 1, workers=1)
    with pytest.raises(DataError, match="the system ended a process that loads data.*lower data.workers"):
        list(plain_batches(loader))
    assert all(worker.loads_data for worker in loader._iterator._workers)  # so they end with this process
    loader._iterator._shutdown_workers()  # torch would tell it again, whenever any child ends


@pytest.mark.parametrize("frozen", [1, 3])
def test_remembered_features_are_those_of_the_pictures(data, frozen):
    """Two epochs of the same canvases, with features kept and computed anew."""
    from pose.detection.repeated import RepeatedCanvases
    from pose.detection.train import learn

    settings = replace(settings_of(data, native=True), model=dict(width=0.5, frozen=frozen))
    images = open_training_data(settings.data)
    drawn = CanvasDataset(images.images, images.cache, images.train_rows, 4, (96, 96), settings.canvas)
    losses = []
    for kept in (False, True):
        trainer = make_trainer(settings, "cpu", fresh=False)
        trainer.set_learning_rate(1e-3)
        trainer.train()
        dataset = RepeatedCanvases(drawn, 3, trainer.model) if kept else drawn
        places = [(epoch, row) if kept else (epoch // 3, row) for epoch in (0, 1, 2, 3) for row in range(4)]
        batches = [collate([dataset[(*place, 0)] for place in places[start : start + 4]]) for start in range(0, 16, 4)]
        losses.append([learn(trainer, batch).item() for batch in batches])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][3] != losses[0][0]


def test_half_precision_weights_load_and_others_are_refused(data, tmp_path):
    settings = settings_of(data)
    model = settings.build_model().state_dict()
    halved = {name: value.half() if value.is_floating_point() else value for name, value in model.items()}
    save_checkpoint(tmp_path / "half.pth", {"model": halved, "settings": settings.to_dict()})
    detector = PersonDetector.from_checkpoint(tmp_path / "half.pth", threshold=0.0)
    assert detector(np.zeros((96, 128, 3), np.uint8)).shape[1] == 5
    save_checkpoint(
        tmp_path / "pose.pth", {"model": model, "settings": {"model": {"backbone": {}}, "augmentation": None}}
    )
    with pytest.raises(CheckpointError, match=r"pose.pth: not a person detector's checkpoint"):
        PersonDetector.from_checkpoint(tmp_path / "pose.pth")
    save_checkpoint(tmp_path / "bare.pth", {"model": model})
    with pytest.raises(CheckpointError, match=r"bare.pth: not a person detector's"):
        PersonDetector.from_checkpoint(tmp_path / "bare.pth")


@pytest.mark.parametrize(
    ("average", "said"), [(5, "no checkpoint with a network's weights"), ({"module.a": torch.tensor(torch.nan)}, "NaN")]
)
def test_averaged_weights_that_are_none_are_refused(data, tmp_path, average, said):
    settings = settings_of(data)
    contents = {"model": settings.build_model().state_dict(), "settings": settings.to_dict(), "average": average}
    save_checkpoint(tmp_path / "last.pth", contents)
    with pytest.raises(CheckpointError, match=said):
        PersonDetector.from_checkpoint(tmp_path / "last.pth")


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("detect.py", ["none.pth"], "give INPUT"),
        ("detect.py", ["none.pth", "--annotations", "a.json"], "belong together"),
        ("detect.py", ["none.pth", "a.jpg"], "a.jpg: no such picture"),
        ("detect.py", ["none.pth", str(SAMPLE), "--out", "none"], "none.pth: checkpoint not found"),
        ("test_detector.py", [], "one of them"),
        ("test_detector.py", ["--boxes", "b.json"], "--boxes needs --annotations"),
        ("train_detector.py", ["none.py"], "none.py: configuration not found"),
        ("pack_detector.py", ["none.pth", "out.pth"], "none.pth: checkpoint not found"),
        ("pack_detector.py", ["none.pth", "none.pth"], "none.pth: is an input too"),
        ("detect.py", ["none.pth", "--annotations", "a.json", "--images", ".", "--out", "a.json"], "is an input too"),
        ("test_detector.py", ["none.pth", "--annotations", "a.json", "--out", "a.json"], "is an input too"),
        ("detect.py", ["none.pth", "--annotations", "a.json", "--images", ".", "--out", NOWHERE], "cannot be written"),
        ("test_detector.py", ["none.pth", "--out", NOWHERE], "cannot be written"),
        ("pack_detector.py", ["none.pth", NOWHERE], "cannot be written"),
        ("compare_classifiers.py", ["--write", NOWHERE], "cannot be written"),
        ("detect.py", ["none.pth", "a.jpg", "--category", "person"], "--category belongs to --annotations"),
    ],
)
def test_tools_say_in_a_line_what_is_wrong(run_tool, tool, arguments, message):
    status, _, told = run_tool(tool, *arguments)
    assert status == 2
    assert message in told
    assert told.count("\n") == 1


def test_the_projects_configuration_is_read_and_wrong_ones_are_named():
    settings = load_detector_settings(ROOT / "configs" / "detector" / "person.py", {"train.epochs": 2})
    assert settings.train.epochs == 2
    assert settings.to_dict() == make_detector_settings(settings.to_dict()).to_dict()
    coco = load_detector_settings(ROOT / "configs" / "detector" / "coco.py")
    initial = ROOT / coco.train.initial_weights
    assert trained_network(read_checkpoint(initial)[0], coco.model, initial).frozen == 1
    assert len(coco.data.make_sources()) == 1 and not coco.train.native
    with pytest.raises(OptionError, match="train.epoch.*epochs"):
        make_detector_settings({"train": {"epoch": 3}})
    for wrong in (dict(precision="float8"), dict(max_gradient_norm=-1.0), dict(max_gradient_norm=float("nan"))):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            make_detector_settings({"train": wrong})
    counts = (dict(channels=5), dict(channels=[8, 0, 8]), dict(kernel_size=4), dict(blocks=-1))
    texts = (dict(channels="896"), dict(channels=["8", 8, 8]), *({name: "3"} for name in NUMBERS))
    for wrong in (*counts, *texts, dict(channels=[8, 8.0, 8]), dict(kernel_size=None), dict(frozen=0.5)):
        with pytest.raises(OptionError, match=f"{next(iter(wrong))} must"):
            make_detector_settings({"model": wrong}).build_model()
    for least_side in (-3, float("nan"), float("inf")):
        with pytest.raises(OptionError, match=f"canvas: least_side must be .* at least 0, got {least_side}"):
            make_detector_settings({"canvas": {"least_side": least_side}})
    with pytest.raises(OptionError, match="repeats"):
        make_detector_settings({"train": {"repeats": 2}})
    rates = [settings.train.learning_rate_at(*place, 100) for place in ((0, 0), (1, 0), (1, 99))]  # two epochs
    assert rates[0] < 0.1 * rates[1] and rates[2] < 1e-3 * rates[1]
    with pytest.raises(OptionError, match=r"warm_up counts epochs, .* 20; got 100"):
        make_detector_settings({"train": {"warm_up": 100}})


def test_what_a_checkpoint_of_the_schedules_in_steps_says_is_read():
    old = {"canvas": {}, "train": dict(epochs=68, canvases=1024, batch_size=8, warm_up=100, canvas_size=[256, 256])}
    assert stored_detector_settings(old).train.warm_up == pytest.approx(100 / 128)
    assert stored_detector_settings(old).data.held_out_by == "place"
    assert stored_detector_settings({**old, "data": {"held_out": 9}}).data.held_out_by == "place"
    now = make_detector_settings({"train": {"warm_up": 3.0}})
    assert stored_detector_settings(now.to_dict()) == now
