"""Balanced kernels: the outputs that they had, at the scale of fresh ones."""

from itertools import pairwise

import pytest
import torch
from test_inflate import trained
from torch import nn
from torchvision import models

from pose.errors import CheckpointError
from pose.models.balance import LEAST_VARIANCE, balance
from pose.models.dynamic.inflate import load_torchvision
from pose.models.pose_net import build_pose_net


def uneven(model: nn.Module) -> nn.Module:
    """A network whose kernels are scaled by factors from 1e-2 to 1e2 that its statistics know of.

    The first channel of each layer is dead, and the second's kernel is far larger than its variance says.
    """
    model = trained(model)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    with torch.no_grad():
        for conv, norm in zip(layers[::2], layers[1::2], strict=True):
            factor = 10 ** torch.empty_like(norm.bias).uniform_(-2, 2)
            conv.weight.mul_(factor[:, None, None, None])
            norm.running_mean.mul_(factor)
            norm.running_var.mul_(factor.square())
            conv.weight[0], norm.running_mean[0], norm.running_var[0] = 0.0, 0.0, 0.0
            norm.running_mean[1], norm.running_var[1] = 0.0, 1e-5
            norm.weight[1] = 1e-3 / factor[1]
    return model


def test_outputs_stay_and_deviations_are_those_of_fresh_kernels():
    model = uneven(models.mobilenet_v2(weights=None)).features.double()  # small differences grow in random networks
    blocks = [block for block in model.modules() if isinstance(block, nn.Sequential)]
    pairs = [pair for block in blocks for pair in pairwise(block) if isinstance(pair[1], nn.BatchNorm2d)]
    assert len(pairs) == 52
    kernels = [conv.weight.clone() for conv, _ in pairs]
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        balance(model)
        found = model(x)
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    promised = 0
    for (conv, norm), kernel in zip(pairs, kernels, strict=True):
        assert torch.equal(conv.weight[0], kernel[0]) and norm.running_var[0] == 0  # dead
        variance, wanted = norm.running_var[1:], (2 / conv.weight[0].numel()) ** 0.5
        deviation = conv.weight[1:].flatten(1).square().mean(1).sqrt()
        least = variance <= 1.001 * LEAST_VARIANCE
        assert (variance >= 0.999 * LEAST_VARIANCE).all()
        torch.testing.assert_close(deviation[~least], torch.full_like(deviation[~least], wanted), rtol=1e-4, atol=0)
        assert (deviation[least] >= 0.999 * wanted).all()
        promised += int((~least).sum())
    assert promised > 0.5 * sum(len(kernel) for kernel in kernels)


def pose_backbone(**backbone) -> nn.Module:
    head = dict(type="deconv", channels=(8, 8, 8))
    return build_pose_net(dict(type="mobilenet_v2", **backbone), head).backbone.eval()


def test_a_file_of_a_backbone_alone_is_enough_and_may_be_balanced(tmp_path):
    theirs, path = uneven(models.mobilenet_v2(weights=None)), tmp_path / "features.pth"
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("classifier")}
    torch.save(state, path)
    x = torch.randn(1, 3, 64, 64)
    for conv, balanced in (("static", False), ("static", True), ("dynamic", True)):
        model = pose_backbone(conv=dict(type=conv))
        load_torchvision(model, "mobilenet_v2", path, balanced=balanced)
        with torch.no_grad():
            expected = theirs.features(x)
            assert (
                model(x) - expected
            ).abs().mean() <= 1e-3 * expected.abs().max()  # rounding grows in a random network
        weight = model.last.conv.weight
        deviation = weight.flatten(1).square().mean(1).sqrt().median().item()
        assert (deviation == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=1e-3)) == balanced


@pytest.mark.parametrize("change", [dict(drop="features.3.conv.0.0.weight"), dict(add="features.99.weight")])
def test_a_file_that_lacks_a_layer_or_has_another_is_named(change, tmp_path):
    state, path = models.mobilenet_v2(weights=None).state_dict(), tmp_path / "wrong.pth"
    state = {name: tensor for name, tensor in state.items() if name != change.get("drop")}
    state |= {name: torch.ones(1) for name in [change.get("add")] if name}
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"wrong.pth: not the weights of torchvision's mobilenet_v2: .*features"):
        load_torchvision(pose_backbone(), "mobilenet_v2", path)
