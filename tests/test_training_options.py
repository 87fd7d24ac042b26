"""Options beyond the protocol, all exact on resume: schedules, weight decay, frozen parts, changed pixels."""

import math
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny import MODEL, same, tiny_settings, write_tiny_set
from torch import nn

from pose.checkpoint import load_checkpoint, save_checkpoint
from pose.config import TrainSettings
from pose.datasets.augment import Augmentation
from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.datasets.pixels import augment_pixels, changes_pixels, color_matrix
from pose.engine.frozen import FrozenParts
from pose.engine.optimizer import parameter_groups
from pose.engine.train import make_trainer, train
from pose.engine.trainer import Trainer
from pose.models.native.training.layers import available
from pose.models.pose_net import build_pose_net
from pose.options import OptionError
from pose.skeleton import COCO

CPU = torch.device("cpu")
PIXELS = Augmentation(color_probability=1.0, blur_probability=1.0, erase_probability=1.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


def rates(epochs, batches, **options):
    schedule = TrainSettings(epochs=epochs, learning_rate=1.0, milestones=(2,), **options)
    return [schedule.learning_rate_at(epoch, batch, batches) for epoch in range(epochs) for batch in range(batches)]


def test_the_rate_falls_in_steps_where_nothing_else_is_asked_for():
    assert rates(3, 2) == pytest.approx([1, 1, 1, 1, 0.1, 0.1])


def test_the_rate_falls_along_half_a_cosine_with_every_batch():
    expected = [(1 + math.cos(math.pi * batch / 8)) / 2 for batch in range(8)]
    assert rates(4, 2, schedule="cosine") == pytest.approx(expected)


def test_the_rate_grows_in_a_line_while_it_warms_up():
    assert rates(3, 2, warm_up=1.5) == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.1, 0.1])
    cosine = rates(4, 2, schedule="cosine")
    assert rates(4, 2, schedule="cosine", warm_up=1) == pytest.approx([cosine[0] / 2, *cosine[1:]])


def test_every_batch_is_learned_at_its_own_rate(root, tmp_path, monkeypatch):
    seen, learn = [], Trainer.learn

    def noting(self, *batch):
        seen.append({group["lr"] for group in self.optimizer.param_groups})
        return learn(self, *batch)

    monkeypatch.setattr(Trainer, "learn", noting)
    options = dict(schedule="cosine", warm_up=1.0, weight_decay=0.1, base_batch_size=2, learning_rate=1e-3)
    settings = tiny_settings(root, train=options)
    train(settings, tmp_path, "cpu")
    expected = [2 * settings.train.learning_rate_at(epoch, batch, 3) for epoch in range(2) for batch in range(3)]
    assert all(len(rates) == 1 for rates in seen)
    assert [rate for (rate,) in seen] == pytest.approx(expected)


@pytest.mark.parametrize("conv", ["static", "dynamic", "dcd"])
def test_kernels_decay_and_biases_and_normalization_do_not(conv):
    model = build_pose_net(
        dict(type="mobilenet_v2", width=0.1, conv=dict(type=conv)), dict(type="bottleneck", conv=dict(type=conv))
    )
    decaying, others = parameter_groups(model, 0.5)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.5, 0)
    decaying, others = ({id(each) for each in group["params"]} for group in (decaying, others))
    assert decaying | others == {id(each) for each in model.parameters()} and not decaying & others
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert {id(module.weight), id(module.bias)} <= others
        elif isinstance(module, nn.Conv2d | nn.Linear):
            assert id(module.weight) in decaying
    for name, parameter in model.named_parameters():
        assert not (name.endswith("bias") and id(parameter) in decaying), name


def test_weight_decay_apart_from_the_gradient_shrinks_kernels_alone():
    model = nn.Conv2d(2, 2, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(model, CPU, nn.MSELoss(), torch.optim.AdamW, weight_decay=0.1)
    trainer.set_learning_rate(0.5)
    trainer.learn(torch.zeros(1, 2, 1, 1), model(torch.zeros(1, 2, 1, 1)).detach())  # no error, no gradient
    torch.testing.assert_close(model.weight.data, before["weight"] * (1 - 0.5 * 0.1))
    assert torch.equal(model.bias.data, before["bias"])


def test_without_weight_decay_an_old_checkpoints_optimizer_still_fits(root):
    trainer = make_trainer(tiny_settings(root), CPU)
    (group,) = trainer.optimizer.param_groups
    plain = torch.optim.Adam(trainer.model.parameters())
    trainer.optimizer.load_state_dict(plain.state_dict())
    assert group["weight_decay"] == 0 and len(group["params"]) == len(list(trainer.model.parameters()))
    adamw = make_trainer(tiny_settings(root, train=dict(optimizer="adamw")), CPU)
    assert type(adamw.optimizer) is torch.optim.AdamW and adamw.optimizer.param_groups[0]["weight_decay"] == 0


BACKBONES = [dict(type="mobilenet_v2", width=0.25), dict(type="mobilenet_v3_small"), dict(type="resnet", depth=10)]


def pose_net(backbone, conv="static", seed=0):
    torch.manual_seed(seed)
    model = build_pose_net({**backbone, "conv": dict(type=conv)}, dict(type="bottleneck", stages=((32, 16, 1),) * 3), 3)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))  # statistics that are not the fresh ones
        for value in model.head.parameters():
            value += 0.01 * torch.randn_like(value)
    return model


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("backbone", "conv"), [*((each, "static") for each in BACKBONES), (BACKBONES[0], "dynamic")])
def test_frozen_parts_stay_as_they_are_and_the_others_learn_as_before(backbone, conv, native):
    if native and not available():
        pytest.skip("needs a compiler")
    names = ("backbone.stem", "backbone.blocks.[0-2]")
    frozen, free = (Trainer(pose_net(backbone, conv), CPU, frozen=chosen, native=native) for chosen in (names, ()))
    before = {name: value.clone() for name, value in frozen.model.state_dict().items()}
    x, target, weights = torch.randn(2, 3, 64, 64), torch.rand(2, 3, 16, 16), torch.ones(2, 3)
    for module in (free.model.backbone.stem, *list(free.model.backbone.blocks)[:3]):
        module.requires_grad_(False)
    for tolerance in (1e-4, 1e-2, 1e-2):  # Adam's first steps turn roundings of small gradients into whole steps
        frozen.train()
        free.model.train()
        for module in (free.model.backbone.stem, *list(free.model.backbone.blocks)[:3]):
            module.eval()
        losses = [trainer.learn(x, target, weights) for trainer in (frozen, free)]
        torch.testing.assert_close(*losses, rtol=tolerance, atol=1e-6)
    after = frozen.model.state_dict()
    assert after.keys() == before.keys()
    still = {name for name in before if torch.equal(before[name], after[name])}
    begin = ("backbone.stem.", *(f"backbone.blocks.{number}." for number in range(3)))
    inside = {name for name in before if name.startswith(begin)}
    assert inside <= still and len(still - inside) < len(before) / 4
    assert not any("forward" in vars(module) for module in frozen.model.modules())
    assert all(parameter.grad is None for module in frozen.frozen.parts for parameter in module.parameters())


def test_a_frozen_beginning_runs_folded_in_one_call_and_keeps_nothing_for_a_backward_pass():
    if not available():
        pytest.skip("needs a compiler")
    model = pose_net(BACKBONES[0])
    trainer = Trainer(model, CPU, frozen=("backbone.stem", "backbone.blocks.[0-4]"), native=True)
    trainer.train()
    calls = []
    model.backbone.blocks[5].register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0]))
    model.backbone.blocks[2].expand.register_forward_hook(lambda *_: pytest.fail("ran by itself"))
    with trainer.frozen.running():
        model(torch.randn(2, 3, 64, 64))
    assert not calls[0].requires_grad
    first = trainer.frozen._folded
    with torch.no_grad():
        model.backbone.stem.conv.weight.mul_(2)
    trainer.train()  # another epoch: folded anew
    with trainer.frozen.running():
        model(torch.randn(2, 3, 64, 64))
    assert trainer.frozen._folded is not first


def test_parts_that_are_not_the_beginning_are_held_without_folding():
    parts = FrozenParts(pose_net(BACKBONES[0]), ("backbone.blocks.3", "head"), fold=True)
    assert parts._beginning == []
    with parts.running():
        pass


def test_a_name_that_no_part_has_is_told():
    with pytest.raises(OptionError, match="train.frozen: no part 'backbone.steem': did you mean 'backbone.stem'"):
        FrozenParts(pose_net(BACKBONES[0]), ("backbone.steem",))
    with pytest.raises(ValueError, match="freeze_epochs needs frozen"):
        TrainSettings(freeze_epochs=3)


def from_weights(root, path, train, **sections):
    """Settings of a run with frozen parts, and the weights that it starts from."""
    free = {name: value for name, value in train.items() if name not in ("frozen", "freeze_epochs")}
    save_checkpoint(path, {"model": tiny_settings(root, train=free, **sections).build_model().state_dict()})
    return tiny_settings(root, train={**train, "initial_weights": str(path)}, **sections)


def test_random_parts_are_not_frozen():
    with pytest.raises(ValueError, match="frozen needs initial_weights"):
        TrainSettings(frozen=("backbone.stem",))


def test_parts_that_are_frozen_for_some_epochs_learn_afterwards(root, tmp_path):
    def weights(epochs):
        chosen = dict(epochs=epochs, frozen=("backbone.stem", "backbone.norm"), freeze_epochs=2)
        settings = from_weights(root, tmp_path / "start.pth", train=chosen)
        train(settings, tmp_path, "cpu", resume=True)
        model = load_checkpoint(tmp_path / "last.pth")["model"]
        return {name: model[name] for name in ("backbone.stem.weight", "backbone.norm.running_mean")}

    first, second, third = map(weights, (1, 2, 3))
    assert same(first, second)
    assert not any(torch.equal(first[name], third[name]) for name in first)


def crops(root, augmentation, keys, seed=0):
    persons = read_annotations(root / "annotations" / "person_keypoints_train2017.json", COCO)
    return CropDataset(persons, root / "train2017", COCO, (64, 96), augmentation, seed).__getitems__(keys)


def test_changed_pixels_leave_geometry_as_it_was_and_depend_on_seed_epoch_and_person_alone(root):
    assert not changes_pixels(Augmentation()) and changes_pixels(PIXELS)
    keys = [(1, 3, 0), (1, 3, 1), (2, 3, 0), (1, 4, 0)]
    plain, changed = crops(root, Augmentation(), keys), crops(root, PIXELS, keys)
    np.testing.assert_array_equal(plain.keypoints, changed.keypoints)
    np.testing.assert_array_equal(plain.weights, changed.weights)
    differ = (plain.crops != changed.crops).flatten(1).any(1)
    assert differ.all()
    again = crops(root, PIXELS, keys[::-1])
    np.testing.assert_array_equal(again.crops.numpy()[::-1], changed.crops.numpy())
    assert not torch.equal(crops(root, PIXELS, keys, seed=1).crops, changed.crops)
    same_place = replace(PIXELS, scale_std=0.0, rotation_probability=0.0, flip_probability=0.0, half_body_probability=0)
    first, second = crops(root, same_place, [(0, 3, 0), (0, 3, 1)]).crops
    assert not torch.equal(first, second)


def only(**options):
    return Augmentation(
        **{f"{name}_probability": float(name in options) for name in ("color", "blur", "erase")},
        **{key: value for inner in options.values() for key, value in inner.items()},
    )


def test_colors_are_what_the_factors_say():
    bgr = np.array([[[40, 90, 200]]], np.uint8)
    np.testing.assert_array_equal(cv2.transform(bgr, color_matrix(1, 1, 1)), bgr)
    gray = 0.114 * 40 + 0.587 * 90 + 0.299 * 200
    assert np.abs(cv2.transform(bgr, color_matrix(1, 1, 0)).astype(float) - gray).max() <= 0.5
    np.testing.assert_array_equal(cv2.transform(bgr, color_matrix(0.5, 1, 1)), [[[20, 45, 100]]])
    contrast = 127.5 + 0.5 * (bgr.astype(float) - 127.5)
    assert np.abs(cv2.transform(bgr, color_matrix(1, 0.5, 1)) - contrast).max() <= 0.5
    crop = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    before = crop.copy()
    augment_pixels(crop, only(color=dict(brightness=0.5)), np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.random()
    factors = 1 + rng.uniform(-1, 1, 3) * (0.5, 0.3, 0.3)
    np.testing.assert_array_equal(crop, cv2.transform(before, color_matrix(*factors)))


def test_a_blur_lowers_detail_and_a_patch_covers_its_share():
    noise = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    blurred = noise.copy()
    augment_pixels(blurred, only(blur=dict(blur_sigma=3.0)), np.random.default_rng(0))
    assert blurred.std() < 0.6 * noise.std() and abs(blurred.mean() - noise.mean()) < 2
    shares = []
    for seed in range(50):
        covered = noise.copy()
        augment_pixels(covered, only(erase=dict(erase_share=0.3)), np.random.default_rng(seed))
        y, x = np.nonzero((covered != noise).any(2))
        patch = covered[y.min() : y.max() + 1, x.min() : x.max() + 1].reshape(-1, 3)
        assert len(np.unique(patch, axis=0)) == 1  # one color, a rectangle, nothing outside
        shares.append(len(patch) / (96 * 64))
    assert 0.02 < min(shares) < 0.1 and 0.2 < max(shares) < 0.31


OPTIONS = dict(
    train=dict(
        epochs=3,
        validate_every=3,
        checkpoint_minutes=0.0,
        schedule="cosine",
        warm_up=1.5,
        optimizer="adamw",
        weight_decay=0.05,
        frozen=("backbone.stem", "backbone.norm"),
        freeze_epochs=2,
        average_decay=0.9,
    ),
    augmentation=dict(color_probability=0.7, blur_probability=0.5, erase_probability=0.5),
)


def test_a_run_with_all_of_them_resumes_exactly_after_sigterm(root, tmp_path, monkeypatch):
    settings = from_weights(root, tmp_path / "start.pth", model=MODEL, **OPTIONS)
    resume_exactly(settings, tmp_path, monkeypatch, stop_at=5)


def test_a_native_run_with_a_folded_beginning_resumes_exactly(root, tmp_path, monkeypatch):
    if not available():
        pytest.skip("needs a compiler")
    model = dict(backbone=dict(type="mobilenet_v2", width=0.1), head=dict(type="bottleneck", stages=((8, 8, 1),) * 3))
    frozen = dict(frozen=("backbone.stem", "backbone.blocks.[0-4]"), freeze_epochs=None, native=True)
    options = {**OPTIONS, "train": {**OPTIONS["train"], **frozen, "epochs": 2}}
    settings = from_weights(root, tmp_path / "start.pth", **options, model=model)
    resume_exactly(settings, tmp_path, monkeypatch, stop_at=2)


def resume_exactly(settings, tmp_path, monkeypatch, stop_at):
    train(settings, tmp_path / "straight", "cpu")
    learn, steps = Trainer.learn, []

    def learn_and_raise(self, *batch):
        steps.append(None)
        if len(steps) == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return learn(self, *batch)

    monkeypatch.setattr(Trainer, "learn", learn_and_raise)
    assert train(settings, tmp_path / "run", "cpu")["stopped"] == signal.SIGTERM
    assert load_checkpoint(tmp_path / "run" / "last.pth")["batches"] == stop_at % 3
    train(settings, tmp_path / "run", "cpu", resume=True)
    assert len(steps) == 3 * settings.train.epochs
    straight, resumed = (load_checkpoint(tmp_path / name / "last.pth") for name in ("straight", "run"))
    for key in straight:
        if key not in ("seconds", "waited"):
            assert same(straight[key], resumed[key]), key
