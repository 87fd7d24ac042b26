"""The native layers' compiled library: whole or not there, and one for all copies of the project."""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from small_project import write_project

from pose.inference.command_line import make_predictor
from pose.models.native import chosen
from pose.models.native.inference.layers import NativeSequence
from pose.native import ahead, library
from pose.native.library import Library, NativeError
from pose.native.program import Program, Step

SOURCE = 'extern "C" int pose_test() { return %d; }\n'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    if shutil.which(os.environ.get("CXX") or "c++") is None:
        pytest.skip("no compiler")
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    return folder / "pose_native"


def copy_of_the_project(folder, source=SOURCE % 1):
    folder.mkdir(parents=True)
    (folder / "tiny.cpp").write_text(source)
    return Library((folder / "tiny.cpp",))


def test_two_copies_of_the_project_share_a_library_and_other_sources_get_their_own(cache, tmp_path, capsys):
    one = copy_of_the_project(tmp_path / "one").built()
    assert ctypes.CDLL(str(one)).pose_test() == 1
    assert copy_of_the_project(tmp_path / "two").built() == one
    assert len(list(cache.glob("*.so"))) == 1 and capsys.readouterr().err.count("compiling") == 1
    other = copy_of_the_project(tmp_path / "three", SOURCE % 2)
    assert ctypes.CDLL(str(other.built())).pose_test() == 2
    assert replace(other, flags=("-O1",)).name() != other.name()
    assert len(list(cache.glob("*.so"))) == 2
    assert not [path for path in cache.iterdir() if path.is_dir()]  # nothing of the builds stays


def test_a_header_counts_as_a_source(tmp_path):
    tiny = copy_of_the_project(tmp_path / "one")
    before = tiny.name()
    (tmp_path / "one" / "tiny.h").write_text("// what it may include\n")
    assert tiny.name() != before


def test_what_does_not_compile_leaves_no_library(cache, tmp_path):
    with pytest.raises(NativeError, match=r"tiny\.cpp.*error.*compiler"):
        copy_of_the_project(tmp_path / "one", "no C++").built()
    assert not list(cache.glob("*.so"))


def test_without_a_compiler_it_says_so(cache, tmp_path, monkeypatch):
    tiny = copy_of_the_project(tmp_path / "one")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NativeError, match=r"no C\+\+ compiler is found"):
        tiny.built()


def test_a_build_that_was_killed_is_no_hindrance_to_the_next(cache, tmp_path):
    tiny = copy_of_the_project(tmp_path / "one")
    wait = "import pathlib, time; from pose.native.library import Library\n"
    wait += "Library.compile = lambda *a: (print('in', flush=True), time.sleep(60))\n"
    wait += f"Library((pathlib.Path({str(tiny.sources[0])!r}),)).built()"
    process = subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"in\n"  # it holds the lock, and its folder is there
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path for path in cache.iterdir() if path.is_dir()]
    tiny.built()
    assert len(list(cache.glob("*.so"))) == 1 and not [path for path in cache.iterdir() if path.is_dir()]


AVX2 = frozenset({"sse2", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


def test_a_library_built_ahead_is_one_that_the_processor_can_run(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "FOLDER", tmp_path)
    assert ahead.find("tiny", AVX512) is None
    (tmp_path / "tiny.avx2.so").touch()
    (tmp_path / "tiny.avx512.so").touch()
    assert ahead.find("tiny", AVX512) == tmp_path / "tiny.avx512.so"
    (tmp_path / "tiny.avx512_bf16.so").touch()
    assert ahead.find("tiny", AVX512 | {"avx512_bf16"}) == tmp_path / "tiny.avx512.so"
    newest = AVX512 | {"avx512_bf16", "avx512_vnni"}
    assert ahead.find("tiny", newest) == tmp_path / "tiny.avx512_bf16.so"
    (tmp_path / "tiny.amx.so").touch()
    assert ahead.find("tiny", newest | {"amx_tile", "amx_int8"}) == tmp_path / "tiny.avx512_bf16.so"
    assert ahead.find("tiny", newest | {"amx_tile", "amx_int8", "amx_bf16"}) == tmp_path / "tiny.amx.so"
    (tmp_path / "tiny.avx512_vnni.so").touch()
    (tmp_path / "tiny.avx_vnni.so").touch()
    assert ahead.find("tiny", AVX512 | {"avx512_vnni"}) == tmp_path / "tiny.avx512_vnni.so"
    assert ahead.find("tiny", AVX2 | {"avx_vnni"}) == tmp_path / "tiny.avx_vnni.so"
    assert ahead.find("tiny", AVX512 - {"avx512vl"}) == tmp_path / "tiny.avx2.so"
    assert ahead.find("tiny", AVX2 - {"fma"}) is None
    assert ahead.find("tiny", frozenset()) is None  # a system that does not tell
    assert ahead.find("other", AVX512) is None  # of other sources, or another torch


def test_a_library_built_ahead_is_taken_without_a_compiler(cache, tmp_path, monkeypatch):
    tiny = copy_of_the_project(tmp_path / "one")
    monkeypatch.setattr(ahead, "FOLDER", tmp_path / "built")
    monkeypatch.setattr(ahead, "processor_features", lambda: AVX2)
    made = ahead.build_all([tiny], tmp_path / "built")
    assert [path.suffixes[0][1:] for path in made] == list(ahead.LEVELS)  # whatever this processor is
    assert sorted(path.name for path in (tmp_path / "built").iterdir()) == sorted(path.name for path in made)
    monkeypatch.setenv("PATH", "")
    assert tiny.built() == made[-1] and not cache.exists()


def test_what_cannot_be_built_ahead_is_told_and_left_out(cache, tmp_path, capsys):
    tiny = copy_of_the_project(tmp_path / "one", "no C++")
    assert ahead.build_all([tiny], tmp_path / "built") == []
    assert capsys.readouterr().err.count("no native layers ahead") == len(ahead.LEVELS)
    assert not list((tmp_path / "built").iterdir())


def test_a_file_that_is_no_library_is_named(cache, monkeypatch):
    cache.mkdir(parents=True)
    broken = cache / "broken.so"
    broken.write_bytes(b"half a library")
    monkeypatch.setattr(Library, "built", lambda self: broken)
    library.load_inference.cache_clear()
    try:
        with pytest.raises(NativeError, match=r"broken\.so: cannot be loaded"):
            library.load_inference()
    finally:
        library.load_inference.cache_clear()


def test_it_is_made_and_run_without_torch(cache):
    code = "import sys, numpy as np; from pose.native.program import Program, Step\n"
    code += "y = Program([Step('bilinear')]).run(np.ones((1, 2, 3, 4), np.float32))\n"
    code += "print(y.shape, y.min(), y.max(), 'torch' in sys.modules)"
    own = {key: value for key, value in os.environ.items() if key != "TORCH_EXTENSIONS_DIR"}  # the person's own
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stdout.split(") ") == ["(1, 4, 6, 4", "1.0 1.0 False\n"]


def test_steps_that_are_none_are_refused_before_anything_runs(native_layers):
    geometry = (1, 1, 1, 1, 0, 0, 1, 1)
    weight, bias = np.zeros((1, 3 * 16), np.float32), np.zeros(16, np.float32)
    good = Step("static", (*geometry, 3, 4, 0, 0), (weight, bias))
    Program([good])
    for steps, reason in (
        ([Step("unknown")], "no kind of layer is called unknown"),
        ([Step("static", (*geometry, 3, 4, 0), (weight, bias))], "12 numbers and 2 constants, got 11 and 2"),
        ([Step("static", (*geometry, 3, 20, 0, 0), (weight, bias))], "another size or type"),
        ([Step("static", (*geometry, 3, 4, 0, 9), (weight, bias))], "shape is none"),
        ([Step("static", (0, *geometry[1:], 3, 4, 0, 0), (weight, bias))], "geometry is none"),
        ([Step("static", good.numbers, (weight, None))], "constant 1 is missing"),
        ([Step("static", good.numbers, (weight.astype(np.float64), bias))], "float32, int16 or int8"),
        ([good, Step("end")], "has not begun"),
        ([Step("begin"), Step("end")], "ends with a convolution"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            Program(steps)
    with pytest.raises(RuntimeError, match="a block has no end"):
        Program([Step("begin"), good]).run(np.zeros((1, 2, 2, 3), np.float32))


def test_who_draws_takes_them_where_nothing_has_to_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "FOLDER", tmp_path / "ahead")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(library, "find_compiler", lambda: "c++")
    assert [chosen(wanted, "cpu") for wanted in (None, True, False)] == [False, True, False]
    assert chosen(None, "cpu", may_compile=True) and not chosen(None, "cuda", may_compile=True)
    monkeypatch.setattr(library, "find_compiler", lambda: None)
    assert not chosen(None, "cpu", may_compile=True)
    kept = library.INFERENCE._kept()
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert chosen(None, "cpu") and not chosen(False, "cpu") and not chosen(None, "cuda")


@pytest.mark.parametrize(("written", "native"), [("None", True), ("False", False), ("True", True)])
def test_a_video_is_drawn_by_them_unless_the_configuration_says_otherwise(tmp_path, monkeypatch, written, native):
    monkeypatch.setattr(
        "pose.models.native.chosen", lambda wanted, device, may_compile=False: may_compile if wanted is None else wanted
    )
    project = write_project(tmp_path)
    config = project / "tiny.py"
    config.write_text(config.read_text() + f"\ntest = dict(native={written})\n")
    arguments = argparse.Namespace(
        config=str(config), checkpoint=str(project / "tiny.pth"), cfg_options=[], device="cpu", box_threshold=None,
        detector=None, boxes=None, weights=None,
    )  # fmt: skip
    predictor = make_predictor(arguments, may_compile=True)
    assert predictor.native is native and isinstance(predictor.network.model, NativeSequence) is native
