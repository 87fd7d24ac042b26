"""The sheet of drawn pictures."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_project import run_tool

__all__ = ["run_tool"]

TOOL = Path(__file__).parents[1] / "tools" / "contact_sheet.py"


def sheet(*arguments):
    command = [sys.executable, TOOL, *map(str, arguments), "--device", "cpu"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 60, 3), 40 * number + 40, np.uint8))
    return folder


def test_chance_picks_the_same_pictures_and_each_keeps_its_shape(folder, tmp_path):
    for name in ("a.png", "b.png"):
        done = sheet(folder, "--boxes", "whole", "--count", 3, "--columns", 2, "--side", 64, "--out", tmp_path / name)
        assert done.returncode == 0 and "3 pictures, 3 persons" in done.stdout, done.stderr
    first, second = (cv2.imread(str(tmp_path / name)) for name in ("a.png", "b.png"))
    assert first.shape == (128, 128, 3) and (first == second).all()
    assert (first[:10, :64] == 32).all() and (first[64:, 64:] == 0).all()  # beside a wide picture; no fourth one


@pytest.mark.parametrize(
    ("given", "arguments", "said"),
    [
        ("", ("--count", 0), "--count"),
        ("", ("--count", 1, "--out", "{}/4.png"), "4.png: is an input too"),
        ("", ("--out", "sheet.xyz"), "sheet.xyz: no suffix of an image"),
        ("", ("--out", "sheet"), "sheet: no suffix of an image"),
        ("/1.png", (), "1.png: cannot be read as a folder"),
        ("/none", (), "none: cannot be read as a folder"),
    ],
)
def test_what_cannot_be_gets_a_line(folder, tmp_path, monkeypatch, run_tool, given, arguments, said):
    monkeypatch.chdir(tmp_path)
    arguments = [str(each).format(folder) for each in arguments]
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    status, _, error = run_tool("contact_sheet.py", f"{folder}{given}", "--boxes", "whole", *arguments)
    assert status == 2 and said in error.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == there and not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_read_is_named_and_left_out(folder, tmp_path, run_tool):
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in/9.heic").write_bytes(b"no picture")
    arguments = ("--boxes", "whole", "--side", 32, "--device", "cpu", "--out", tmp_path / "sheet.png")
    status, told, error = run_tool("contact_sheet.py", tmp_path / "in", *arguments)
    assert status == 1 and "9.heic" in error and "5 pictures, 5 persons" in told
    status, _, error = run_tool("contact_sheet.py", tmp_path / "in", *arguments[:-1], tmp_path / "in/9.heic")
    assert status == 2 and (tmp_path / "in/9.heic").read_bytes() == b"no picture"
