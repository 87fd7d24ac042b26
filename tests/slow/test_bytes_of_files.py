"""Which matrices of a file are bytes, in the runtimes whose own quantizers make them; minutes."""

import numpy as np
import pytest
import torch
from test_export import HEAD, NETWORKS, network_of, settings_of

from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.forms import BANKS, in_forms
from pose.export.registry import FORMATS
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dynamic_graph import OneImageDynamic
from pose.models.dynamic.graph_bytes import quantized_matrices

MIXED = (
    dict(type="mobilenet_v2", width=0.25, depth=0.1, conv=dict(type="dynamic", num_kernels=8)),
    dict(HEAD, conv=dict(type="dynamic", num_kernels=2, roles=["expand", "project"])),
)
DECOMPOSED = (
    dict(type="mobilenet_v2", width=0.25, depth=0.1, conv=dict(type="dcd")),
    dict(HEAD, conv=dict(type="dcd")),
)


def used_matrices(network, x):
    """Those of :func:`quantized_matrices` that the graph of an input has, by name."""
    wanted, unused = quantized_matrices(network), set()

    def told(name):
        def hook(form, inputs):
            other = "bank.weight" if form._is_constant(inputs[0]) else "whole"
            unused.add(f"{name}.{other}")

        return hook

    for name, module in network.named_modules():
        if isinstance(module, OneImageDynamic):
            module.register_forward_pre_hook(told(name))
    with torch.no_grad():
        network(x)
    return {name: matrix.detach().numpy() for name, matrix in wanted.items() if name not in unused}


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
    used = used_matrices(graph, torch.zeros(1, 3, *reversed(settings.data.input_size)))
    saved = paths["float32"].stat().st_size - paths["int8"].stat().st_size
    bytes_less, scales = (sum(part(matrix) for matrix in used.values()) for part in (lambda m: 3 * m.size, len))
    # a scale for each row, another type's name, and what runtimes write beside: nothing else has shrunk
    assert bytes_less - 40 * scales - 400 * len(used) < saved < 1.02 * bytes_less
    if name == "litert":
        from pose.export.writers.litert import fully_connected

        matrices = [matrix for _, matrix in fully_connected(paths["int8"])]
        shapes = sorted(matrix.shape for matrix in matrices if matrix.dtype == np.int8)
        assert shapes == sorted(matrix.shape for matrix in used.values())


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
