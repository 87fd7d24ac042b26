"""The wheel: all that the package needs is in it, and its commands work where there is no clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import pose

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel's file, built outside the clone, where an earlier build has left a module that is gone since."""
    folder = tmp_path_factory.mktemp("wheel")
    stale = folder / "build" / "lib" / "pose" / "of_an_earlier_version.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    places = ["egg_info", "--egg-base", folder, "build", "--build-base", folder / "build"]
    command = [
        sys.executable,
        "setup.py",
        "-q",
        *places,
        "bdist_wheel",
        "--dist-dir",
        folder,
        "--bdist-dir",
        folder / "b",
    ]
    environment = {**os.environ, "POSE_NATIVE_AHEAD": "0"}  # what it compiles is no matter here
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs Python code with the wheel's files for a package, outside the clone; returns the process that ended."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)

    def run(code, folder):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)

    return run


def tracked(*patterns):
    """The repository's files of these patterns."""
    return {path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern)}


def test_the_wheel_has_sources_pages_configurations_and_weights(wheel):
    listed = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    suffixes = ("py", "cpp", "h", "html", "js", "css", "typed")
    sources = tracked(*(f"pose/**/*.{suffix}" for suffix in suffixes))
    assert {path.suffix[1:] for path in sources} == set(suffixes)
    data = tracked("configs/**/*.py", "configs/**/*.json", "data/weights/*.*")
    assert len(data) > 40
    assert sources | {Path("pose", "shipped", path) for path in data} <= listed
    assert {path for path in listed if path.suffix == ".py" and "shipped" not in path.parts} <= sources
    others = {path.parts[0] for path in listed} - {"pose"}
    assert others == {f"pose-{pose.__version__}.dist-info"}  # no tests, tools or configs that get into others' way


def test_metadata_names_version_extras_and_commands(wheel):
    archive = zipfile.ZipFile(wheel)
    about = f"pose-{pose.__version__}.dist-info"
    metadata = archive.read(f"{about}/METADATA").decode()
    assert f"\nVersion: {pose.__version__}\n" in metadata
    core = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    names = {line.split()[1].partition(">")[0] for line in core}
    assert names == {"numpy", "opencv-python", "onnxruntime", "filelock", "tqdm"}
    commands = archive.read(f"{about}/entry_points.txt").decode()
    for name in ("train", "test", "demo", "predict", "export", "serve"):
        assert f"pose-{name} = pose.commands.entry:{name}\n" in commands


def test_the_demo_runs_outside_the_clone_with_the_weights_of_the_wheel(installed, tmp_path):
    cv2.imwrite(str(tmp_path / "me.png"), np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))
    code = (
        "import sys, pose\n"
        "from pose.commands.entry import demo\n"
        "from pose.config import load_settings\n"
        "from pose.resources import ROOT\n"
        "print(ROOT)\n"
        "print(load_settings('configs/coco/mobilenet_v2_x0.5_type_b_static.py').data.root)\n"
        "sys.argv = ['pose-demo', 'me.png', '--device', 'cpu']\n"
        "demo()"
    )
    done = installed(code, tmp_path)
    assert done.returncode == 0, done.stderr
    place, data, *_ = done.stdout.splitlines()
    assert Path(place).name == "shipped" and not Path(place).is_relative_to(ROOT) and data == "data/coco"
    assert (tmp_path / "poses" / "me.png").is_file() and (tmp_path / "poses" / "keypoints.json").is_file()


def test_the_citation_is_of_this_version_and_both_papers():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {pose.__version__}\n" in text
    assert "arXiv:1912.03458" in text and "arXiv:2103.08756" in text
