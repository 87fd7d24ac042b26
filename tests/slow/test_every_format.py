"""Networks with every kind of layer, converted for every runtime that is installed, and in 8 bits: minutes."""

import numpy as np
import pytest
import torch
from test_export import HEAD, NETWORKS, network_of, settings_of

from pose.errors import MissingExtra
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.registry import FORMATS
from pose.runtimes.files import open_file


@pytest.mark.slow
@pytest.mark.parametrize("network", ["narrow", "condconv"])
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.writer])
def test_a_network_is_written_and_answers_the_same(tmp_path, name, network):
    settings = settings_of(*NETWORKS[network])
    path = tmp_path / f"pose{FORMATS[name].suffix}"
    try:
        difference = export_file(network_of(settings), settings, path, name)
    except MissingExtra as error:
        pytest.skip(str(error))
    except ExportError as error:  # without a channel residual, as docs/deployment.md says
        assert (name, network) == ("native", "condconv") and "has no native form" in str(error)
        return
    assert all(part.exists() for part in FORMATS[name].paths(path))
    assert difference is None and not FORMATS[name].checked or difference <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.writer and "int8" in kind.banks])
def test_a_dynamic_network_with_a_bank_of_8_bits_answers_nearly_the_same(tmp_path, name):
    settings = settings_of(*NETWORKS["narrow"])
    model, sizes = network_of(settings), {}
    try:
        for bank in ("float32", "int8"):
            path = tmp_path / f"{bank}{FORMATS[name].suffix}"
            export_file(model, settings, path, name, bank=bank)
            sizes[bank] = sum(part.stat().st_size for part in FORMATS[name].paths(path))
    except MissingExtra as error:
        pytest.skip(str(error))
    assert sizes["int8"] < sizes["float32"]
    width, height = settings.data.input_size
    x = torch.randn(2, 3, height, width)
    with torch.no_grad():
        expected = model(x).numpy()
    found = open_file(path)(x.numpy())[0]
    assert abs(found - expected).max() > 1e-4  # it is of 8 bits
    assert ((found - expected) ** 2).mean() < 0.01 * expected.var()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.writer and kind.int8])
def test_a_static_network_of_8_bits_answers_nearly_the_same(tmp_path, name):
    settings = settings_of(dict(type="mobilenet_v2", width=0.25, depth=0.1), HEAD)
    model, path = network_of(settings), tmp_path / f"pose{FORMATS[name].suffix}"
    width, height = settings.data.input_size
    crops = torch.randn(16, 3, height, width)
    try:
        export_file(model, settings, path, name, calibration_crops=crops)
    except MissingExtra as error:
        pytest.skip(str(error))
    with torch.no_grad():
        expected = model(crops).numpy()
    found = open_file(path)(crops.numpy())[0]
    assert abs(found - expected).max() > 1e-4  # it is of 8 bits
    assert ((found - expected) ** 2).mean() < 0.02 * expected.var()
    if name == "litert":  # with a last layer in 8 bits there are at most 256 levels
        assert len(np.unique(found)) > 1000
