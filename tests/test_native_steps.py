"""Steps that no network of this project makes are refused before anything runs, by the sizes of their constants."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pose.native.program import Program, Step

pytestmark = pytest.mark.usefixtures("native_layers")


def floats(*shape):
    return np.zeros(shape, np.float32)


POINT = (1, 1, 1, 1, 0, 0, 1, 1, 3, 4, 0, 0)
DYNAMIC = (None, None, floats(3, 4), floats(4), floats(4, 48), floats(16), None)
DECOMPOSED = (
    *(floats(3, 16), floats(16, 16), floats(16, 32), floats(2, 16), floats(48)),
    *(floats(32), floats(48), floats(6), floats(16), floats(16), None),
)


def with_one(constants, index, constant):
    return (*constants[:index], constant, *constants[index + 1 :])


@pytest.mark.parametrize(
    ("kind", "numbers", "constants", "reason"),
    [
        ("static", (1 << 32, *POINT[1:]), (floats(0), floats(16)), "geometry is none"),
        ("static", (*POINT[:8], 1 << 60, *POINT[9:]), (floats(0), floats(16)), "shape is none"),
        ("static", (1024, 1024, *POINT[2:8], 1 << 20, 1 << 20, 0, 0), (floats(0), floats(16)), "kernel has"),
        ("dynamic", POINT, (None, None, floats(3, 0), floats(0), floats(0), floats(16), None), "has no kernels"),
        ("dynamic", POINT, with_one(DYNAMIC, 6, floats(1, 64)), "one row a kernel"),
        ("dynamic", POINT, with_one(DYNAMIC, 2, np.zeros((3, 4), np.int16)), "matrix in words has rows of 4"),
        ("decomposed", (*POINT[:10], 1, 0, 1), DECOMPOSED, "shape is none"),
        ("decomposed", (*POINT, 1 << 40), DECOMPOSED, "shape is none"),
        ("decomposed", (*POINT[:4], 5, 5, *POINT[6:], 1), DECOMPOSED, "odd kernel"),
        ("decomposed", (*POINT, 1), with_one(DECOMPOSED, 3, floats(0, 0)), "shape is none"),
        ("decomposed", (*POINT, 1), with_one(DECOMPOSED, 3, np.zeros((2, 16), np.int16)), "another size or type"),
    ],
)
def test_no_size_that_the_layers_would_read_past_is_taken(kind, numbers, constants, reason):
    Program([Step("static", POINT, (floats(48), floats(16)))])
    Program([Step("dynamic", POINT, DYNAMIC)])
    Program([Step("decomposed", (*POINT, 1), DECOMPOSED)])
    with pytest.raises(RuntimeError, match=rf"^step 2 \({kind}\): .*{reason}"):
        Program([Step("bilinear"), Step(kind, numbers, constants)])


def test_what_a_run_would_refuse_is_refused_by_the_shape_alone():
    layer = Step("static", POINT, (floats(48), floats(16)))
    squeeze = Step("squeeze", (), (floats(5, 2), floats(2), floats(2, 5), floats(5)))
    for steps, reason in (
        ([layer, squeeze], r"step 2 \(squeeze\): a layer takes 5 channels, got 4"),
        ([Step("begin"), layer, Step("end")], r"step 2 \(static\): a shortcut has another shape"),
        ([Step("begin"), Step("begin"), layer, Step("end"), layer, Step("end")], r"step 3 \(static\): a shortcut"),
        (
            [Step("begin", shortcut=(layer, layer)), layer, Step("end")],
            r"step 1 \(begin\): step 2 \(static\): a layer takes",
        ),
        ([Step("begin", shortcut=(Step("begin"), layer)), layer, Step("end")], r"step 1 \(begin\): a block has no end"),
        ([Step("bilinear")] * 40, r"step \d+ \(bilinear\): an image .* is too large"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            Program(steps).shape(8, 8, 3)


def test_the_step_that_does_not_fit_is_named():
    layer, none = Step("static", POINT, (floats(48), floats(16))), Step("static", POINT, (floats(48), floats(17)))
    for steps, name in (
        ([none], r"step 1 \(static\): a layer's constant 1"),
        ([Step("begin"), layer, Step("end"), Step("end")], r"step 4 \(end\): a block ends that has not begun"),
        ([layer, Step("begin", shortcut=(layer, none))], r"step 2 \(begin\): step 2 \(static\): a layer's constant 1"),
        (
            [layer, Step("static", POINT, (floats(48).astype(float),))],
            r"step 2 \(static\): a layer's constant is float32",
        ),
    ):
        with pytest.raises(RuntimeError, match=f"^{name}"):
            Program(steps)


@pytest.mark.parametrize("threads", [-1, 0, 1, 3])
def test_any_number_of_threads_gives_the_same(threads):
    images = np.random.default_rng(0).normal(size=(2, 9, 7, 3)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=48).astype(np.float32)
    program = Program([Step("static", POINT, (weight, floats(16))), Step("bilinear")])
    np.testing.assert_allclose(program.run(images, threads), program.run(images), atol=1e-6)


def test_python_threads_share_a_program():
    images = np.random.default_rng(0).normal(size=(8, 1, 33, 47, 3)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=48).astype(np.float32)
    program = Program([Step("static", POINT, (weight, floats(16))), Step("bilinear")])
    with ThreadPoolExecutor(4) as pool:
        for one, found in zip(images, pool.map(lambda x: program.run(x, 2), images), strict=True):
            np.testing.assert_array_equal(found, program.run(one, 2))


@pytest.mark.parametrize("before", [[], ["static"]])
@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_an_attention_behind_an_upsampling_sees_the_upsampled_image(kind, before):
    random = np.random.default_rng(0)
    weights = [random.normal(size=size).astype(np.float32) for size in (48, (3, 4), (4, 48))]
    dynamic = Step("dynamic", POINT, (None, None, weights[1], floats(4), weights[2], floats(16), None))
    start = [Step(name, (*POINT[:9], 3, 0, 0), (weights[0], floats(16))) for name in before]
    start = [*start, Step("begin"), *start, Step("end")] if before and kind == "bilinear" else start
    x = random.normal(size=(1, 5, 3, 3)).astype(np.float32)
    expected = Program([dynamic]).run(Program([*start, Step(kind)]).run(x))
    np.testing.assert_allclose(Program([*start, Step(kind), dynamic]).run(x), expected, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_runs_what_its_parent_ran_in_several_threads():
    code = "import os, sys, numpy as np; from pose.native.program import Program, Step\n"
    code += "program, images = Program([Step('bilinear')]), np.ones((4, 16, 16, 3), np.float32)\n"
    code += "program.run(images, 2)\n"
    code += "child = os.fork() or os._exit(program.run(images, 2).shape != (4, 32, 32, 3))\n"
    code += "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
