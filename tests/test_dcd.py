"""DCDConv2d is equations 6 to 9 of DCD, its two forms agree, and its switches give the tables' sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dcd_branch import BranchForm
from pose.models.dynamic.graph_forms import GraphForms
from pose.models.dynamic.makers import DCDConvs
from pose.models.dynamic.per_image_conv import convolve_per_image

POINTWISE = dict(kernel_size=1)
EXPANDING = dict(kernel_size=1, out_channels=12, stride=2)
DEPTHWISE = dict(kernel_size=3, padding=1, groups=6, stride=2)
CHANNEL = dict(kernel_size=3, padding=1, stride=2)
JOINT = dict(kernel_size=3, padding=2, dilation=2, fusion="joint")
KINDS = [POINTWISE, EXPANDING, DEPTHWISE, CHANNEL, JOINT]


def layer_of(arguments: dict, **more) -> DCDConv2d:
    """A float64 layer of 6 channels whose every parameter matters."""
    torch.manual_seed(0)
    layer = DCDConv2d(**{"in_channels": 6, "out_channels": 6, "reduction": 2, **arguments, **more}).double()
    for name, parameter in layer.named_parameters():
        if name.startswith(("branch", "bias", "residual.norm_out.weight")):
            nn.init.normal_(parameter, std=0.5)
    return layer


def branch_by_loops(layer: DCDConv2d, image: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Lambda (C_out,) and Phi - I (B, L, L, L_k) of one image."""
    branch, size = layer.branch, layer.branch.pool_size
    pooled = []
    for channel in image:
        for rows in channel.chunk(size, 0):
            pooled += [cell.mean() for cell in rows.chunk(size, 1)]
    hidden = branch.reduce.weight @ torch.stack(pooled)
    hidden = torch.stack([h * gate(g) for h, g in zip(hidden, branch.gate.weight @ hidden, strict=True)])
    scale = phi = None
    if branch.to_lambda is not None:
        scale = torch.stack([gate(value) for value in branch.to_lambda.weight @ hidden])
    if layer.residual is not None:
        phi = (branch.to_phi.weight @ hidden).view(layer.residual.phi_shape)
    return scale, phi


def gate(value: torch.Tensor) -> torch.Tensor:
    return torch.clamp(value + 3, 0, 6) / 3


def weight_by_loops(layer: DCDConv2d, image: torch.Tensor) -> torch.Tensor:
    """W(x) of one image from eqs. 6 to 9, one number at a time; without normalisation."""
    scale, phi = branch_by_loops(layer, image)
    out_channels, per_group, kh, kw = layer.weight.shape
    weight = torch.zeros_like(layer.weight)
    for row in range(kh):
        for column in range(kw):
            core = None if phi is None else core_by_loops(layer.residual, phi, row, column)
            for o in range(out_channels):
                for i in range(per_group):
                    total = layer.weight[o, i, row, column]
                    if scale is not None:
                        total = total * scale[o]
                    if core is not None:
                        total = total + residual_by_loops(layer, core, o, i)
                    weight[o, i, row, column] = total
    return weight


def residual_by_loops(layer: DCDConv2d, core: list, o: int, i: int) -> torch.Tensor | float:
    """One element of P core Q^T; in the direct sum of eq. 7 it is zero between channels of different blocks."""
    if layer.depthwise:
        return sum(p * sum(inner) for p, inner in zip(layer.residual.p[o], core[0], strict=True))
    blocks = len(core)
    outputs, inputs = layer.out_channels // blocks, layer.in_channels // blocks
    if o // outputs != i // inputs:
        return 0.0
    block, total = o // outputs, 0.0
    for a, p in enumerate(layer.residual.p[o]):
        for b, inner in enumerate(core[block][a]):
            total = total + p * inner * layer.residual.q[block * len(core[block]) + b, i % inputs]
    return total


def core_by_loops(residual: nn.Module, phi: torch.Tensor, row: int, column: int) -> list[list[list]]:
    """What stands between P and Q^T at one place of the kernel; Phi is the identity plus what the branch gave."""
    blocks, latent, _, elements = phi.shape
    kh, kw = residual.kernel_size
    center = row == kh // 2 and column == kw // 2
    place = row * kw + column
    core = [[[0.0] * latent for _ in range(latent)] for _ in range(blocks)]
    for g in range(blocks):
        for a in range(latent):
            for b in range(latent):
                if not hasattr(residual, "q"):  # eq. 8
                    core[g][a][b] = (phi[g, a, b, 0] + (a == b)) * residual.r[b, place]
                elif hasattr(residual, "r"):  # eq. 9, the identity at the centre
                    core[g][a][b] = sum(phi[g, a, b, e] * residual.r[e, place] for e in range(elements))
                    core[g][a][b] += center and a == b
                elif center:  # eqs. 6 and 7
                    core[g][a][b] = phi[g, a, b, 0] + (a == b)
    return core


@pytest.mark.parametrize("switches", [{}, dict(use_phi=False), dict(use_lambda=False), dict(num_blocks=2)], ids=str)
@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_it_is_the_papers_equation_forward_and_backward(arguments, switches):
    layer = layer_of(arguments, normalize=False, **switches)
    x = torch.randn(2, 6, 6, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    expected = torch.cat(
        [
            F.conv2d(
                image[None],
                weight_by_loops(layer, image),
                layer.bias,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
            for image in x
        ]
    )
    outputs = layer(x), expected
    assert torch.allclose(*outputs, rtol=0, atol=1e-12)
    seed = torch.randn_like(expected)
    for pair in zip(*(torch.autograd.grad(output, inputs, seed) for output in outputs), strict=True):
        assert torch.allclose(*pair, rtol=0, atol=1e-11)


@given(
    kind=st.sampled_from(["pointwise", "depthwise", "channel", "joint"]),
    kernel=st.sampled_from([(3, 3), (5, 3), (1, 3)]),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "reflect", "circular"]),
    out_channels=st.sampled_from([8, 16, 40]),
    switches=st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
    blocks=st.sampled_from([1, 2, 4]),
    batch=st.sampled_from([0, 1, 3]),
    bias=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_factorized_and_assembled_forms_agree(
    kind, kernel, stride, padding, dilation, mode, out_channels, switches, blocks, batch, bias
):
    """In evaluation mode, normalised, with running statistics that are not those of a fresh layer."""
    layer = DCDConv2d(
        8,
        out_channels,
        1 if kind == "pointwise" else kernel,
        stride,
        padding,
        dilation,
        8 if kind == "depthwise" else 1,
        bias,
        mode,
        use_lambda=switches[0],
        use_phi=switches[1],
        num_blocks=blocks,
        fusion="joint" if kind == "joint" else "channel",
    ).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
        for name, buffer in layer.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2.0)
        layer.eval()
        x = torch.randn(batch, 8, 11, 10, dtype=torch.float64)
        weight, shift = layer.kernel(x)
        geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        assembled = convolve_per_image(layer.pad(x), weight, shift, *geometry)
        factorized = assembled if kind == "depthwise" else layer.factorized(x)
        assert factorized.shape == assembled.shape
        assert torch.allclose(factorized, assembled, rtol=0, atol=1e-6)
        assert torch.allclose(layer(x), assembled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_gradients_pass_gradcheck(arguments):
    layer = layer_of(arguments).eval()
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)


@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_an_image_alone_is_the_same_image_in_a_batch(arguments):
    layer = layer_of(arguments).eval()
    x = torch.randn(3, 6, 6, 6, dtype=torch.float64)
    assert torch.allclose(layer(x), torch.cat([layer(image[None]) for image in x]), rtol=0, atol=1e-12)
    assert not torch.allclose(layer.branch(x)[0][0], layer.branch(x)[0][1], atol=1e-3)


@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_the_form_with_fewer_multiply_adds_is_taken(arguments, monkeypatch):
    layer = layer_of(arguments, in_channels=64, groups=64 if arguments is DEPTHWISE else 1, out_channels=64).eval()
    taken = []
    for name in ("kernel", "factorized"):
        form = getattr(layer, name)
        monkeypatch.setattr(layer, name, lambda x, name=name, form=form: taken.append(name) or form(x))
    for size in (2, 64):
        layer(torch.randn(1, 64, size, size, dtype=torch.float64))
    layer(torch.randn(2, 64, 2, 2, dtype=torch.float64))
    layer.train()(torch.randn(1, 64, 64, 64, dtype=torch.float64))
    always = ["kernel"] * 4
    assert taken == (always if layer.depthwise else ["factorized", "kernel", "factorized", "factorized"])


def test_training_normalizes_both_sides_of_phi():
    layer = layer_of(POINTWISE, out_channels=5)
    nn.init.ones_(layer.residual.norm_out.weight)
    seen = {}
    layer.residual.norm_in.register_forward_hook(lambda _, x, y: seen.update(inside=y))
    layer.residual.norm_out.register_forward_hook(lambda _, x, y: seen.update(outside=y))
    layer(torch.randn(4, 6, 5, 5, dtype=torch.float64))
    for values in seen.values():
        assert torch.allclose(values.mean((0, 2, 3)), torch.zeros(values.shape[1]).double(), atol=1e-6)
        assert torch.allclose(values.var((0, 2, 3), unbiased=False), torch.ones(values.shape[1]).double(), atol=1e-2)


@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_under_autocast_the_branch_stays_float32(arguments):
    layer = layer_of(arguments).float()
    x = torch.randn(2, 6, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        inside, y = layer.branch(x), layer(x)
    for ours, outside in zip(inside, layer.branch(x), strict=True):
        assert torch.equal(ours, outside)
    assert y.dtype == torch.bfloat16


def test_fresh_lambda_is_near_one_and_phi_near_the_identity():
    scale, phi = DCDConv2d(64, 64, 1).branch(torch.rand(4, 64, 8, 8))
    assert (scale - 1).abs().max() < 0.05
    assert phi.abs().max() < 0.05


@pytest.mark.parametrize("arguments", [POINTWISE, CHANNEL, JOINT], ids=str)
def test_a_fresh_phi_is_the_identity_whatever_the_branch_says_and_learns_to_differ(arguments):
    layer = DCDConv2d(**{"in_channels": 6, "out_channels": 6, **arguments}).double()
    x, optimizer = torch.randn(4, 6, 5, 5, dtype=torch.float64), torch.optim.SGD(layer.parameters(), lr=0.1)

    def depends_on_phi() -> bool:
        before = layer(x)
        with torch.no_grad():
            layer.branch.to_phi.weight += torch.randn_like(layer.branch.to_phi.weight)
        return not torch.allclose(layer(x), before, rtol=0, atol=1e-9)

    assert not depends_on_phi()
    (layer(x) - 1).square().sum().backward()
    optimizer.step()
    assert depends_on_phi()


def millions(maker: DCDConvs, digits: int = 2) -> float:
    """Of MobileNetV2 x0.5 with its static classifier of 1000 classes."""
    parameters = sum(parameter.numel() for parameter in MobileNetV2(0.5, maker).parameters()) + 1280 * 1000 + 1000
    return round(parameters / 1e6, digits)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(use_phi=False), 2.42),
        (dict(use_lambda=False), 2.72),
        (dict(), 2.88),
        (dict(latent_multiplier=0.25), 2.38),
        (dict(latent_multiplier=0.5), 2.45),  # 2,454,608; the paper prints 2.5
        (dict(latent_multiplier=0.75), 2.57),
        (dict(use_lambda=False, use_phi=False), 1.97),
    ],
    ids=str,
)
def test_mobilenet_v2_has_the_counted_parameters(options, expected):
    assert millions(DCDConvs(reduction=8, **options)) == expected


@pytest.mark.parametrize(("use_lambda", "published"), [(False, [2.7, 2.6, 2.5, 2.5]), (True, [2.9, 2.8, 2.7, 2.7])])
def test_table_3a_is_the_number_of_blocks(use_lambda, published):
    """All eight cells; counting the blocks in Phi alone, 2.56, 2.49 and 2.45, gives four of them."""
    options = dict(roles=["expand", "project"], reduction=8, use_lambda=use_lambda)
    assert [millions(DCDConvs(num_blocks=blocks, **options), 1) for blocks in (1, 2, 4, 8)] == published


@pytest.mark.parametrize(
    ("roles", "published"),
    [(["depthwise"], 2.4), (["expand", "project"], 2.9), (["expand", "depthwise", "project"], 3.3)],
)
def test_table_3b_is_the_roles(roles, published):
    """The paper does not give r of depthwise layers; 6 is the only one that gives all its cells."""
    assert millions(DCDConvs(roles, reduction=8, depthwise_reduction=6), 1) == published


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("groups", dict(groups=2)),
        ("fusion", dict(fusion="both")),
        ("latent_multiplier", dict(latent_multiplier=0)),
        ("latent_channels", dict(latent_channels=0)),
        ("hidden_channels", dict(hidden_channels=0)),
        ("num_blocks", dict(num_blocks=0)),
        ("reduction", dict(reduction=0)),
        ("pool_size", dict(pool_size=0)),
        ("num_blocks", dict(num_blocks=3)),
        ("latent_rule", dict(latent_rule="half")),
        ("kernel_size", dict(kernel_size=2)),
        ("kernel_size", dict(kernel_size=2, fusion="joint")),
        ("in_channels", dict(in_channels=0)),
    ],
    ids=str,
)
def test_a_bad_value_is_a_value_error_that_names_the_argument(name, arguments):
    with pytest.raises(ValueError, match=name):
        DCDConv2d(**{"in_channels": 8, "out_channels": 8, "kernel_size": 3, **arguments})


@pytest.mark.parametrize("averages", ["dropped", "kept"])
@pytest.mark.parametrize(
    ("pool_size", "size", "pooled"),
    [(2, (6, 5), True), (2, (7, 4), True), (2, (1, 9), False), (3, (7, 9), True), (3, (6, 5), False)],
)
def test_a_branch_in_a_graph_averages_as_its_layer_does(pool_size, size, pooled, averages):
    branch, forms = DCDConv2d(6, 6, 3, padding=1, pool_size=pool_size).branch, GraphForms(averages=averages)
    x = torch.randn(1, 6, *size)
    with torch.no_grad():
        expected, found = branch(x), BranchForm(branch, forms)(x)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one)
    program = torch.export.export(BranchForm(branch, forms), (x,))
    made = {str(node.target) for node in program.graph.nodes}
    assert not any(name in target for target in made for name in ("eye", "adaptive", "arange"))
    assert any("avg_pool2d" in target for target in made) == (pooled and averages == "kept")
