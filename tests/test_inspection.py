"""Looking inside the attention: other aggregations, resolutions, entropy and use of the kernels."""

import json
import math

import pytest
import torch
from small_project import run_tool, write_project
from torch import nn

from pose.checkpoint import save_checkpoint
from pose.config import load_settings
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.attention import KernelAttention, set_temperature
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.inspection import AGGREGATIONS, aggregated, watched
from pose.models.dynamic.makers import CondConvs, DynamicConvs

__all__ = ["run_tool"]


class OneLayer(nn.Module):
    """A layer at stride 2 of the picture."""

    def __init__(self, **options):
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.conv = DynamicConv2d(3, 2, 1, bias=False, temperature=1.0, reduction=1, **options)

    def forward(self, x):
        return self.conv(self.pool(x))


def mixed_as(model: OneLayer, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """What the layer answers with a given attention (N, K)."""
    weights = model.conv.aggregate(attention)[0]
    return torch.cat([nn.functional.conv2d(p[None], w) for p, w in zip(model.pool(x), weights, strict=True)])


@pytest.fixture
def images():
    """Of different brightness."""
    torch.manual_seed(0)
    return torch.rand(5, 3, 64, 64) * torch.arange(1.0, 6).view(5, 1, 1, 1)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_kernels_are_averaged_or_the_largest_is_taken(images, activation):
    model = OneLayer(attention=activation)
    pi = model.conv.attention(model.pool(images))
    total = pi.sum(1, keepdim=True)
    largest = nn.functional.one_hot(pi.argmax(1), 4) * total
    for how, expected in [("attention", pi), ("average", total.expand(-1, 4) / 4), ("max", largest)]:
        with aggregated(model, how):
            assert torch.allclose(model(images), mixed_as(model, images, expected), atol=1e-5)
    assert torch.allclose(model(images), mixed_as(model, images, pi), atol=1e-5)


def seen_attention(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    seen = []
    module = next(module for module in model.modules() if isinstance(module, KernelAttention))
    handle = module.register_forward_hook(lambda _, inputs, attention: seen.append(attention))
    model(x)
    handle.remove()
    return seen[0]


def test_shuffling_per_image_permutes_each_images_own_attention(images):
    model = OneLayer()
    pi = seen_attention(model, images)
    with aggregated(model, "shuffled per image", seed=1):
        shuffled = seen_attention(model, images)
    assert torch.equal(shuffled.sort(1).values, pi.sort(1).values)
    orders = {tuple((row[:, None] == own).nonzero()[:, 1].tolist()) for row, own in zip(shuffled, pi, strict=True)}
    assert len(orders) > 1


def test_shuffling_across_images_gives_each_image_another_ones(images):
    model = OneLayer()
    pi = seen_attention(model, images)
    with aggregated(model, "shuffled across images"):
        shuffled = seen_attention(model, images)
        assert torch.allclose(seen_attention(model, images[:1]), pi[:1], atol=1e-6)  # one row rounds on its own
    assert torch.equal(shuffled.sort(0).values, pi.sort(0).values)
    assert not any(torch.equal(*rows) for rows in zip(shuffled, pi, strict=True))


def test_the_attention_is_switched_by_resolution(images):
    model = MobileNetV2(0.1, DynamicConvs(temperature=1.0))
    with torch.no_grad(), watched(model) as uses:
        for strides in ([4], [2, 8], None):
            with aggregated(model, "average", strides), watched(model) as inside:
                model(images)
            off = {use.input_stride for use in inside() if use.entropy > 1 - 1e-6}
            assert off == set(strides or (2, 4, 8, 16, 32))
    assert {use.input_stride for use in uses()} == {2, 4, 8, 16, 32}


def test_entropy_and_shares_are_those_of_the_attention(images):
    model = OneLayer()
    pi = seen_attention(model, images).double()
    with watched(model) as uses:
        model(images[:3])
        model(images[3:])
    (use,) = uses()
    assert (use.name, use.input_stride, use.images) == ("conv", 2, 5)
    assert use.entropy == pytest.approx((-(pi * pi.log()).sum(1) / math.log(4)).mean().item(), rel=1e-4)
    assert use.shares == pytest.approx(pi.mean(0).tolist(), rel=1e-4)
    assert use.chosen == pytest.approx((nn.functional.one_hot(pi.argmax(1), 4).double().mean(0)).tolist())
    assert not model.conv.attention._forward_hooks and not model._forward_pre_hooks


def test_a_kernel_that_no_image_uses_is_dead(images):
    model = OneLayer()
    with torch.no_grad():
        model.conv.attention.fc2.bias[2] = -50
    with watched(model) as uses:
        model(images)
    assert 2 in uses()[0].dead
    set_temperature(model, 1e6)
    with watched(model) as uses:
        model(images)
    assert uses()[0].dead == ()
    assert uses()[0].entropy == pytest.approx(1.0)


def test_condconvs_sigmoids_and_a_single_kernel_have_an_entropy_too(images):
    for maker, expected in ((CondConvs(["expand"]), 1.0), (DynamicConvs(["expand"], num_kernels=1), 0.0)):
        model = MobileNetV2(0.1, maker).eval()
        with torch.no_grad(), watched(model) as uses:
            model(images)
        assert all(use.entropy == pytest.approx(expected, abs=0.5) for use in uses())
        assert all(sum(use.shares) == pytest.approx(1) for use in uses())


def test_an_unknown_aggregation_is_named():
    with pytest.raises(ValueError, match="how must be one of attention"), aggregated(OneLayer(), "median"):
        pass


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("project"))
    model = dict(
        backbone=dict(
            type="mobilenet_v2", width=0.1, conv=dict(type="dynamic", roles=["expand"], input_strides=[4, 8])
        ),
        head=dict(type="bottleneck"),
    )
    config = folder / "dynamic.py"
    config.write_text(f"_base_ = 'tiny.py'\nmodel = dict(_delete_=True, **{model!r})\n")
    save_checkpoint(folder / "dynamic.pth", {"model": load_settings(config).build_model().state_dict()})
    return folder


def test_the_tool_tests_every_aggregation_and_resolution(project, run_tool, tmp_path):
    checkpoint = project / "dynamic.pth"
    status, printed, error = run_tool(
        "inspect_attention.py", project / "dynamic.py", checkpoint, "--boxes", "annotated", "--out", tmp_path
    )
    assert (status, error) == (0, "")
    written = json.loads((tmp_path / "attention.json").read_text())
    assert list(written["aggregations"]) == list(AGGREGATIONS)
    assert len(written["resolutions"]) == 2 * 2
    layers = written["layers"]
    assert {layer["input_stride"] for layer in layers} == {4, 8}
    assert all(f"{layer['name']:44}" in printed and len(layer["shares"]) == 4 for layer in layers)
    assert (tmp_path / "attention.png").stat().st_size > 1000


def test_the_tool_takes_one_test_for_the_use_alone(project, run_tool, tmp_path):
    arguments = (project / "dynamic.py", project / "dynamic.pth", "--boxes", "annotated", "--out", tmp_path)
    assert run_tool("inspect_attention.py", *arguments, "--tables", "use")[0] == 0
    written = json.loads((tmp_path / "attention.json").read_text())
    assert list(written) == ["layers", "aggregations"] and list(written["aggregations"]) == ["attention"]


def test_the_tool_says_that_a_static_network_has_nothing_to_look_into(project, run_tool, tmp_path):
    status, _, error = run_tool(
        "inspect_attention.py", project / "tiny.py", project / "tiny.pth", "--boxes", "annotated", "--out", tmp_path
    )
    assert status == 2
    assert "no dynamic convolution" in error and "Traceback" not in error
