"""The examples in C++, JavaScript and Java find what Python finds, in the pixels of the picture."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from test_deploy import trained
from test_export import settings_of
from tiny import INPUT_SIZE, MODEL

from pose import Predictor
from pose.inference.exported_network import ExportedNetwork

pytest.importorskip("onnx")

from pose.export.formats import export_file  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
BOX = (7, 5, 48, 80)
"""Its crop, 1.25 times as large, is scaled by a half or so, and leaves the picture."""


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A network's file, a picture as PPM, the crops and heatmaps that Python had, and the keypoints that it found."""
    folder = tmp_path_factory.mktemp("golden")
    settings = settings_of(**MODEL)
    torch.manual_seed(1)
    with torch.no_grad():
        model = trained(settings.build_model(), 1)
    assert export_file(model, settings, folder / "pose.onnx", "onnx-single") <= 1e-4
    coarse = np.random.default_rng(0).integers(0, 255, (12, 9, 3), np.uint8)
    image = np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8)))  # (96, 72, 3) BGR
    header = f"P6\n{image.shape[1]} {image.shape[0]}\n255\n".encode()
    (folder / "me.ppm").write_bytes(header + np.ascontiguousarray(image[..., ::-1]).tobytes())
    predictor = Predictor.from_file(folder / "pose.onnx")
    recorded = []
    run = ExportedNetwork._run

    def record(network, images):
        recorded.append((images, run(network, images)[0]))
        return [recorded[-1][1].copy()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExportedNetwork, "_run", record)
        keypoints = predictor(image, boxes=[BOX]).keypoints[0]
    return folder, image, recorded, keypoints


def check(printed, keypoints):
    """Rounded pixels of the crop may turn one near-equal peak; all others must agree."""
    found = np.array([[float(value) for value in line.split()] for line in printed.splitlines()[:17]])
    near = np.abs(found[:, :2] - keypoints[:, :2]).max(1) < 1e-2
    assert near.sum() >= 16, (found, keypoints)
    np.testing.assert_allclose(found[:, 2], keypoints[:, 2], atol=5e-3)


def ran(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cpp(golden):
    openvino = Path(pytest.importorskip("openvino").__file__).parent
    compiler, libraries = shutil.which("g++"), sorted(openvino.glob("libs/libopenvino.so.*"))
    if not compiler or not libraries or not (openvino / "include").is_dir():
        pytest.skip("no C++ compiler, or openvino without its headers")
    folder, _, _, keypoints = golden
    program = folder / "pose"
    options = ["-std=c++17", "-O1", "-Wall", "-Werror", f"-I{openvino / 'include'}"]
    linked = [f"-L{openvino / 'libs'}", f"-l:{libraries[0].name}", f"-Wl,-rpath,{openvino / 'libs'}"]
    ran(compiler, *options, EXAMPLES / "cpp" / "pose.cpp", "-o", program, *linked)
    check(ran(program, folder / "pose.onnx", folder / "me.ppm", *BOX, folder / "drawn.ppm"), keypoints)
    assert (folder / "drawn.ppm").stat().st_size == (folder / "me.ppm").stat().st_size
    failed = subprocess.run([program, folder / "pose.onnx"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stderr.startswith("error: needs NETWORK")


def test_javascript(golden):
    folder = EXAMPLES / "javascript"
    if not shutil.which("node") or not (folder / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("no node, or npm install was not run in examples/javascript")
    there, _, _, keypoints = golden
    out = ran("node", folder / "pose.mjs", there / "pose.onnx", there / "me.ppm", *BOX, there / "drawn.ppm")
    check(out, keypoints)


def test_java(golden):
    if not shutil.which("javac"):
        pytest.skip("no JDK")
    folder, image, recorded, keypoints = golden
    pixels = image[..., 2].astype(">i4") << 16 | image[..., 1].astype(">i4") << 8 | image[..., 0]
    with open(folder / "replay.bin", "wb") as file:
        file.write(np.array(image.shape[1::-1], ">i4").tobytes() + pixels.astype(">i4").tobytes())
        file.write(np.array(BOX, ">f4").tobytes() + np.array(INPUT_SIZE, ">i4").tobytes())
        for crop, heatmaps in recorded:
            file.write(crop.astype(">f4").tobytes() + heatmaps.astype(">f4").tobytes())
    sources = [EXAMPLES / "java" / name for name in ("Pose.java", "Replay.java")]
    ran("javac", "-Xlint:all", "-Werror", "-d", folder, *sources)
    out = ran("java", "-cp", folder, "Replay", folder / "replay.bin")
    check(out, keypoints)
    assert float(out.splitlines()[-1].rpartition(" ")[2]) < 0.05  # three of 255 steps at most
