"""Files of native layers: what the checkpoint answers, without torch, and nothing that a file could break."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_project import assert_tested_alike, run_tool, write_project
from test_core_install import ABSENT, EXTRAS
from test_export import HEAD, NETWORKS, network_of, settings_of
from torch import nn

from pose import Predictor
from pose.detection.exported import ExportedDetector
from pose.errors import CheckpointError
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.native.pairs import pair_program
from pose.native.program import Step
from pose.native.program_file import add_details, load_program, save_program
from pose.native.rounding import round_program
from pose.runtimes.files import open_file
from pose.weights import shipped_detector

pytestmark = pytest.mark.usefixtures("native_layers")

__all__ = ["run_tool"]
ROOT = Path(__file__).parents[1]
CONV = dict(type="dynamic")
KINDS = {
    "dynamic": (dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=CONV), dict(HEAD, conv=CONV)),
    "type A": NETWORKS["dynamic"],
    "decomposed": (dict(type="resnet", depth=10, conv=dict(type="dcd")), dict(HEAD)),
    "squeeze": (dict(type="mobilenet_v3_small"), dict(HEAD)),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network, its settings and its file."""
    settings = settings_of(*KINDS["dynamic"])
    model, path = network_of(settings, 1), tmp_path_factory.mktemp("native") / "pose.native"
    assert export_file(model, settings, path, "native") <= 1e-4
    return model, settings, path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_is_written_and_answers_as_pytorch_at_batch_1_3_and_8(kind, tmp_path):
    settings = settings_of(*KINDS[kind])
    assert export_file(network_of(settings), settings, tmp_path / "pose.native", "native") <= 1e-4


@pytest.mark.parametrize("kind", ["joint", "lambda_only"])
def test_a_layer_that_has_no_native_form_is_named(kind, tmp_path):
    settings = settings_of(*NETWORKS[kind])
    with pytest.raises(ExportError, match=r"\w+\.\w+.* has no native form; --format onnx"):
        export_file(network_of(settings), settings, tmp_path / "pose.native", "native")
    assert not list(tmp_path.iterdir())


def test_a_picture_becomes_poses_without_torch(written, tmp_path):
    _, _, path = written
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "me.png"), image)
    code = "import sys, cv2, pose\n"
    code += f"poses = pose.Predictor.from_file({str(path)!r})(cv2.imread('me.png'))\n"
    code += "print(poses.keypoints.tolist(), 'torch' in sys.modules or 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found, _, others = done.stdout.strip().rpartition(" ")
    assert others == "False"
    np.testing.assert_allclose(json.loads(found), Predictor.from_file(path)(image).keypoints, atol=1e-4)


def test_its_heatmaps_are_the_network_s(written):
    model, settings, path = written
    x = torch.randn(2, 3, *reversed(settings.data.input_size))
    with torch.no_grad():
        expected = model(x).numpy()
    session = open_file(path)
    assert session.metadata.skeleton == settings.skeleton()
    np.testing.assert_allclose(session(x.numpy())[0], expected, atol=1e-5)
    assert session(np.zeros((0, *x.shape[1:]), np.float32))[0].shape == (0, *expected.shape[1:])


def test_steps_and_details_come_back_as_they_were(tmp_path):
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    inner = Step("static", (1, 2), (matrix, None))
    steps = [Step("begin", shortcut=(inner,)), Step("dynamic", (), (matrix.T.copy(), matrix[0])), Step("end")]
    save_program(tmp_path / "a.native", steps)
    add_details(tmp_path / "a.native", {"who": "me"})
    found, details = load_program(tmp_path / "a.native")
    assert details == {"who": "me"} and [step.kind for step in found] == ["begin", "dynamic", "end"]
    assert found[0].shortcut[0].numbers == (1, 2) and found[0].shortcut[0].constants[1] is None
    np.testing.assert_array_equal(found[0].shortcut[0].constants[0], matrix)
    np.testing.assert_array_equal(found[1].constants[0], matrix.T)


@pytest.mark.parametrize(
    ("bank", "change", "version"),
    [
        (torch.float32, list, 1),
        (torch.bfloat16, list, 1),
        (torch.int8, list, 2),
        (torch.float32, pair_program, 2),
        (torch.float32, lambda steps: round_program(steps, np.ones((1, 32, 32, 3), np.float32), 9.0), 2),
        (torch.float32, lambda steps: [Step("begin", shortcut=tuple(pair_program(steps))), *steps, Step("end")], 2),
    ],
)
def test_a_file_says_the_oldest_version_that_reads_it(bank, change, version, tmp_path):
    with torch.no_grad():
        conv = nn.Sequential(nn.Conv2d(3, 8, 1), DynamicConv2d(8, 8, 1), DCDConv2d(8, 8, 1), nn.MaxPool2d(2))
        steps = deploy(conv, fused=True, bank_dtype=bank).steps()
    save_program(tmp_path / "a.native", change(steps))
    add_details(tmp_path / "a.native", {})
    with zipfile.ZipFile(tmp_path / "a.native") as archive:
        assert json.loads(archive.read("program.json"))["version"] == version
    assert len(load_program(tmp_path / "a.native")[0]) == len(change(steps))


def edited(path, to, edit):
    """A copy of a file whose program is changed."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(to, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "program.json":
                program = json.loads(content)
                changes = edit(program)
                content = json.dumps(program if changes is None else changes)
            changed.writestr(name, content)
    return to


def cut(program):
    program["steps"] = program["steps"][1:]


def larger(program):
    program["steps"][0]["numbers"][9] += 1000  # outputs


def unknown(program):
    program["steps"][0]["kind"] = "a layer of another time"


def other_version(program):
    program["version"] = 99


def absent(program):
    program["steps"][0]["constants"][0] = "7777.npy"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (cut, "takes .* channels"),
        (larger, "another size or type"),
        (unknown, "no kind of layer .*; a newer version of pose may have it"),
        (other_version, "version 99, made by a newer version of pose, and this one reads up to 2; update pose"),
        (lambda program: program | {"version": 0}, "no network of native layers"),
        (absent, "no network of native layers"),
        (lambda program: [], "no network of native layers"),
        (lambda program: {"version": 1, "steps": 3}, "no network of native layers"),
    ],
)
def test_a_file_that_was_changed_is_refused_in_a_line(written, tmp_path, edit, reason):
    path = edited(written[2], tmp_path / "changed.native", edit)
    with pytest.raises(CheckpointError, match=rf"changed\.native: .*{reason}"):
        open_file(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "broken.native").write_bytes(content)
    for name, reason in (("broken", "no network of native layers"), ("absent", "not found")):
        with pytest.raises(CheckpointError, match=rf"{name}\.native: .*{reason}"):
            open_file(tmp_path / f"{name}.native")
        with pytest.raises(CheckpointError, match=rf"{name}\.native: .*{reason}"):
            ExportedDetector(tmp_path / f"{name}.native")


def test_a_pose_network_is_no_detector(written):
    with pytest.raises(CheckpointError, match="not a person detector of this project"):
        ExportedDetector(written[2])


def test_the_tools_write_and_take_it(run_tool, tmp_path):
    project = write_project(tmp_path)
    status, said, error = run_tool("export.py", project / "tiny.py", project / "tiny.pth", "--format", "native")
    assert status == 0 and "at batch 1, 3, 8" in said, error
    assert_tested_alike(run_tool, project, "tiny.pth", "tiny.native")


def test_a_demo_by_native_files_alone_knows_no_torch(written, tmp_path, run_tool):
    if shipped_detector() is None:
        pytest.skip("no detector comes with the project")
    status, said, error = run_tool("export_detector.py", tmp_path / "person.native")
    assert status == 0 and "exported" in said, error
    street = ROOT / "data" / "sample" / "street.jpg"
    arguments = ["demo", str(written[2]), str(street), "--detector", "person.native"]
    code = ABSENT.format(names={*EXTRAS, "onnxruntime"}) + f"sys.argv = {arguments!r}\n"
    code += f"runpy.run_path({str(ROOT / 'tools' / 'demo.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "poses" / "keypoints.json").read_text())) > 0
