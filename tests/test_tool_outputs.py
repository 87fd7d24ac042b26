"""No tool writes over what it reads, or over what is no regular file: one line, exit status 2, nothing changed."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_project import ANNOTATIONS, DETECTIONS, run_tool, write_project

from pose.inference.video.files import writing_video

__all__ = ["run_tool"]

SKELETON = Path(__file__).parents[1] / "configs" / "lsp" / "skeleton.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("project"))
    shutil.copy(SKELETON, folder / "skeleton.json")
    with writing_video(folder / "video.mp4", 10) as write:
        write(np.zeros((48, 64, 3), np.uint8))
    (folder / "pictures").mkdir()
    for name in ("a.png", "b.gif"):
        (folder / "pictures" / name).write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CASES = {
    # tool, arguments before the option, the option, inputs that it may not name
    "test": ("test.py", ["tiny.py", "tiny.pth"], "--out", ["tiny.py", "tiny.pth", f"data/{ANNOTATIONS}"]),
    "test of boxes": ("test.py", ["tiny.py", "tiny.pth"], "--out", [f"data/{DETECTIONS}"]),
    "test, kept": ("test.py", ["tiny.py", "tiny.pth"], "--save-predictions", ["tiny.py", f"data/{DETECTIONS}"]),
    "export": ("export.py", ["tiny.py", "tiny.pth"], "--out", ["tiny.py", "tiny.pth"]),
    "rescore": ("rescore.py", ["saved.npz"], "--out", ["saved.npz", f"data/{ANNOTATIONS}"]),
    "convert": (
        "convert_annotations.py",
        [f"data/{ANNOTATIONS}", "--target", "skeleton.json"],
        "--out",
        [f"data/{ANNOTATIONS}", "skeleton.json"],
    ),
    "sigmas": (
        "estimate_sigmas.py",
        ["skeleton.json", f"data/{ANNOTATIONS}", f"data/{ANNOTATIONS}"],
        "--out",
        ["skeleton.json", f"data/{ANNOTATIONS}"],
    ),
}


FILE_OF_ANOTHER_KIND = {
    "test": (["tiny.py", "tiny.pth"], "--out", "other.pth"),
    "test, kept": (["tiny.py", "tiny.pth"], "--save-predictions", "other.pth"),
    "rescore": (["saved.npz"], "--out", "tiny.py"),
    "rescore, an image": (["saved.npz"], "--out", "data/val2017/{image}"),
    "calibrate": (["tiny.py", "tiny.pth"], "--out", "other.onnx"),
    "convert": ([f"data/{ANNOTATIONS}", "--to", "coco"], "--out", "tiny.py"),
    "convert, the sheet": ([f"data/{ANNOTATIONS}", "a.json"], "--write-skeleton", "tiny.py"),
    "complexity": (["tiny.py"], "--write", "tiny.py"),
    "complexity, weights": (["tiny.py"], "--write", "tiny.pth"),
    "complexity, a link": (["tiny.py"], "--write", "page.md"),
    "benchmark_data": (["tiny.py"], "--write", f"data/{ANNOTATIONS}"),
    "benchmark_training": (["tiny.py", "--steps", "1"], "--write", "tiny.py"),
    "benchmark_evaluation": (["--repeats", "1"], "--write", "tiny.py"),
    "soak_demo": (["--frames", "2"], "--write", "tiny.py"),
    "soak_page": (["--requests", "2"], "--write", "tiny.py"),
}


@pytest.mark.parametrize("name", FILE_OF_ANOTHER_KIND)
def test_a_file_of_another_kind_is_never_replaced(project, tmp_path, monkeypatch, run_tool, name):
    shutil.copytree(project, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    before, option, output = FILE_OF_ANOTHER_KIND[name]
    if "saved.npz" in before:
        run_tool("test.py", "tiny.py", "tiny.pth", "--save-predictions", "saved.npz", "--out", tmp_path / "a.json")
    for other in ("other.pth", "other.onnx"):
        shutil.copy("tiny.pth", other)
    Path("page.md").symlink_to("tiny.py")
    output = output.format(image=next(Path("data/val2017").iterdir()).name)
    there = contents(tmp_path)
    tool = {"test": "test.py", "convert": "convert_annotations.py"}.get(
        name.partition(",")[0], f"{name.partition(',')[0]}.py"
    )
    status, _, error = run_tool(tool, *before, option, output)
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1 and Path(output).name in error
    assert contents(tmp_path) == there


def test_one_name_for_what_is_converted(project, tmp_path, run_tool):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    status, _, error = run_tool("convert_annotations.py", project / "data" / ANNOTATIONS, one, "--out", other)
    assert status == 2 and "give one of them" in error and not one.exists() and not other.exists()


@pytest.mark.parametrize("name", CASES)
def test_an_input_is_never_an_output(project, tmp_path, monkeypatch, run_tool, name):
    monkeypatch.chdir(project)
    tool, before, option, inputs = CASES[name]
    if tool == "rescore.py" and not Path("saved.npz").exists():
        run_tool("test.py", "tiny.py", "tiny.pth", "--save-predictions", "saved.npz", "--out", tmp_path / "a.json")
    there = contents(project)
    outputs = [Path(path) for path in inputs]
    (tmp_path / "link.json").symlink_to(project / inputs[0])
    os.link(project / inputs[-1], tmp_path / "hard.json")
    for output in [*outputs, tmp_path / "link.json", tmp_path / "hard.json", Path(os.devnull)]:
        status, _, error = run_tool(tool, *before, option, output)
        assert status == 2 and error.startswith("error: ") and error.count("\n") == 1 and output.name in error
    assert contents(project) == there and Path(os.devnull).is_char_device()


def test_a_split_never_replaces_what_is_split(project, tmp_path, run_tool):
    shutil.copy(project / "data" / ANNOTATIONS, tmp_path / "a.json")
    (tmp_path / "a_fit.json").symlink_to(tmp_path / "a.json")
    there = contents(tmp_path)
    assert run_tool("split_dataset.py", tmp_path / "a.json", "--hold-out", 1)[0] == 2
    assert contents(tmp_path) == there


@pytest.mark.parametrize(
    ("given", "link", "target"),
    [
        ("video.mp4", "keypoints.json", "video.mp4"),
        ("video.mp4", "video.mp4", "video.mp4"),
        ("pictures", "a.png", "pictures/a.png"),
        ("pictures", "keypoints.json", "tiny.pth"),
        ("pictures", "keypoints.csv", "tiny.py"),
    ],
)
def test_the_demo_never_writes_over_what_it_reads(project, tmp_path, run_tool, given, link, target):
    there = contents(project)
    (tmp_path / link).symlink_to(project / target)
    network = [project / "tiny.py", project / "tiny.pth"]
    status, _, error = run_tool("demo.py", *network, project / given, "--csv", "--out", tmp_path)
    assert status == 2 and link in error and error.count("\n") == 1
    assert contents(project) == there
    assert [file.name for file in tmp_path.iterdir()] == [link]


@pytest.mark.parametrize("tool", ["demo.py", "train.py", "check_dataset.py", "predict.py"])
def test_a_path_that_the_system_refuses_is_one_line(run_tool, tmp_path, tool):
    """Longer than a name may be: asking whether it is a file is refused already."""
    more = ["--out", tmp_path / "out"] if tool == "predict.py" else []
    status, _, error = run_tool(tool, tmp_path / ("é" * 200), *more)
    assert status == 2 and "Traceback" not in error
    assert error.startswith("error: ") and "File name too long" in error and error.count("\n") == 1


def test_the_quickstart_takes_no_unknown_option(tmp_path, monkeypatch, run_tool):
    monkeypatch.chdir(tmp_path)
    status, _, error = run_tool("quickstart.py", "--epochs", 3)
    assert status == 2 and "--epochs" in error and not any(tmp_path.iterdir())
