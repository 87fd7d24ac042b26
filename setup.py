from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "fast-eval": ["faster-coco-eval>=1.6"],
    "export": ["onnx>=1.16", "onnxruntime>=1.18"],
    "openvino": ["openvino>=2024.4"],  # to time exported networks in it
    "plots": ["matplotlib>=3.8"],
    "compare": ["matplotlib>=3.8", "scipy>=1.11"],
    "serve": ["flask>=3.0"],
    "native": ["ninja>=1.11"],  # with a C++ compiler: networks as native calls on a CPU
}
TEST = ["pytest>=8", "hypothesis>=6.100", "ruff>=0.6", "selenium>=4.15"]

setup(
    name="pose",
    version="0.1.0",
    description="Light-weight human pose estimation with dynamic convolution, on COCO keypoints",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=find_packages(include=["pose", "pose.*"]),
    package_data={"": ["*.cpp", "*.h", "*.html", "*.js", "*.css"]},
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "opencv-python>=4.8",
        "pycocotools>=2.0.8",
        "mmcv-lite>=2.1",
        "mmengine>=0.10.4",
        "tensorboard>=2.14",
        "tqdm>=4.65",
    ],
    extras_require={**EXTRAS, "test": [*sum(EXTRAS.values(), []), *TEST]},
)
