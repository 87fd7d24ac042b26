"""The native layers' compiled library: whole or not there, and one for all copies of the project."""

import os
import signal
import subprocess
import sys

import pytest

from pose.models import native
from pose.models.native import NativeError, load

SOURCE = 'extern "C" int pose_test() { return %d; }\n'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    if not native.available():  # built where it always is
        pytest.skip("no compiler")
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    return folder / "pose_native"


def copy_of_the_project(folder, monkeypatch, source=SOURCE % 1):
    (folder / "inference").mkdir(parents=True)
    (folder / "inference" / "tiny.cpp").write_text(source)
    monkeypatch.setattr(native, "FOLDER", folder)
    return folder / "inference" / "tiny.cpp"


def test_two_copies_of_the_project_share_a_library_and_other_sources_get_their_own(
    cache, tmp_path, monkeypatch, capsys
):
    load(copy_of_the_project(tmp_path / "one", monkeypatch))
    load(copy_of_the_project(tmp_path / "two", monkeypatch))
    assert len(list(cache.glob("*.so"))) == 1 and capsys.readouterr().err.count("compiling") == 1
    load(copy_of_the_project(tmp_path / "three", monkeypatch, SOURCE % 2))
    assert len(list(cache.glob("*.so"))) == 2
    assert not [path for path in cache.iterdir() if path.is_dir()]  # nothing of the builds stays


def test_what_does_not_compile_leaves_no_library(cache, tmp_path, monkeypatch):
    with pytest.raises(NativeError, match="compiler"):
        load(copy_of_the_project(tmp_path / "one", monkeypatch, "no C++"))
    assert not list(cache.glob("*.so"))


def test_a_build_that_was_killed_is_no_hindrance_to_the_next(cache, tmp_path, monkeypatch):
    source = copy_of_the_project(tmp_path / "one", monkeypatch)
    wait = f"import pose.models.native as n, pathlib, time; n.FOLDER = pathlib.Path({str(source.parent.parent)!r})\n"
    wait += (
        "import torch.utils.cpp_extension as c\nc.load = lambda *a, **k: (print('in', flush=True), time.sleep(60))\n"
    )
    wait += f"n.load(pathlib.Path({str(source)!r}))"
    process = subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"in\n"  # it holds the lock, and its folder is there
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    load(source)
    assert len(list(cache.glob("*.so"))) == 1
