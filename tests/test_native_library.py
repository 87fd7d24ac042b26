"""The native layers' compiled library: whole or not there, and one for all copies of the project."""

import os
import signal
import subprocess
import sys

import pytest

from pose.models import native
from pose.models.native import NativeError, ahead, load

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


AVX2 = frozenset({"sse2", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


def test_a_library_built_ahead_is_one_that_the_processor_can_run(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "FOLDER", tmp_path)
    assert ahead.find("tiny", AVX512) is None
    (tmp_path / "tiny.avx2.so").touch()
    (tmp_path / "tiny.avx512.so").touch()
    assert ahead.find("tiny", AVX512) == tmp_path / "tiny.avx512.so"
    assert ahead.find("tiny", AVX512 - {"avx512vl"}) == tmp_path / "tiny.avx2.so"
    assert ahead.find("tiny", AVX2 - {"fma"}) is None
    assert ahead.find("tiny", frozenset()) is None  # a system that does not tell
    assert ahead.find("other", AVX512) is None  # of other sources, or another torch


def test_a_library_built_ahead_is_loaded_without_a_compiler(cache, tmp_path, monkeypatch, capsys):
    source = copy_of_the_project(tmp_path / "one", monkeypatch)
    monkeypatch.setattr(ahead, "FOLDER", tmp_path / "built")
    monkeypatch.setattr(ahead, "processor_features", lambda: AVX2)
    libraries = {native.name_of((source,), native.FLAGS): ((source,), native.FLAGS)}
    made = ahead.build_all(libraries, tmp_path / "built")
    assert [path.suffixes[0] for path in made] == [".avx512", ".avx2"]  # compiled for both, whatever this processor is
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(native.torch.ops, "load_library", lambda path: loaded.append(path))
    loaded = []
    load(source)
    assert loaded == [str(made[1])] and not cache.exists()


def test_what_cannot_be_built_ahead_is_told_and_left_out(cache, tmp_path, monkeypatch, capsys):
    source = copy_of_the_project(tmp_path / "one", monkeypatch, "no C++")
    assert ahead.build_all({"tiny": ((source,), native.FLAGS)}, tmp_path / "built") == []
    assert capsys.readouterr().err.count("no native layers ahead") == 2
    assert not list((tmp_path / "built").iterdir())
