"""The dynamic layers inside mmcv's blocks, and inside a plain module."""

import math

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import MODELS
from torch import nn

from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.openmmlab import register_openmmlab

LAYERS = [(dict(type="DynamicConv2d", num_kernels=3), DynamicConv2d), (dict(type="DCDConv2d", reduction=4), DCDConv2d)]


@pytest.fixture(autouse=True)
def registered():
    register_openmmlab()
    register_openmmlab()


def trains(model: nn.Module) -> bool:
    """Whether a few steps on one batch lower its loss and move every parameter."""
    torch.manual_seed(0)
    x, target = torch.randn(4, 8, 6, 6), torch.randn(4, 12, 3, 3)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    moved = all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    return losses[-1] < losses[0] and moved


@pytest.mark.parametrize(("conv_cfg", "layer"), LAYERS, ids=lambda value: getattr(value, "__name__", ""))
def test_mmcvs_block_builds_and_trains_with_it(conv_cfg, layer):
    block = ConvModule(8, 12, 3, stride=2, padding=1, conv_cfg=conv_cfg, norm_cfg=dict(type="BN"))
    assert type(block.conv) is layer
    assert (block.conv.bias, block.stride, block.conv.padding) == (None, (2, 2), (1, 1))
    assert trains(block)


def test_mmcvs_block_leaves_the_initialization_to_the_layer():
    """Its own, Kaiming on the 5-D bank, would give half the deviation."""
    block = ConvModule(64, 128, 3, conv_cfg=dict(type="DynamicConv2d"))
    for kernel in block.conv.weight:
        assert kernel.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)


def test_the_registry_builds_it_by_name():
    layer = build_conv_layer(dict(type="DynamicConv2d", num_kernels=2), 4, 6, 1, bias=False)
    assert layer.weight.shape == (2, 6, 4, 1, 1)


def test_another_layer_of_that_name_is_not_overwritten(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, "DCDConv2d", nn.Conv2d)
    with pytest.raises(ValueError, match="DCDConv2d is registered already"):
        register_openmmlab()


@pytest.mark.parametrize("layer", [DynamicConv2d, DCDConv2d])
def test_it_drops_into_a_plain_module_in_conv2ds_place(layer):
    arguments = (8, 12, 3, 2, 1, 1, 1, False, "reflect")
    model = nn.Sequential(layer(*arguments), nn.BatchNorm2d(12))
    x = torch.randn(2, 8, 6, 6)
    assert model(x).shape == nn.Conv2d(*arguments)(x).shape
    assert trains(model)
