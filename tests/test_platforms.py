"""Other systems than Linux, and the whole mmcv in mmcv-lite's place; each pretended in a process of its own."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from tiny import write_tiny_set

ROOT = Path(__file__).resolve().parents[1]
UNIX_ONLY = {"fcntl", "grp", "pwd", "resource", "termios"}

WINDOWS = """
import sys, multiprocessing, multiprocessing.context, os
import torch, torchvision, pycocotools.coco, mmengine, torch.utils.tensorboard  # themselves, as they are on Linux
for name in ("fork", "sched_getaffinity"):
    delattr(os, name)
for name in ("ForkContext", "ForkProcess"):
    delattr(multiprocessing.context, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
sys.modules["fcntl"] = None
"""
"""Code that takes away what Windows lacks."""


def run(code, folder):
    """What a process prints that runs the code with the tests' own modules at hand."""
    places = os.pathsep.join(map(str, (ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def outermost(tree):
    """The statements that run when a module is imported."""
    for statement in ast.iter_child_nodes(tree):
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
            yield from outermost(statement)


def test_no_module_imports_what_only_unix_has():
    for path in (ROOT / "pose").rglob("*.py"):
        for statement in outermost(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.Import):
                assert not UNIX_ONLY & {alias.name for alias in statement.names}, path
            if isinstance(statement, ast.ImportFrom):
                assert statement.module not in UNIX_ONLY, path
                assert not any(alias.name.startswith("Fork") for alias in statement.names), path


def test_every_module_is_imported_and_a_network_trained_without_what_windows_lacks(tmp_path):
    code = WINDOWS + (
        "import importlib, pkgutil\n"
        "from pathlib import Path\n"
        "import pose\n"
        "for module in pkgutil.walk_packages(pose.__path__, 'pose.'):\n"
        "    importlib.import_module(module.name)\n"
        "from pose.engine.train import train\n"
        "from tiny import tiny_settings\n"
        f"train(tiny_settings(Path({str(tmp_path)!r}), data=dict(workers=2)), Path('run'), 'cpu')\n"
    )
    write_tiny_set(tmp_path)
    assert "processes cannot be forked here" in run(code, tmp_path)
    assert (tmp_path / "run" / "last.pth").is_file() and not list((tmp_path / "run").glob("*.holder"))


def test_the_whole_mmcv_serves_as_well(tmp_path):
    """Its compiled operators, which fit one PyTorch only and are seldom whole, are not touched."""
    import mmcv

    place = Path(mmcv.__file__).parent
    stub = tmp_path / "mmcv"
    (stub / "ops").mkdir(parents=True)
    (stub / "__init__.py").write_text(
        f"__path__.append({str(place)!r})\nexec(open({str(place / '__init__.py')!r}).read())\n", encoding="utf-8"
    )
    (stub / "ops" / "__init__.py").write_text("raise ImportError('mmcv._ext was compiled for another PyTorch')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import numpy as np\n"
        "from pose.inference.video.files import VideoSource, writing_video\n"
        "with writing_video('clip.mp4', 25) as write:\n"
        "    for level in (0, 120, 240):\n"
        "        write(np.full((48, 64, 3), level, np.uint8))\n"
        "assert len(list(VideoSource('clip.mp4'))) == 3\n"
        "from pose.models.openmmlab import register_openmmlab\n"
        "register_openmmlab()\n"
        "from mmcv.cnn import ConvModule\n"
        "block = ConvModule(8, 12, 3, conv_cfg=dict(type='DynamicConv2d'))\n"
        "import mmcv\n"
        "print(mmcv.__file__, type(block.conv).__module__)\n"
    )
    said = run(code, tmp_path)
    assert str(stub) in said and "pose.models.dynamic" in said
