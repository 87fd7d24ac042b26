"""Which matrices of a file are bytes, in the runtimes whose own quantizers make them; minutes."""

import operator
from collections import Counter

import numpy as np
import pytest
import torch
from test_export import HEAD, NETWORKS, network_of, settings_of

from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.forms import BANKS, FORMS, in_forms
from pose.export.registry import FORMATS
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.graph_bytes import quantized_matrices

MIXED = (
    dict(type="mobilenet_v2", width=0.25, depth=0.1, conv=dict(type="dynamic", num_kernels=8)),
    dict(HEAD, conv=dict(type="dynamic", num_kernels=2, roles=["expand", "project"])),
)
DECOMPOSED = (
    dict(type="mobilenet_v2", width=0.25, depth=0.1, conv=dict(type="dcd")),
    dict(HEAD, conv=dict(type="dcd")),
)


@pytest.mark.slow
@pytest.mark.parametrize("network", [NETWORKS["narrow"], NETWORKS["condconv"], MIXED, DECOMPOSED])
@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_the_matrices_that_layers_name_are_bytes_and_no_others(tmp_path, name, network):
    require_or_skip(name)
    settings = settings_of(*network)
    model, paths = network_of(settings), {}
    for bank in ("float32", "int8"):
        paths[bank] = tmp_path / f"{bank}{FORMATS[name].suffix}"
        export_file(model, settings, paths[bank], name, bank=bank, forms=BANKS[name])
    graph = in_forms(deploy(model, fused=False, channels_last=False), BANKS[name]).eval()
    x = torch.zeros(1, 3, *reversed(settings.data.input_size))
    exported = torch.export.export(graph, (x,)).module().graph
    linears = {str(node.args[1].target) for node in exported.nodes if node.target == torch.ops.aten.linear.default}
    products = [set(product) & linears for product in quantized_matrices(graph)]
    assert all(len(product) == 1 for product in products)
    used = [operator.attrgetter(*product)(graph).detach().numpy() for product in products]
    saved = paths["float32"].stat().st_size - paths["int8"].stat().st_size
    assert saved > 0
    expected = Counter(matrix.shape for matrix in used)
    if name == "litert":
        from pose.export.writers.litert import fully_connected

        found = [matrix.shape for _, matrix in fully_connected(paths["int8"]) if matrix.dtype == np.int8]
    else:
        from pose.export.writers.executorch import drop_unused, round_bank

        rounded = round_bank(graph, x, paths["int8"])
        drop_unused(rounded)
        found = [tuple(value.shape) for value in rounded.state_dict().values() if value.dtype == torch.int8]
    assert Counter(found) == expected


@pytest.mark.slow
def test_every_layer_that_an_output_is_a_sum_of_is_its_last(tmp_path):
    require_or_skip("litert")
    from pose.export.writers import litert

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.one = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 1)
            self.other = torch.nn.ConvTranspose2d(4, 4, 2, 2)

        def forward(self, x):
            y = self.first(x).relu()
            return torch.cat([self.one(y) + 1, self.other(y[..., :3, :3])], 1).sigmoid()

    path = tmp_path / "sum.tflite"
    litert.write(Sum().eval(), torch.zeros(1, 3, 8, 8), path)
    assert sorted(kind for kind, _ in litert.last_layers(path)) == ["CONV_2D", "TRANSPOSE_CONV"]
    litert.write(torch.nn.Sigmoid().eval(), torch.zeros(1, 3, 8, 8), path)
    with pytest.raises(ExportError, match="its output comes from no convolution"):
        litert.last_layers(path)


def require_or_skip(name):
    """Skips a test where a format cannot be written."""
    for module in {"litert": ("litert_torch", "ai_edge_quantizer"), "executorch": ("executorch", "torchao")}[name]:
        pytest.importorskip(module)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        dict(fusion="joint"),
        dict(fusion="joint", num_blocks=2, stride=2),
        dict(groups=8, use_lambda=False),
        dict(groups=8),
        dict(use_phi=False),
    ],
    ids=str,
)
def test_litert_takes_every_kind_of_decomposed_layer(tmp_path, options):  # fmt: skip
    require_or_skip("litert")
    from pose.export.writers import litert

    torch.manual_seed(0)
    layer = DCDConv2d(8, 8, 3, padding=1, **options).eval()
    with torch.no_grad():
        for value in layer.parameters():
            value.add_(0.1 * torch.randn_like(value))
        x = torch.randn(1, 8, 10, 9)
        expected = layer(x).numpy()
        litert.write(in_forms(torch.nn.Sequential(layer.fold()), FORMS["litert"]).eval(), x, tmp_path / "a.tflite")
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(tmp_path / "a.tflite"))
    ((_, ends),) = interpreter.get_signature_list().items()
    (found,) = interpreter.get_signature_runner()(**{ends["inputs"][0]: x.numpy()}).values()
    np.testing.assert_allclose(found, expected, atol=1e-4)
