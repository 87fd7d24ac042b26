"""What each format can be asked for, what quantized files must keep, and files that take their names together."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_project import run_tool, write_project  # noqa: F401
from test_export import HEAD, MODEL, network_of, settings_of

from pose.errors import DataError, MissingExtra, OutputError
from pose.export import installed
from pose.export.errors import ExportError
from pose.export.formats import export_file, saving
from pose.export.installed import check_installed
from pose.export.int8 import ap_test, quantize
from pose.export.measured_networks import take_part
from pose.export.onnx_file import export_onnx
from pose.export.proof import CHECKED_CROPS, check_quantized, hold_out
from pose.export.registry import FORMATS, check_request
from pose.export.writers import native
from pose.options import OptionError
from pose.runtimes.session import NetworkSession

STATIC = dict(type="mobilenet_v2", width=0.1, depth=0.1)


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("torch", dict(int8=True), "--format torch: has no 8 bits; --int8 is for onnx, openvino, litert, native"),
        ("onnx", dict(int8=True, output="keypoints"), "--format onnx: --int8 is for heatmaps; leave --output out"),
        ("openvino", dict(int8=True, dynamic=True), "--int8 is for static networks there, for dynamic ones in native"),
        ("torch", dict(bank="int8"), "--format torch: has no bank of int8; --bank int8 is for onnx, openvino, litert"),
        ("ncnn", dict(bfloat16=True), "--format ncnn: --bfloat16 is for native"),
        (
            "mnn",
            dict(output="keypoints"),
            "--format mnn: gives heatmaps; keypoints are for onnx, onnx-single",
        ),
        ("onxn", {}, "unknown 'onxn'.*onnx"),
    ],
)
def test_what_a_format_cannot_be_names_what_can(name, asked, told):
    with pytest.raises(OptionError, match=told):
        check_request(name, **asked)


def test_what_a_format_can_be_passes():
    for name, kind in FORMATS.items():
        for bank in kind.banks:
            assert check_request(name, bank=bank, bfloat16=kind.bfloat16) is kind
        if kind.int8:
            assert check_request(name, int8=True, dynamic=False) is kind
    assert check_request("native", int8=True, bank="int8", dynamic=True).int8


def test_options_that_change_nothing_are_refused(tmp_path, run_tool):  # noqa: F811
    project = write_project(tmp_path)
    arguments = ["export.py", project / "tiny.py", project / "tiny.pth"]
    for options, told in (
        (["--int8-test", 3], "--int8-test: is for --int8 and --bank; leave it out"),
        (["--format", "native", "--runtime", "openvino"], "--runtime: is for --format onnx"),
        (["--web-detector", "none"], "--web-detector: is for --format web"),
    ):
        status, _, error = run_tool(*arguments, *options)
        assert status == 2 and told in error
    assert not list(project.glob("*.onnx"))


def test_what_is_not_installed_is_told_before_the_test_set_is_looked_for(tmp_path, run_tool, monkeypatch):  # noqa: F811
    project, find = write_project(tmp_path), importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ai_edge_litert" else find(name))
    monkeypatch.setitem(installed.MODULES, "litert", ["ai_edge_litert"])
    options = ["--format", "litert", "--bank", "int8", "--cfg-options", "data.root=elsewhere"]
    status, _, error = run_tool("export.py", project / "tiny.py", project / "tiny.pth", *options)
    assert status == 2 and "--format litert needs ai_edge_litert, which is not installed" in error
    assert "pip install '.[litert]'" in error


@pytest.mark.parametrize(
    ("name", "option", "quantizer", "extra"),
    [
        ("litert", "--bank", "ai_edge_quantizer", "litert"),
        ("litert", "--int8", "ai_edge_quantizer", "litert"),
        ("executorch", "--bank", "torchao", "executorch"),
        ("openvino", "--int8", "nncf", "nncf"),
    ],
)
def test_what_rounds_is_asked_for_with_the_rest(monkeypatch, name, option, quantizer, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == quantizer else module)
    check_installed(name)
    with pytest.raises(MissingExtra, match=rf"{option} of --format {name} needs {quantizer}.*\.\[{extra}\]"):
        check_installed(name, [option])


def answering(change):
    """A session of a network whose answers are changed."""
    return lambda path, threads: NetworkSession(lambda images: [change(np.copy(images))], {}, False, False, False)


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda x: x + 0.2 * np.random.default_rng(0).standard_normal(x.shape).astype(np.float32), True),
        (lambda x: np.concatenate([x[:, :-1], 0 * x[:, -1:]], 1), False),  # a keypoint that is never answered
        (lambda x: np.concatenate([np.full_like(x[:, :1], np.nan), x[:, 1:]], 1), False),
    ],
    ids=["rounded", "one keypoint dead", "no number"],
)
@pytest.mark.parametrize("crops", [None, torch.randn(9, 3, 16, 8)], ids=["noise", "crops"])
def test_a_quantized_file_answers_for_each_keypoint(monkeypatch, change, passes, crops):
    monkeypatch.setattr("pose.export.proof.open_file", answering(change))
    if passes:
        check_quantized("a.onnx", torch.nn.Identity(), (8, 16), crops)
        return
    with pytest.raises(ExportError, match=r"a\.onnx: quantized, the heatmaps of keypoint [02] differ"):
        check_quantized("a.onnx", torch.nn.Identity(), (8, 16), crops)


@pytest.mark.parametrize(("count", "checked"), [(2, 1), (5, 2), (16, 8), (72, 8)])
def test_crops_are_held_out(count, checked):
    crops = torch.arange(count)
    held, others = hold_out(crops)
    assert held.tolist() == list(range(checked)) and others.tolist() == list(range(checked, count))


def test_one_crop_cannot_be_held_out():
    with pytest.raises(ExportError, match="two persons, one to set ranges and one to check them: got 1"):
        hold_out(torch.zeros(1, 3, 64, 32))


@pytest.mark.parametrize("name", ["onnx", "native"])
def test_a_file_of_8_bits_is_checked_by_crops_that_set_no_ranges(tmp_path, monkeypatch, name):
    settings, crops = settings_of(STATIC, HEAD), torch.randn(20, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    made, home = [], "onnx_file" if name == "onnx" else "formats"
    place = "pose.export.int8.quantize" if name == "onnx" else "pose.export.writers.native.write_int8"
    write = quantize if name == "onnx" else native.write_int8

    def watched(*arguments):
        made.extend(value for value in arguments if isinstance(value, torch.Tensor) and len(value) > 1)
        return write(*arguments)

    monkeypatch.setattr(place, watched)
    monkeypatch.setattr(f"pose.export.{home}.check_quantized", lambda *arguments: made.append(arguments[-1]))
    if name == "onnx":
        export_onnx(network_of(settings), settings, tmp_path / "a.onnx", calibration_crops=crops)
    else:
        export_file(network_of(settings), settings, tmp_path / "a.native", name, calibration_crops=crops)
    calibrating, checked = made
    assert torch.equal(calibrating, crops[CHECKED_CROPS:]) and torch.equal(checked, crops[:CHECKED_CROPS])


def test_a_file_of_8_bits_without_a_last_layer_is_not_written(tmp_path, monkeypatch):
    settings, crops = settings_of(STATIC, HEAD), torch.randn(4, 3, 64, 32)
    monkeypatch.setattr("pose.export.proof.MOST_CHANGED", 0.9)  # random weights keep less than trained ones

    def spoiled(file, crops):
        made = quantize(file, crops)
        for value in made.graph.initializer:
            if value.name.startswith("head.final.weight"):
                value.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(value), value.name))
        return made

    export_onnx(network_of(settings), settings, tmp_path / "a.onnx", calibration_crops=crops)
    monkeypatch.setattr("pose.export.int8.quantize", spoiled)
    with pytest.raises(ExportError, match=r"b\.onnx: quantized, the heatmaps of keypoint"):
        export_onnx(network_of(settings), settings, tmp_path / "b.onnx", calibration_crops=crops)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize(("network", "file", "passes"), [(0.4, 0.396, True), (0.4, 0.5, True), (0.4, 0.394, False)])
def test_the_files_own_ap_decides(tmp_path, monkeypatch, network, file, passes):
    """By half a point of what the network has, whichever is measured first."""
    model = torch.nn.Identity()
    monkeypatch.setattr("pose.export.int8.take_part", lambda *arguments: None)
    monkeypatch.setattr("pose.export.int8.ExportedModule", lambda settings, path: str(path))
    measured = {model: network, "a.onnx": file}
    monkeypatch.setattr("pose.export.int8.average_precision", lambda module, settings, part: measured[module])
    with ap_test(model, settings_of(STATIC, HEAD), 2) as test:
        if passes:
            assert test(Path("a.onnx")) == (network, file)
            return
        with pytest.raises(ExportError, match=r"a\.onnx: quantized, AP falls from 0\.4000 to 0\.3940 on up to 2 p"):
            test(Path("a.onnx"))


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        ('{"images": []}', "no annotation file of COCO's format .*annotations"),
        ('{"images": [], "annotations": [{"id": 1}]}', "no annotation file of COCO's format .*image_id"),
        ('{"images": [], "annotations": []}', "no person with keypoints"),
    ],
)
def test_a_test_set_that_cannot_be_used_is_told_by_its_name(tmp_path, contents, told):
    (tmp_path / "test.json").write_text(contents)
    with pytest.raises(DataError, match=rf"test\.json: .*{told}"):
        take_part(tmp_path / "test.json", ".", 5, tmp_path / "part.json")


def test_files_that_belong_together_get_their_names_together_or_none(tmp_path, monkeypatch):
    parts = [tmp_path / name for name in ("a.bin", "a.xml.json", "a.xml")]
    for part in parts[:2]:
        part.write_text("before")
    replace, count = os.replace, iter(range(9))

    def full(old, new):
        if Path(new) == parts[1] and "new" in Path(old).read_text() and next(count) == 0:
            raise OSError(28, "No space left on device")
        replace(old, new)

    monkeypatch.setattr("os.replace", full)
    for attempt in range(2):
        try:
            with saving(parts[-1], parts) as made:
                for part in parts:
                    (made.parent / part.name).write_text("new")
        except OutputError:
            assert attempt == 0
            assert [part.read_text() for part in parts[:2]] == ["before"] * 2 and not parts[2].exists()
            assert len(list(tmp_path.iterdir())) == 2
    assert [part.read_text() for part in parts] == ["new"] * 3 and len(list(tmp_path.iterdir())) == 3


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(ExportError, match=f"^{tmp_path}/a.xml: is no good$"), saving(tmp_path / "a.xml", []) as made:
        raise ExportError(f"{made}: is no good")


def test_openvino_reports_to_nobody(tmp_path):
    """Importing it sends a report and keeps an identifier at home: see findings/openvino_import_reports.sh."""
    pytest.importorskip("openvino")
    line = "import sys; from pose.runtimes.openvino import library; library(); print(sys.modules['openvino_telemetry'])"
    run = subprocess.run(
        [sys.executable, "-c", line],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "None" and not (tmp_path / "intel").exists()


def test_a_dynamic_network_is_refused_before_it_is_converted(tmp_path):
    settings = settings_of(MODEL["backbone"], MODEL["head"])
    with pytest.raises(OptionError, match="--int8 is for static networks there"):
        export_file(
            network_of(settings), settings, tmp_path / "a.xml", "openvino", calibration_crops=torch.zeros(1, 3, 64, 32)
        )
