"""Files of exported networks that are not what they are taken for, and names that two formats would share."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from test_export_formats import MODULES, small_network, written

from pose.checkpoint import load_weights
from pose.errors import CheckpointError, OutputError
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.onnx_file import export_onnx
from pose.export.registry import FORMATS
from pose.prediction import load_network
from pose.runtimes.files import open_file
from pose.runtimes.session import details_path

__all__ = ["written"]


def test_onnx_s_refusal_names_the_part_too(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    convert = torch.onnx.export

    def export(network, *arguments, **options):
        if any(getattr(part, "out_channels", 0) > 1000 for part in network.modules()):
            raise RuntimeError("aten::thing is not supported")
        return convert(network, *arguments, **options)

    monkeypatch.setattr("torch.onnx.export", export)
    with pytest.raises(
        ExportError, match=r"exporter refuses head\.conv \(Conv2d\), alone as well .*; --format torch may"
    ):
        export_onnx(*small_network(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in MODULES if not FORMATS[name].inside])
def test_a_file_that_another_export_has_replaced_is_refused(written, tmp_path, name):  # noqa: F811
    """Its weights beside it, or all of it: ncnn would answer anything with OpenVINO's."""
    original = written(name)[2]
    parts = [part for part in FORMATS[name].paths(original) if part != details_path(original)]
    copies = [Path(shutil.copy(part, tmp_path / f"copy{part.suffix}")) for part in parts]
    path = copies[-1]
    shutil.copy(details_path(original), details_path(path))
    open_file(path)
    for copy in copies:
        whole = copy.read_bytes()
        copy.write_bytes(whole + b"0")
        with pytest.raises(CheckpointError, match=rf"{copy.name}: is not what {path.name}\.json was written with"):
            open_file(path)
        copy.write_bytes(whole)
    if len(copies) > 1:
        copies[0].unlink()
        with pytest.raises(CheckpointError, match=rf"{copies[0].name}: missing; it belongs to {path.name}"):
            open_file(path)


def test_two_formats_do_not_share_the_file_of_their_weights(tmp_path):
    (tmp_path / "a.xml").touch()
    (tmp_path / "a.bin").write_text("weights")
    with pytest.raises(OutputError, match=r"a\.bin: belongs to a\.xml; choose another name"):
        export_file(*small_network(), tmp_path / "a.param", "ncnn")
    assert (tmp_path / "a.bin").read_text() == "weights"
    default = Path("base.pth").with_suffix(FORMATS["ncnn"].default_suffix)
    assert [path.name for path in FORMATS["ncnn"].paths(default)] == [
        "base.ncnn.bin", "base.ncnn.param.json", "base.ncnn.param",
    ]  # fmt: skip


def test_a_file_of_another_network_is_not_taken_for_the_configuration_s(written):  # noqa: F811
    model, settings, path = written("torch")
    load_network(settings, path)
    other = dataclasses.replace(settings, model={**settings.model, "head": dict(type="deconv")})
    with pytest.raises(
        CheckpointError, match=r"its network is not the configuration's: head: .* and \{'type': 'deconv'"
    ):
        load_network(other, path)
    with pytest.raises(CheckpointError, match="an exported network stands for CONFIG as well"):
        load_weights(model, path)
