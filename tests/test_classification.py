"""Classifiers: listed, trained, stopped and resumed, tested, and what starts a pose network."""

import csv
import os
import runpy
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_project import run_tool
from test_distributed import in_two
from tiny import same
from torch import nn

from pose.checkpoint import load_checkpoint, save_checkpoint
from pose.classification.dataset import ImageDataset
from pose.classification.folder import list_images
from pose.classification.initial import load_initial as start_classifier
from pose.classification.settings import load_classifier_settings, make_classifier_settings
from pose.classification.train import Mixing, make_trainer, train
from pose.datasets.loading.loader import batches, make_loader
from pose.engine.initial import load_initial
from pose.errors import CheckpointError, DataError, OutputError
from pose.models.classifier import build_classifier
from pose.models.pose_net import build_pose_net
from pose.options import OptionError

__all__ = ["run_tool"]

ROOT = Path(__file__).parents[1]
COLORS = {"blue": (200, 60, 40), "green": (50, 190, 60), "red": (40, 50, 210)}
TINY = dict(type="mobilenet_v2", width=0.1, depth=0.5, last_channels=16)
DYNAMIC = dict(TINY, conv=dict(type="dynamic"))


def write_images(root, train=8, val=4):
    """Pictures of one color and noise, a folder a color."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name, color in COLORS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = np.array(color) + rng.normal(0, 25, (40, 50, 3))
                cv2.imwrite(str(root / split / name / f"{number}.jpg"), image.clip(0, 255).astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("colors") / "set")


def settings_of(root, backbone=DYNAMIC, data=(), augmentation=(), dropout=0.1, **schedule):
    return make_classifier_settings(
        dict(
            augmentation=dict(augmentation),
            model=dict(backbone=backbone, dropout=dropout),
            data=dict(root=str(root), input_size=32, resize=32, workers=0, **dict(data)),
            train=dict(
                dict(epochs=2, batch_size=6, learning_rate=0.05, label_smoothing=0.1, mixup=0.2, average_decay=0.5),
                **schedule,
            ),
        )
    )


def test_a_stopped_training_ends_with_the_very_weights(root, tmp_path, monkeypatch, run_tool):
    settings = settings_of(root, epochs=4, temperature_start=30.0, temperature_epochs=3)
    best = train(settings, tmp_path / "whole", "cpu")["best"]
    assert 0 <= best["top1"] <= best["top5"] == 1.0
    left = iter(range(6, -1, -1))  # steps until a signal: within an epoch
    with monkeypatch.context() as patch:
        patch.setattr("pose.engine.epoch.CheckpointTimer.requests", lambda timer: (False, next(left, 1) == 0))
        train(settings, tmp_path / "parts", "cpu")
    assert load_checkpoint(tmp_path / "parts" / "last.pth")["batches"] > 0
    train(settings, tmp_path / "parts", "cpu", resume=True)
    whole, parts = (load_checkpoint(tmp_path / name / "last.pth") for name in ("whole", "parts"))
    for kept in ("model", "average", "optimizer", "best"):
        assert same(whole[kept], parts[kept])
    assert whole["classes"] == ["blue", "green", "red"]
    with open(tmp_path / "whole" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["temperature"]) for row in rows[:4]] == pytest.approx([30, 30 - 29 / 3, 30 - 58 / 3, 1], rel=1e-3)
    assert all(row["top1"] and row["attention_entropy"] for row in rows)

    lines = [f"{name} = {value!r}" for name, value in settings.to_dict().items()]
    (tmp_path / "config.py").write_text("\n".join(lines))
    arguments = (tmp_path / "config.py", tmp_path / "whole" / "best.pth", "--device", "cpu")
    status, told, _ = run_tool(
        "test_classifier.py", *arguments, "--inspect", "aggregations", "--out", tmp_path / "f.json"
    )
    assert status == 0
    assert f"top-1 {100 * best['top1']:.2f} %" in told
    assert "shuffled across images" in told and "dead kernels" in told
    status, _, error = run_tool("test_classifier.py", *arguments, "--out", tmp_path / "config.py")
    assert status == 2 and "is an input too" in error
    for classes in (5, "abc", [1, 2, 3]):
        save_checkpoint(tmp_path / "other.pth", {**whole, "classes": classes})
        status, _, error = run_tool("test_classifier.py", tmp_path / "config.py", tmp_path / "other.pth")
        assert status == 2 and "does not name its classes" in error


def test_a_step_is_that_of_cross_entropy_and_mixup_mixes_labels(root):
    settings = settings_of(root, mixup=0.0, average_decay=0.0)
    trainer = make_trainer(settings, torch.device("cpu"), 3)
    trainer.set_learning_rate(0.0)
    seen = []
    trainer.model.register_forward_hook(lambda _, inputs, out: seen.append(out))
    images = list_images(root / "train")
    batch = ImageDataset(images, settings, train=True).__getitems__([(0, row, 0) for row in (0, 9, 17)])
    assert batch.labels.tolist() == [0, 1, 2]
    loss = Mixing(settings.train, 3).learn(trainer, batch)
    wanted = nn.CrossEntropyLoss(label_smoothing=0.1)(seen[0], torch.tensor([0, 1, 2]))
    assert loss.item() == pytest.approx(wanted.item())
    mixed = []
    trainer.learn = lambda images, targets: mixed.append((images, targets))
    Mixing(settings_of(root, mixup=5.0).train, 3).learn(trainer, batch)
    shares = mixed[0][1]
    assert shares.shape == (3, 3) and shares.sum(dim=1) == pytest.approx([1, 1, 1]) and (shares.max(dim=1)[0] < 1).all()
    assert settings_of(root, mixup_epochs=4).train.mixup_at(1) == pytest.approx(0.05)


def test_colors_are_learned_and_in_bfloat16_alike_but_for_digits(root):
    batch = ImageDataset(list_images(root / "train"), settings_of(root), train=True).__getitems__(
        [(0, row, 0) for row in range(0, 24, 2)]
    )
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = settings_of(root, dict(TINY), dropout=0.0, mixup=0.0, precision=precision)
        torch.manual_seed(0)
        trainer = make_trainer(settings, torch.device("cpu"), 3)
        trainer.set_learning_rate(0.04)
        losses[precision] = [Mixing(settings.train, 3).learn(trainer, batch).item() for _ in range(20)]
        average = trainer.best_model.state_dict()
        assert trainer.best_model is not trainer.model
        assert all(value.isfinite().all() and value.dtype != torch.bfloat16 for value in average.values())
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"][:2] == pytest.approx(losses["float32"][:2], rel=0.05)
    assert max(loss[-1] / loss[0] for loss in losses.values()) < 0.8


def run(device, root, work_dir, schedule):
    train(settings_of(root, dict(TINY), dropout=0.0, mixup=0.0, **schedule), work_dir, device)


def test_two_processes_learn_what_one_does_that_accumulates_two_batches(root, tmp_path):
    assert in_two(tmp_path, run, root, tmp_path / "two", {})[0] == [0, 0]
    run("cpu", root, tmp_path / "one", dict(accumulate=2))
    two, one = (load_checkpoint(tmp_path / name / "last.pth") for name in ("two", "one"))
    for key in ("model", "average"):
        for name, tensor in one[key].items():
            # each process has normalization's averages of its own batches, of which it sees half as many
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                torch.testing.assert_close(two[key][name], tensor, rtol=1e-3, atol=1e-5)
    assert two["best"]["top1"] >= 0


def test_torchvisions_weights_start_a_classifier_and_that_a_pose_network(tmp_path):
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    theirs = mobilenet_v2(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "torchvision.pth")
    backbone = dict(type="mobilenet_v2", conv=dict(type="dynamic"))
    classifier = build_classifier(backbone, 1000).eval()
    assert start_classifier(classifier, f"torchvision:mobilenet_v2={tmp_path / 'torchvision.pth'}") == []
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(classifier(images), theirs(images), rtol=1e-3, atol=1e-4)
    save_checkpoint(tmp_path / "classifier.pth", {"model": classifier.state_dict()})
    model = build_pose_net(backbone, dict(type="bottleneck")).eval()
    assert "classifier of 1000 classes" in load_initial(model, str(tmp_path / "classifier.pth"))[0]
    with torch.inference_mode():
        assert torch.equal(model.backbone(images), classifier.backbone(images))


def test_augmentation_depends_on_place_and_epoch_alone(root):
    settings = settings_of(root, augmentation=dict(brightness=0.2, saturation=0.2))
    dataset = ImageDataset(list_images(root / "train"), settings, train=True)
    before = torch.get_rng_state()
    assert dataset.part.jitter
    one, again, later = (dataset[(epoch, 3, 0)].crops for epoch in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, later)
    assert torch.equal(torch.get_rng_state(), before)
    together = dataset.__getitems__([(0, 5, 0), (0, 3, 0)]).crops
    assert torch.equal(together[1:], one)
    loader = make_loader(dataset, 4, 2, train=True)
    shared = {int(row): crop for batch in batches(loader) for row, crop in zip(batch.rows, batch.crops, strict=True)}
    assert torch.equal(shared[3], one[0])


def test_every_kind_of_image_is_read_in_its_colors(root, tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    rgb = Image.new("RGB", (60, 40), (200, 30, 60))
    rgb.save(tmp_path / "a" / "rgb.jpg", quality=95)
    rgb.convert("CMYK").save(tmp_path / "a" / "cmyk.jpg", quality=95)
    Image.new("RGBA", (60, 40), (200, 30, 60, 9)).save(tmp_path / "a" / "rgba.png")
    rgb.convert("P").save(tmp_path / "a" / "palette.png")
    Image.new("L", (60, 40), 120).save(tmp_path / "b" / "gray.png")
    cv2.imwrite(str(tmp_path / "b" / "gray16.png"), np.full((40, 60), 120 * 257, np.uint16))
    cv2.imwrite(str(tmp_path / "b" / "pixel.png"), np.full((1, 1, 3), 120, np.uint8))
    images = list_images(tmp_path)
    dataset = ImageDataset(images, settings_of(root), train=False)
    for row in range(len(images)):
        crop = dataset[(0, row, 0)].crops[0].float().mean(dim=(0, 1))
        wanted = (60, 30, 200) if images.labels[row] == 0 else (120, 120, 120)
        assert crop.tolist() == pytest.approx(wanted, abs=14), images.path(row)


def test_broken_images_are_counted_skipped_and_too_many_stop(tmp_path, capsys):
    root = write_images(tmp_path / "set")
    victim = root / "train" / "green" / "5.jpg"
    victim.write_bytes(victim.read_bytes()[:-300])
    train(settings_of(root, data=dict(broken_share=0.05)), tmp_path / "run", "cpu")
    told = capsys.readouterr().err
    assert told.count("5.jpg: picture is cut off") == 1 and "(1 of at most 1)" in told
    with pytest.raises(DataError, match=r"5.jpg: picture is cut off .*1 of 24 pictures"):
        train(settings_of(root, data=dict(broken_share=0.01)), tmp_path / "again", "cpu")


def rename(root, old, new):
    os.rename(root / old, root / new)


def empty(root, folder):
    for path in (root / folder).iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: rename(root, "val/red", "val/pink"), "'red'.*unknown there .*'pink'"),
        (lambda root: empty(root, "train/red"), "red: holds no image"),
        (lambda root: rename(root, "train", "trian"), "train: image folder not found"),
        (lambda root: [rename(root, f"train/{name}", name) for name in ("red", "blue")], "one class, 'green'"),
    ],
)
def test_folders_that_cannot_be_learned_from_are_named(tmp_path, change, message):
    root = write_images(tmp_path / "set")
    change(root)
    with pytest.raises(DataError, match=message):
        train(settings_of(root), tmp_path / "run", "cpu")


def test_the_order_is_torchvisions(root):
    from torchvision.datasets import ImageFolder

    ours, theirs = list_images(root / "train"), ImageFolder(root / "train")
    assert [(ours.path(row), int(ours.labels[row])) for row in range(len(ours))] == theirs.samples
    assert list(ours.classes) == theirs.classes


@pytest.mark.parametrize("conv", ["static", "dynamic"])
def test_a_classifier_starts_a_pose_backbone(tmp_path, conv):
    backbone = dict(TINY, conv=dict(type=conv))
    given = build_classifier(backbone, 7)
    save_checkpoint(tmp_path / "c.pth", {"model": given.state_dict(), "classes": list("abcdefg")})
    head = dict(type="bottleneck")
    model = build_pose_net(backbone, head)
    told = load_initial(model, str(tmp_path / "c.pth"))
    assert "classifier of 7 classes" in told[0]
    assert same(dict(model.backbone.state_dict()), dict(given.backbone.state_dict()))
    other = build_pose_net(dict(TINY, conv=dict(type="static" if conv == "dynamic" else "dynamic")), head)
    if conv == "static":
        load_initial(other, str(tmp_path / "c.pth"))
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(other.eval().backbone(images), given.eval().backbone(images), rtol=1e-4, atol=1e-5)
    else:
        with pytest.raises(CheckpointError, match="c.pth: "):
            load_initial(other, str(tmp_path / "c.pth"))
    save_checkpoint(tmp_path / "pose.pth", {"model": model.state_dict()})
    with pytest.raises(CheckpointError, match="pose.pth: a pose network's"):
        start_classifier(given, str(tmp_path / "pose.pth"))
    fresh = build_classifier(DYNAMIC, 3)
    assert "classifier of 3 classes starts fresh" in start_classifier(fresh, str(tmp_path / "c.pth"))[0]


def test_rows_of_a_classifier_are_taken_where_its_classes_have_the_same_names(tmp_path):
    given = build_classifier(TINY, 3)
    save_checkpoint(tmp_path / "c.pth", {"model": given.state_dict(), "classes": ["cat", "dog", "owl"]})
    for classes, kept in (
        (("cat", "dog", "owl"), True),
        (("cat", "dog", "yak"), False),
        (("dog", "cat", "owl"), False),
    ):
        fresh = build_classifier(TINY, 3)
        told = start_classifier(fresh, str(tmp_path / "c.pth"), classes=classes)
        assert same(dict(fresh.backbone.state_dict()), dict(given.backbone.state_dict()))
        assert torch.equal(fresh.classifier.conv.weight, given.classifier.conv.weight) == kept
        assert told == [] if kept else "3 classes starts fresh: " in told[0] and "is of other classes" in told[0]


def test_the_comparison_of_classifiers_is_of_the_folders_classes(tmp_path):
    tool = runpy.run_path(str(ROOT / "tools" / "compare_classifiers.py"))
    pixels, labels = np.zeros((20, 8, 8)), np.arange(20) % 4
    tool["SHIPPED"]["digits"] = (lambda: (pixels, labels), "a package")
    (tmp_path / "digits_images").mkdir()
    (tmp_path / "digits_images" / "train").write_text("in the way of a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        tool["write_images"]("digits", tmp_path)
    assert not (tmp_path / "digits_images" / "whole").exists()
    (tmp_path / "digits_images" / "train").unlink()
    root = tool["write_images"]("digits", tmp_path)
    assert len(list_images(root / "train")) == 16
    few = tool["rows_of"]({"static": [0.5]}, root)[0][1]
    for number in range(4, 400):
        (root / "val" / str(number)).mkdir()
        shutil.copy(next(root.glob("train/*/*.png")), root / "val" / str(number))
    assert tool["rows_of"]({"static": [0.5]}, root)[0][1] != few  # parameters count the folder's classes
    assert tool["title_of"]("digits") == "Classifiers on handwritten digits"
    assert tool["title_of"]("data/pets/") == "Classifiers on the images of pets"


def test_the_command_that_a_training_tells_tests_its_network(root, tmp_path, run_tool):
    settings = settings_of("elsewhere", dict(TINY), epochs=1)
    (tmp_path / "config.py").write_text("\n".join(f"{name} = {value!r}" for name, value in settings.to_dict().items()))
    options = ("--device", "cpu", "--cfg-options", f"data.root={root}")
    status, told, _ = run_tool(
        "train_classifier.py", tmp_path / "config.py", "--work-dir", tmp_path / "my run", *options
    )
    assert status == 0
    command = shlex.split(told.split("test it: ")[1].splitlines()[0])
    assert command[:2] == ["python", "tools/test_classifier.py"]
    assert run_tool("test_classifier.py", *command[2:])[0] == 0


V2, V3, RESNET = (300, 0.05, "cosine", ()), (300, 0.1, "cosine", ()), (100, 0.1, "step", (30, 60, 90))
RECIPES = {  # schedule, weight decay, dropout, label smoothing, mixup
    "mobilenet_v2_x1.0_dynamic": (V2, 4e-5, 0.2, 0.1, 0.2),
    "mobilenet_v2_x1.0_static": (V2, 4e-5, 0.2, 0.1, 0.2),
    "mobilenet_v2_x0.75_dynamic": (V2, 4e-5, 0.1, 0.1, 0.0),
    "mobilenet_v2_x0.75_static": (V2, 4e-5, 0.1, 0.1, 0.0),
    "mobilenet_v2_x0.5_dynamic": (V2, 4e-5, 0.0, 0.0, 0.0),
    "mobilenet_v2_x0.5_dynamic_tau1": (V2, 4e-5, 0.0, 0.0, 0.0),
    "mobilenet_v2_x0.5_dynamic_tau30": (V2, 4e-5, 0.0, 0.0, 0.0),
    "mobilenet_v2_x0.5_static": (V2, 4e-5, 0.0, 0.0, 0.0),
    "mobilenet_v2_x0.35_dynamic": (V2, 4e-5, 0.0, 0.0, 0.0),
    "mobilenet_v2_x0.35_static": (V2, 4e-5, 0.0, 0.0, 0.0),
    "mobilenet_v3_small_dynamic": (V3, 3e-5, 0.2, 0.0, 0.0),
    "mobilenet_v3_small_static": (V3, 3e-5, 0.2, 0.0, 0.0),
    "resnet10_dynamic": (RESNET, 1e-4, 0.0, 0.0, 0.0),
    "resnet10_static": (RESNET, 1e-4, 0.0, 0.0, 0.0),
    "resnet18_dynamic": (RESNET, 1e-4, 0.1, 0.0, 0.0),
    "resnet18_static": (RESNET, 1e-4, 0.0, 0.0, 0.0),
    "mobilenet_v2_x1.0_dcd": (V2, 2e-5, 0.1, 0.1, 0.2),
    "mobilenet_v2_x0.75_dcd": (V2, 2e-5, 0.1, 0.0, 0.0),
    "mobilenet_v2_x0.5_dcd": (V2, 2e-5, 0.1, 0.0, 0.0),
    "mobilenet_v2_x0.35_dcd": (V2, 2e-5, 0.1, 0.0, 0.0),
    "resnet18_dcd": (RESNET, 1e-4, 0.0, 0.0, 0.0),
    "resnet50_dcd": (RESNET, 1e-4, 0.1, 0.0, 0.0),
    "resnet50_static": (RESNET, 1e-4, 0.0, 0.0, 0.0),
}
"""Both papers' words, as docs/models.md#imagenet has them."""


def test_the_recipes_are_the_papers():
    paths = {path.stem: path for path in (ROOT / "configs" / "imagenet").glob("*.py")}
    assert set(paths) == set(RECIPES)
    for name, (schedule, weight_decay, dropout, smoothing, mixup) in RECIPES.items():
        settings = load_classifier_settings(paths[name])
        assert make_classifier_settings(settings.to_dict()) == settings
        train = settings.train
        milestones = train.milestones if train.schedule == "step" else ()
        assert (train.epochs, train.learning_rate, train.schedule, milestones) == schedule, name
        assert (train.weight_decay, settings.model.get("dropout", 0.0)) == (weight_decay, dropout), name
        assert (train.label_smoothing, train.mixup) == (smoothing, mixup), name
        assert (train.batch_size, train.momentum, train.optimizer, train.gamma) == (256, 0.9, "sgd", 0.1), name
        annealed = "dynamic" in name and "tau" not in name
        assert train.temperature_start == (30.0 if annealed else None), name
        assert (train.temperature_end, train.temperature_epochs) == (1.0, 10), name
        conv = settings.model["backbone"].get("conv", {"type": "static"})
        assert conv["type"] == ("static" if "static" in name else "dcd" if "dcd" in name else "dynamic"), name
        assert conv.get("temperature", 30.0) == (1.0 if name.endswith("tau1") else 30.0), name
        assert (settings.data.input_size, settings.data.resize) == (224, 256), name
    with pytest.raises(OptionError, match="train.mixupp.*'mixup'"):
        make_classifier_settings(dict(model=dict(backbone=TINY), train=dict(mixupp=1)))
