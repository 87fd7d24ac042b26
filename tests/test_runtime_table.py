"""The table of runtimes: measured in turns, what is refused left out, of networks whose answers mean something."""

import runpy
from dataclasses import replace

import pytest
import torch
from test_export import HEAD, INPUT_SIZE, MODEL, network_of, settings_of

from pose.export import runtime_table
from pose.export.errors import ExportError
from pose.export.forms import FORMS
from pose.export.measured_networks import Network, random_network
from pose.export.registry import FORMATS
from pose.export.runtime_table import measure, rows
from pose.models.dynamic.graph_forms import COMPUTED
from pose.resources import ROOT


def test_a_network_with_random_weights_answers_with_heatmaps():
    settings = settings_of(dict(type="mobilenet_v2", width=0.1, conv=dict(type="dcd")), HEAD)
    heatmaps = random_network(settings)(torch.randn(1, 3, INPUT_SIZE[1], INPUT_SIZE[0]))
    assert 0.03 < heatmaps.std() < 0.3  # else a difference to PyTorch would be nothing as well


def test_networks_are_measured_in_turns_and_what_is_refused_is_left_out(tmp_path, monkeypatch):
    settings = settings_of(**MODEL)
    plain = Network(network_of(settings), settings, trained=False)
    other = replace(plain, forms=COMPUTED._replace(linear="convolution"))
    write, told = runtime_table.write_file, []

    def refusing(network, folder, name, stem):
        if stem == "refused":
            raise ExportError("no such layer")
        return write(network, folder, name, stem)

    monkeypatch.setattr(runtime_table, "write_file", refusing)
    networks = {"first": plain, "refused": plain, "other": other}
    found = measure(networks, "onnx-single", tmp_path, 2, 1, refused=lambda key, error: told.append((key, str(error))))
    assert list(found) == ["first", "other"] and told == [("refused", "no such layer")]
    assert found["first"].ratio == 1 and found["other"].difference <= 1e-4
    assert [row[:3] for row in rows("onnx-single", "ONNX Runtime 1", found, {})] == [
        ("ONNX Runtime 1", "onnx-single", "first"),
        ("ONNX Runtime 1", "onnx-single", "other"),
    ]
    with pytest.raises(ExportError, match="no such layer"):
        measure({"refused": plain}, "onnx-single", tmp_path, 2, 1, refused=lambda key, error: None)


def test_every_form_of_one_image_can_be_compared():
    tool = runpy.run_path(str(ROOT / "tools" / "benchmark_export.py"))
    wanted = {FORMS[FORMATS[name].forms] for name in tool["OF_ONE_IMAGE"] if FORMATS[name].forms} | {
        FORMS["onnxruntime"]
    }
    assert wanted <= set(tool["CANDIDATES"]["base"].values()) and len(wanted) > 3
