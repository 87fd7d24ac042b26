"""Optimiser steps: precision, accumulation, clipping, averaged weights, and what a configuration makes of them."""

import copy

import numpy as np
import pytest
import torch
from tiny import TinyBackbone, TinyHead, same, tiny_settings, write_tiny_set
from torch import nn

from pose import heatmap
from pose.checkpoint import load_checkpoint
from pose.engine.train import make_trainer, train
from pose.engine.trainer import Trainer, averaging_decay
from pose.errors import CheckpointError
from pose.models.dynamic.attention import KernelAttention, attentions, set_temperature
from pose.models.pose_net import PoseNet
from pose.options import OptionError

CPU = torch.device("cpu")


def network(norm=True):
    torch.manual_seed(0)
    model = PoseNet(TinyBackbone(dropout=0.0), TinyHead(16))
    if not norm:
        model.backbone.norm = nn.Identity()
    return model


def batch(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 64, 32, generator=generator)
    target = torch.rand(count, 17, 16, 8, generator=generator)
    return images, target, torch.ones(count, 17)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_step_is_adams_on_the_protocols_loss():
    model, twin = network(), network()
    trainer = Trainer(model, CPU)
    trainer.set_learning_rate(1e-3)
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3)
    for seed in range(3):
        images, target, mask = batch(seed=seed)
        loss = heatmap.mean_squared_loss(twin(images), target, mask)
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert trainer.learn(images, target, mask).item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(weights(model), weights(twin))


def test_accumulated_batches_make_the_step_of_one_large_batch():
    large, small = (Trainer(network(norm=False), CPU, accumulate=count) for count in (1, 2))
    before = weights(small.model)
    images, target, mask = batch(8)
    large.learn(images, target, mask)
    small.learn(images[:4], target[:4], mask[:4])
    assert torch.equal(weights(small.model), before)
    small.learn(images[4:], target[4:], mask[4:])
    torch.testing.assert_close(weights(small.model), weights(large.model), rtol=1e-4, atol=1e-6)
    assert not torch.equal(weights(small.model), before)


def test_gradients_are_scaled_down_to_the_norm_and_small_ones_left():
    norms = {}
    for limit in (None, 1e-3, 1e3):
        trainer = Trainer(network(), CPU, max_gradient_norm=limit)
        step = trainer.optimizer.step

        def seen(step=step, trainer=trainer, limit=limit):
            gradients = [parameter.grad.flatten() for parameter in trainer.model.parameters()]
            norms[limit] = torch.cat(gradients).norm().item()
            return step()

        trainer.optimizer.step = seen
        trainer.learn(*batch())
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-4)
    assert norms[1e3] == norms[None] > 1e-2


def test_averaged_weights_follow_the_exponential_moving_average():
    trainer = Trainer(network(), CPU, average_decay=0.75)
    expected = None
    for step, decay in enumerate((0.0, 2 / 11, 3 / 12, 4 / 13)):
        trainer.learn(*batch(seed=step))
        now = weights(trainer.model)
        expected = now if expected is None else decay * expected + (1 - decay) * now
    torch.testing.assert_close(weights(trainer.best_model), expected)
    assert trainer.best_model is not trainer.model


def test_the_decay_grows_to_what_is_asked_for():
    decays = [averaging_decay(0.75, count) for count in range(40)]
    assert decays == sorted(decays) and decays[0] == 0.1 and decays[25] < 0.75 == decays[26] == decays[39]


def test_batch_statistics_are_averaged_with_the_weights_they_belong_to_and_the_temperature_is_not():
    trainer = Trainer(network(), CPU, average_decay=0.75)
    expected = None
    for step, decay in enumerate((0.0, 2 / 11, 3 / 12)):
        set_temperature(trainer.model, 30.0 - step)
        trainer.learn(*batch(seed=step))
        own = trainer.model.backbone.norm.running_mean.clone()
        expected = own if expected is None else decay * expected + (1 - decay) * own
    torch.testing.assert_close(trainer.best_model.backbone.norm.running_mean, expected)
    assert {attention.temperature.item() for attention in attentions(trainer.average)} == {28.0}


def test_the_averaged_network_is_the_one_that_is_validated_and_kept(tmp_path):
    root = write_tiny_set(tmp_path / "set")
    train(tiny_settings(root, train=dict(epochs=1, average_decay=0.9)), tmp_path / "run", "cpu")
    last, best = load_checkpoint(tmp_path / "run" / "last.pth"), load_checkpoint(tmp_path / "run" / "best.pth")
    averaged = {
        name.removeprefix("module."): value for name, value in last["average"].items() if name.startswith("module.")
    }
    assert same(best["model"], averaged)
    assert not same(best["model"], last["model"])
    assert "optimizer" not in best


def test_resuming_with_averages_that_were_never_made_is_refused(tmp_path):
    state = Trainer(network(), CPU).state_dict()
    with pytest.raises(CheckpointError, match="last.pth: has no averaged weights"):
        Trainer(network(), CPU, average_decay=0.9).load_state_dict(state, tmp_path / "last.pth")


def test_bfloat16_computes_features_in_it_and_attention_weights_and_loss_in_float32():
    trainer = Trainer(network(), CPU, precision="bfloat16")
    seen = {}
    for name, module in trainer.model.named_modules():
        module.register_forward_hook(lambda module, _, out, name=name: seen.update({name: out.dtype}))
    loss = trainer.learn(*batch())
    attention = [name for name, module in trainer.model.named_modules() if isinstance(module, KernelAttention)]
    assert attention
    assert all(seen[name] == torch.float32 for name in attention)
    assert seen["backbone.dynamic"] == seen["backbone.last"] == torch.bfloat16
    assert loss.dtype == torch.float32
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_bfloat16_learns_nearly_what_float32_does():
    lines = {}
    for precision in ("float32", "bfloat16"):
        trainer = Trainer(network(), CPU, precision=precision)
        lines[precision] = [trainer.learn(*batch()).item() for _ in range(30)]
    assert lines["float32"][-1] < 0.7 * lines["float32"][0]
    np.testing.assert_allclose(lines["bfloat16"], lines["float32"], rtol=0.03)


def test_channels_last_is_kept_by_kernels_and_features_and_changes_nothing_else():
    plain, last = Trainer(network(), CPU), Trainer(network(), CPU, channels_last=True)
    assert last.model.backbone.last.weight.is_contiguous(memory_format=torch.channels_last)
    seen = []
    last.model.backbone.norm.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    images = batch()
    for _ in range(3):
        plain.learn(*images)
        last.learn(*images)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weights(last.model), weights(plain.model), rtol=1e-3, atol=1e-5)


def test_a_compiled_network_shares_its_weights_with_the_one_that_is_saved(monkeypatch):
    compiled = []

    def compile_eagerly(model):
        compiled.append(model)
        return compile_(model, backend="eager")

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    plain, fast = Trainer(network(), CPU), Trainer(network(), CPU, compile=True)
    for seed in range(2):
        loss = plain.learn(*batch(seed=seed)), fast.learn(*batch(seed=seed))
        torch.testing.assert_close(*loss)
    assert compiled == [fast.model]
    assert fast.state_dict()["model"].keys() == plain.state_dict()["model"].keys()
    torch.testing.assert_close(weights(fast.model), weights(plain.model))


@pytest.mark.slow
def test_torch_compile_gives_the_same_step():
    plain, fast = Trainer(network(), CPU), Trainer(network(), CPU, compile=True)
    for seed in range(2):
        torch.testing.assert_close(fast.learn(*batch(seed=seed)), plain.learn(*batch(seed=seed)))


@pytest.mark.parametrize("wrong", [{"precision": "float16"}, {"sync_batch_norm": True}])
def test_what_only_a_gpu_offers_is_refused_on_a_cpu_by_name(wrong):
    with pytest.raises(OptionError, match=f"train.{next(iter(wrong))}"):
        Trainer(network(), CPU, **wrong)


def test_a_trainer_loads_what_it_saved():
    trainer = Trainer(network(), CPU, average_decay=0.9)
    trainer.learn(*batch())
    state = copy.deepcopy(trainer.state_dict())
    other = Trainer(network(), CPU, average_decay=0.9)
    other.load_state_dict(state, "last.pth")
    for learned in (trainer, other):
        learned.learn(*batch(seed=1))
    assert same(trainer.state_dict(), other.state_dict())


def test_the_train_section_reaches_the_trainer(tmp_path):
    options = dict(
        precision="bfloat16", accumulate=3, max_gradient_norm=2.0, average_decay=0.5, channels_last=True, compile=True
    )
    trainer = make_trainer(tiny_settings(tmp_path, train=options), CPU)
    assert (trainer.precision, trainer.accumulate, trainer.max_gradient_norm) == ("bfloat16", 3, 2.0)
    assert trainer.average is not None
    assert trainer.memory_format == torch.channels_last
    assert isinstance(trainer.network, torch._dynamo.OptimizedModule)


def test_the_temperature_falls_in_a_line_and_is_saved_with_the_weights(tmp_path):
    root = write_tiny_set(tmp_path / "set")
    options = dict(epochs=3, validate_every=3, temperature_start=30.0, temperature_end=1.0, temperature_epochs=2)
    train(tiny_settings(root, train=options), tmp_path / "run", "cpu")
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("temperature")
    assert [float(line.split(",")[column]) for line in lines[1:]] == [30.0, 15.5, 1.0]
    assert load_checkpoint(tmp_path / "run" / "last.pth")["model"]["backbone.dynamic.attention.temperature"] == 1.0
