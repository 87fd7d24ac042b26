"""Native layers answer as torch's operations do, whatever the shapes, the threads and the batch."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pose.engine.config import TestSettings as Choices
from pose.engine.evaluate import ready_for_testing
from pose.models import native
from pose.models.dcd import DCDConv2d
from pose.models.deploy import deploy
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct
from pose.models.native.layers import (
    NativeConv2d,
    NativeDCDConv2d,
    NativeLayer,
    NativeModule,
    NativeSequence,
    in_memory,
    to_panels,
)
from pose.models.pose_net import build_pose_net
from pose.options import OptionError


@pytest.fixture(scope="module", autouse=True)
def _built():
    try:
        native.build()
    except native.NativeError as error:
        pytest.skip(str(error))
    with torch.no_grad():
        yield


@pytest.fixture
def threads():
    """Sets how many threads torch has; one again afterwards."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


def assert_same(answer: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(answer, expected, rtol=0, atol=tolerance * max(1.0, expected.abs().max().item()))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_static_convolution_and_its_activation(data):
    draw = data.draw
    depthwise = draw(st.booleans())
    channels = draw(st.integers(1, 90))
    outputs = channels if depthwise else draw(st.integers(1, 90))
    kernel = draw(st.sampled_from([1, 3, 5, 2, (1, 3), (5, 2)]))
    geometry = (draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 2)))
    conv = nn.Conv2d(channels, outputs, kernel, *geometry, channels if depthwise else 1, draw(st.booleans()))
    activation = draw(st.sampled_from([nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardswish]))()
    deployed = deploy(nn.Sequential(ConvNormAct(conv, outputs, activation)).eval())
    assert all(isinstance(module, NativeLayer | NativeSequence | nn.ModuleList) for module in deployed.modules())
    x = 3 * torch.randn(draw(st.integers(1, 3)), channels, draw(st.integers(9, 30)), draw(st.integers(9, 30)))
    assert_same(deployed(x), activation(conv(x) * (1 + 1e-5) ** -0.5))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(64, 48, 41, 60), (600, 40, 9, 11), (3, 16, 70, 70)], ids=str)
def test_pictures_of_more_pixels_than_the_cache_takes(size, kernel):
    """Several blocks of pixels, several panels together, and rests of both."""
    channels, outputs, height, width = size
    conv = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)
    assert_same(deploy(conv)(torch.ones(1, channels, height, width)), conv(torch.ones(1, channels, height, width)))
    x = torch.randn(1, channels, height, width)
    assert_same(deploy(conv)(x), conv(x))


NETWORKS = {
    "static": (dict(type="mobilenet_v3_small"), dict(type="static")),
    "dynamic": (dict(type="mobilenet_v2", width=0.1), dict(type="dynamic")),
    "condconv": (dict(type="mobilenet_v2", width=0.1), dict(type="condconv")),
    "decomposed": (dict(type="resnet", depth=10), dict(type="dcd")),
}


def network_of(name: str) -> nn.Module:
    """A pose network whose normalisations, heatmaps and dynamic parts all matter."""
    torch.manual_seed(0)
    backbone, conv = NETWORKS[name]
    model = build_pose_net(dict(backbone, conv=conv), dict(type="bottleneck", conv=conv)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.weight.uniform_(0.5, 1.5)
        elif isinstance(module, DCDConv2d):
            nn.init.normal_(module.branch.to_phi.weight, std=0.03)
    nn.init.normal_(model.head.final.weight, std=0.1)
    return model


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [2, 3])
def test_threads_change_nothing(name, count, threads):
    model, x = network_of(name), torch.randn(5, 3, 64, 32)
    deployed, expected = deploy(model), model(x)
    threads(count)
    for images in (1, 2, 5):  # pixels and panels shared out, images one by one, images shared out
        assert_same(deployed(x[:images]), expected[:images])


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_alone_is_the_same_image_in_a_batch(name):
    deployed, x = deploy(network_of(name)), torch.randn(3, 3, 64, 32)
    assert torch.equal(deployed(x), torch.cat([deployed(image) for image in x.split(1)]))


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_native_from_their_input_to_their_shortcut(name):
    blocks = deploy(network_of(name)).backbone.blocks
    assert isinstance(blocks, NativeSequence)
    assert all(isinstance(module, NativeModule | nn.ModuleList | nn.Identity) for module in blocks.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_deployed_network_can_be_copied_saved_and_moved(name):
    model, x = network_of(name), torch.randn(1, 3, 64, 32)
    deployed = deploy(model)
    expected = deployed(x)
    file = io.BytesIO()
    torch.save(deployed, file)
    file.seek(0)
    for other in (copy.deepcopy(deployed), torch.load(file, weights_only=False), deployed.to("cpu").float()):
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize("conv", [DynamicConv2d(40, 50, 1), DynamicConv2d(24, 24, 3, padding=1, groups=24)], ids=str)
def test_a_bfloat16_bank_is_the_kernels_rounded(conv):
    """Rounded beforehand, kernels and first matrix lose nothing more, whatever order they are in memory."""
    layer = ConvNormAct(conv, conv.out_channels).eval()
    layer.norm.eps = 0.0
    conv.weight.copy_(conv.weight.bfloat16())
    conv.attention.fc1.weight.copy_(conv.attention.fc1.weight.bfloat16())
    x = torch.randn(2, conv.in_channels, 7, 9)
    deployed = deploy(layer, bank_dtype=torch.bfloat16)
    assert deployed.bank.dtype == deployed.w1.dtype == torch.bfloat16
    assert_same(deployed(x), layer(x))


def test_a_decomposed_layer_reads_its_branch_in_bfloat16():
    layer = ConvNormAct(DCDConv2d(48, 64, 1, bias=False), 64, nn.ReLU6()).eval()
    nn.init.normal_(layer.conv.branch.to_phi.weight, std=0.1)
    nn.init.ones_(layer.conv.residual.norm_out.weight)
    branch = layer.conv.branch
    for linear in (branch.reduce, branch.gate, branch.to_lambda, branch.to_phi):
        linear.weight.copy_(linear.weight.bfloat16())
    x = torch.randn(2, 48, 9, 7)
    deployed = deploy(layer, bank_dtype=torch.bfloat16)
    assert isinstance(deployed, NativeDCDConv2d) and deployed.to_phi.dtype == torch.bfloat16
    assert_same(deployed(x), layer(x), 1e-4)


def test_panels_hold_what_sixteen_outputs_need():
    kernel = torch.arange(18 * 3 * 2 * 2, dtype=torch.float32).view(18, 3, 2, 2)
    panels = to_panels(kernel)
    assert panels.shape == (2, 2 * 2 * 3, 16)
    assert panels[1, 5, 1] == kernel[17, 2, 0, 1]  # output 16 + 1; tap 1 of 4, channel 2
    assert not panels[1, :, 2:].any()


def test_words_hold_values_i_and_i_plus_eight():
    row = torch.arange(20, dtype=torch.bfloat16)[None]
    words = in_memory(row)
    assert words.shape == (1, 32)
    assert words[0, :6].tolist() == [0, 8, 1, 9, 2, 10] and words[0, 16:20].tolist() == [16, 0, 17, 0]
    assert torch.equal(in_memory(row.float()), row.float())


def test_what_has_no_native_form_stays_as_it_is():
    for layer in (nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")):
        assert type(deploy(layer)) is nn.Conv2d
    assert type(deploy(nn.Conv2d(4, 4, 3, padding="same"))) is nn.Conv2d
    assert type(deploy(nn.Conv2d(4, 4, 3))) is NativeConv2d


def test_images_that_are_not_float32_or_not_there_are_refused():
    deployed = deploy(nn.Conv2d(3, 4, 1))
    for x, reason in ((torch.zeros(1, 3, 2, 2).double(), "float32"), (torch.zeros(0, 3, 2, 2), "at least one image")):
        with pytest.raises(RuntimeError, match=reason):
            deployed(x)


def test_a_test_runs_native_layers_where_its_settings_say_so():
    model = network_of("dynamic")
    assert ready_for_testing(model, Choices(), "cpu") is model
    assert isinstance(ready_for_testing(model, Choices(native=True), "cpu").head.final, NativeConv2d)
    with pytest.raises(OptionError, match=r"test\.native: is for CPUs, not cuda"):
        ready_for_testing(model, Choices(native=True), "cuda")
