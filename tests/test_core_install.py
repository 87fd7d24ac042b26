"""What runs without the extras: predictions of an exported network; what does not says which extra it needs."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_project import MODEL

from pose.config import make_settings
from pose.errors import EXTRAS as EXTRA_LIBRARIES

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "quickstart.py"
EXTRAS = ("torch", "torchvision", "mmengine", "mmcv", "pycocotools", "tensorboard", "onnx", "flask", "matplotlib")

ABSENT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def without(tmp_path):
    """Runs code in a process, and a folder with a picture, where some modules are not installed."""
    cv2.imwrite(str(tmp_path / "me.png"), np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))

    def run(names, code):
        whole = ABSENT.format(names=set(names)) + code
        return subprocess.run([sys.executable, "-c", whole], cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network's ONNX file."""
    pytest.importorskip("onnx")
    from pose.export.onnx_file import export_onnx

    path = tmp_path_factory.mktemp("onnx") / "pose.onnx"
    settings = make_settings(dict(model=MODEL, data=dict(input_size=(32, 64))))
    export_onnx(settings.build_model(), settings, path)
    return path


def tool(name, *arguments):
    """Code that runs a tool."""
    path = str(ROOT / "tools" / f"{name}.py")
    return f"sys.argv = {[name, *map(str, arguments)]!r}\nrunpy.run_path({path!r}, run_name='__main__')"


def test_an_exported_network_predicts_and_is_drawn_without_the_extras(without, exported, tmp_path):
    library = (
        "import cv2, pose\n"
        f"poses = pose.Predictor.from_onnx({str(exported)!r})(cv2.imread('me.png'))\n"
        "assert poses.keypoints.shape == (1, 17, 3)\n"
    )
    done = without(EXTRAS, library + tool("demo", exported, "me.png"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "poses" / "me.png").is_file()
    assert len(json.loads((tmp_path / "poses" / "keypoints.json").read_text())) == 1


@pytest.mark.parametrize(
    ("absent", "name", "arguments", "extra"),
    [
        ("torch", "train", [CONFIG], "train"),
        ("torch", "test", [CONFIG, "best.pth"], "train"),
        ("torch", "export", [CONFIG, "best.pth"], "train"),
        ("torch", "demo", [CONFIG, "best.pth", "me.png"], "train"),
        ("torch", "demo", ["me.png"], "train"),
        ("werkzeug", "serve", [], "serve"),
    ],
)
def test_a_library_that_is_missing_is_told_in_one_line(without, absent, name, arguments, extra):
    done = without([absent], tool(name, *arguments))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert f"pip install '.[{extra}]'" in done.stderr


def test_weights_that_need_torch_say_so_to_a_program_too(without):
    done = without(
        ["torch"],
        "import pose\n"
        "from pose.errors import MissingExtra\n"
        "try:\n    pose.Predictor.from_weights()\n"
        "except MissingExtra as error:\n    print(error)\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a checkpoint needs torch") and "pip install '.[train]'" in done.stdout


def test_a_defect_of_ours_keeps_its_traceback(without):
    done = without(["pose.options", "cv2"], tool("demo", "me.png"))
    assert done.returncode == 1 and "Traceback" in done.stderr and "No module named 'cv2'" in done.stderr


def test_every_tool_tells_which_extra_it_lacks(without):
    """With no extra installed a tool shows its help, or says in one line what to install; none has a traceback."""
    tools = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
    code = "import io, contextlib\n" + "".join(
        f"sys.modules.pop('pose.missing_libraries', None)\n"  # as in a fresh process
        f"sys.excepthook = sys.__excepthook__\n"
        f"with contextlib.redirect_stderr(io.StringIO()) as told:\n"
        f"    try:\n"
        f"        sys.argv = [{name!r}, '--help']\n"
        f"        with contextlib.redirect_stdout(io.StringIO()):\n"
        f"            runpy.run_path({str(ROOT / 'tools' / name)!r} + '.py', run_name='__main__')\n"
        f"    except SystemExit as end:\n"
        f"        status = end.code\n"
        f"    except ModuleNotFoundError:\n"
        f"        try:\n"
        f"            sys.excepthook(*sys.exc_info())\n"
        f"            status = 1\n"
        f"        except SystemExit as end:\n"
        f"            status = end.code\n"
        f"print({name!r}, status, told.getvalue().strip().replace(chr(10), ' // '), sep='\\t')\n"
        for name in tools
    )
    done = without([*EXTRA_LIBRARIES], code)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == tools
    for name, status, told in lines:
        refused = status == "2" and told.startswith("error: ") and "pip install" in told and " // " not in told
        assert refused or (status in ("0", "None") and not told), (name, status, told)
    assert sum(status == "2" for _, status, _ in lines) > 10
