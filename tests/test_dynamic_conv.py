"""DynamicConv2d is equation 1 of DY-CNN, whatever the geometry, batch, precision or temperature."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pose.models.dynamic.attention import KernelAttention, linear_temperature, set_temperature
from pose.models.dynamic.dynamic_conv import DynamicConv2d


def by_loops(layer: DynamicConv2d, x: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
    """Eq. 1 and eq. 5, one number at a time."""
    attention = layer.attention
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    per_group_in, per_group_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    images = []
    for image in x:
        pooled = [channel.sum() / channel.numel() for channel in image]
        hidden = pooled
        if attention.fc1 is not None:
            hidden = [
                torch.clamp(sum(w * p for w, p in zip(row, pooled, strict=True)) + b, min=0)
                for row, b in zip(attention.fc1.weight, attention.fc1.bias, strict=True)
            ]
        logits = [
            sum(w * h for w, h in zip(row, hidden, strict=True)) + b
            for row, b in zip(attention.fc2.weight, attention.fc2.bias, strict=True)
        ]
        if attention.activation == "softmax":
            powers = [torch.exp(z / attention.temperature) for z in logits]
            pi = [power / sum(powers) for power in powers]
        else:
            pi = [1 / (1 + torch.exp(-z)) for z in logits]
        weight = sum(share * kernel for share, kernel in zip(pi, layer.weight, strict=True))
        bias = None if layer.bias is None else sum(share * b for share, b in zip(pi, layer.bias, strict=True))
        padded = F.pad(image, (padding[1], padding[1], padding[0], padding[0]))
        height = (padded.shape[1] - dh * (kh - 1) - 1) // sh + 1
        width = (padded.shape[2] - dw * (kw - 1) - 1) // sw + 1
        out = []
        for o in range(layer.out_channels):
            first = o // per_group_out * per_group_in
            for row in range(height):
                for column in range(width):
                    total = torch.zeros((), dtype=x.dtype) if bias is None else bias[o]
                    for i in range(per_group_in):
                        for a in range(kh):
                            for b in range(kw):
                                pixel = padded[first + i, row * sh + a * dh, column * sw + b * dw]
                                total = total + weight[o, i, a, b] * pixel
                    out.append(total)
        images.append(torch.stack(out).view(layer.out_channels, height, width))
    return torch.stack(images)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_size=1),
        dict(kernel_size=1, stride=2, bias=False),
        dict(kernel_size=3, padding=1, groups=4),
        dict(kernel_size=3, stride=2, padding=1, groups=2, bias=False),
        dict(kernel_size=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
        dict(kernel_size=1, groups=2, attention="sigmoid", num_kernels=8),
    ],
    ids=str,
)
def test_it_is_equation_1_forward_and_backward(arguments, batch):
    torch.manual_seed(0)
    layer = DynamicConv2d(4, 4, temperature=1.5, reduction=2, **arguments).double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(batch, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    outputs = layer(x), by_loops(layer, x, layer.padding)
    assert torch.allclose(*outputs, rtol=0, atol=1e-12)
    seed = torch.randn_like(outputs[0])
    for pair in zip(*(torch.autograd.grad(output, inputs, seed) for output in outputs), strict=True):
        assert torch.allclose(*pair, rtol=0, atol=1e-12)


@given(
    groups=st.sampled_from([1, 2, 6]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
    batch=st.sampled_from([0, 1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_with_one_kernel_it_is_the_static_convolution(groups, kernel, stride, padding, dilation, mode, bias, batch):
    arguments = (6, 12, kernel, stride, padding, dilation, groups, bias, mode)
    dynamic, static = DynamicConv2d(*arguments, num_kernels=1).double(), nn.Conv2d(*arguments).double()
    with torch.no_grad():
        static.weight.copy_(dynamic.weight[0])
        if bias:
            nn.init.normal_(dynamic.bias)
            static.bias.copy_(dynamic.bias[0])
    x = torch.randn(batch, 6, 9, 8, dtype=torch.float64)
    assert dynamic(x).shape == static(x).shape
    assert torch.allclose(dynamic(x), static(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, (4, 3)])
def test_padding_by_name_is_torchs(kernel_size):
    for padding in ("same", "valid"):
        arguments = (2, 3, kernel_size, 1, padding, 2)
        dynamic, static = DynamicConv2d(*arguments, num_kernels=1), nn.Conv2d(*arguments)
        with torch.no_grad():
            static.weight.copy_(dynamic.weight[0])
            static.bias.zero_()
        x = torch.randn(2, 2, 9, 9)
        assert torch.allclose(dynamic(x), static(x), atol=1e-5)


@pytest.mark.parametrize("arguments", [dict(kernel_size=1), dict(kernel_size=3, padding=1, groups=8)], ids=str)
def test_an_image_alone_is_the_same_image_in_a_batch(arguments):
    torch.manual_seed(0)  # hidden units may all be off where weights are drawn at will
    layer = DynamicConv2d(8, 8, temperature=1.0, **arguments).double()
    x = torch.randn(4, 8, 6, 6, dtype=torch.float64)
    alone = torch.cat([layer(image[None]) for image in x])
    assert torch.allclose(layer(x), alone, rtol=0, atol=1e-13)
    assert not torch.allclose(layer.attention(x)[0], layer.attention(x)[1], atol=1e-3)


def test_gradients_pass_gradcheck():
    layer = DynamicConv2d(4, 2, 3, padding=1, groups=2, temperature=2.0, num_kernels=3).double()
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)


def test_one_layer_computes_xor():
    """No static layer can. x1 + x2 and 2 - (x1 + x2) both answer 1 where one input is set; which of
    them is right for none or both set is for the attention to see from the mean (DY-CNN, A.3)."""
    layer = DynamicConv2d(2, 1, 1, num_kernels=2, temperature=1.0, reduction=2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).view(2, 1, 2, 1, 1))
        layer.bias.copy_(torch.tensor([[0.0], [2.0]]))
        layer.attention.fc1.weight.fill_(1.0)
        layer.attention.fc1.bias.zero_()
        layer.attention.fc2.weight.copy_(torch.tensor([[-1000.0], [1000.0]]))
        layer.attention.fc2.bias.copy_(torch.tensor([1000.0, -1000.0]))
    for first, second in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        x = torch.tensor([first, second], dtype=torch.float64).view(1, 2, 1, 1)
        assert layer(x).item() == first ^ second


def test_under_autocast_the_attention_stays_float32():
    layer = DynamicConv2d(16, 16, 1, temperature=1.0)
    x = torch.randn(2, 16, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        attention, y = layer.attention(x), layer(x)
    assert attention.dtype == torch.float32
    assert torch.equal(attention, layer.attention(x))
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), rtol=0.05, atol=0.05)


def test_device_and_dtype_are_taken_like_torchs():
    layer = DynamicConv2d(4, 4, 3, dtype=torch.bfloat16)
    assert layer(torch.randn(2, 4, 5, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert all(parameter.is_meta for parameter in DynamicConv2d(4, 4, 3, device="meta").parameters())


def test_every_kernel_is_initialized_on_its_own():
    layer = DynamicConv2d(64, 128, 3, num_kernels=4)
    deviation = math.sqrt(2 / (128 * 9))
    for kernel in layer.weight:
        assert kernel.std().item() == pytest.approx(deviation, rel=0.02)
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_at_temperature_1_the_fresh_attention_is_near_one_hot_and_at_30_near_uniform():
    """What the paper's Table 6 needs; torch's default initialisation gives .30 at temperature 1."""
    torch.manual_seed(0)
    largest = {temperature: [] for temperature in (1.0, 30.0)}
    for _ in range(20):
        attention = KernelAttention(96)
        x = torch.randn(8, 96, 7, 7).relu()
        for temperature, values in largest.items():
            attention.set_temperature(temperature)
            values.append(attention(x).max(dim=1).values.mean().item())
    assert sum(largest[1.0]) / 20 > 0.5
    assert sum(largest[30.0]) / 20 < 0.3


def test_the_temperature_travels_with_the_state():
    """A plain attribute would stay at the value of the constructor."""
    trained = nn.Sequential(DynamicConv2d(4, 4, 1), DynamicConv2d(4, 4, 1))
    set_temperature(trained, 7.5)
    resumed = nn.Sequential(DynamicConv2d(4, 4, 1), DynamicConv2d(4, 4, 1))
    resumed.load_state_dict(trained.state_dict())
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(resumed(x), trained(x))
    assert [layer.attention.temperature.item() for layer in resumed] == [7.5, 7.5]


def test_the_temperature_is_the_softmaxs_divisor():
    attention = KernelAttention(8, temperature=1.0)
    x = torch.randn(3, 8, 4, 4)
    logits = attention(x).log()
    attention.set_temperature(4.0)
    assert torch.allclose(attention(x), (logits / 4).softmax(1), atol=1e-6)


def test_condconvs_attention_has_one_layer_and_no_temperature():
    attention = KernelAttention(8, num_kernels=8, activation="sigmoid")
    x = torch.randn(3, 8, 4, 4)
    before = attention(x)
    set_temperature(attention, 1.0)
    assert torch.equal(attention(x), before)
    assert torch.allclose(before, torch.sigmoid(attention.fc2(x.mean((2, 3)))))
    assert sum(parameter.numel() for parameter in attention.parameters()) == 8 * 8 + 8


def test_annealing_is_linear_and_then_constant():
    taus = [linear_temperature(epoch, 30, 1, 10) for epoch in (0, 1, 5, 9.5, 10, 11, 210)]
    assert taus == pytest.approx([30, 27.1, 15.5, 2.45, 1, 1, 1])
    assert linear_temperature(0, 30, 30, 0) == 30


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("num_kernels", dict(num_kernels=0)),
        ("temperature", dict(temperature=0.0)),
        ("temperature", dict(temperature=-1.0)),
        ("temperature", dict(temperature=math.inf)),
        ("temperature", dict(temperature=math.nan)),
        ("reduction", dict(reduction=0)),
        ("attention", dict(attention="relu")),
        ("groups", dict(groups=0)),
        ("in_channels", dict(groups=3)),
        ("out_channels", dict(groups=4)),
        ("in_channels", dict(in_channels=0)),
        ("kernel_size", dict(kernel_size=0)),
        ("kernel_size", dict(kernel_size=(1, 2, 3))),
        ("stride", dict(stride=0)),
        ("padding", dict(padding=-1)),
        ("padding", dict(padding="full")),
        ("padding", dict(padding="same", stride=2)),
        ("dilation", dict(dilation=0)),
        ("padding_mode", dict(padding_mode="ones")),
    ],
    ids=str,
)
def test_a_bad_value_is_a_value_error_that_names_the_argument(name, arguments):
    with pytest.raises(ValueError, match=name):
        DynamicConv2d(**{"in_channels": 8, "out_channels": 6, "kernel_size": 3, **arguments})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("start", (1, 0, 1, 10)), ("end", (1, 30, -1, 10)), ("epochs", (1, 30, 1, -1)), ("epoch", (-1, 30, 1, 10))],
)
def test_a_bad_schedule_names_the_argument(name, arguments):
    with pytest.raises(ValueError, match=name):
        linear_temperature(*arguments)


def test_a_model_with_dynamic_layers_takes_memory_formats_and_answers_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), DynamicConv2d(8, 6, 3), DynamicConv2d(6, 6, 5, groups=6)).eval()
    x = torch.randn(2, 3, 12, 10)
    expected, bank = model(x), model[1].weight
    model.to(memory_format=torch.channels_last)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight is bank and bank.shape == (4, 6, 8, 3, 3) and bank.is_contiguous()
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected)
    assert model.double()[1].weight.dtype == torch.float64
