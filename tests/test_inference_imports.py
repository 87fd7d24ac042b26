"""A demo imports what it needs to find poses, and nothing of training."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import numpy as np
from pose import Predictor, draw_poses
from pose.inference.boxes import whole_image
image = np.zeros((60, 40, 3), np.uint8)
draw_poses(image, Predictor.from_weights(device="cpu", detector={detector}, overrides={options})(image))
print(*sorted(name for name in sys.modules if name.split(".")[0] == "pose" or name == "torchvision"))
"""

FORBIDDEN = ("pose.engine", "pose.datasets.loading", "pose.datasets.coco", "pose.export", "pose.models.native",
             "pose.models.deploy", "pose.inference.video", "pose.inference.web", "pose.commands",
             "pose.simple_baseline", "pose.published_weights", "pose.detection.settings", "pose.detection.targets",
             "pose.detection.canvas", "pose.detection.labels")  # fmt: skip
"""Training and its loader, whose workers are ended by a handler at exit, and what only some demos use."""


FOLDING = ("pose.models.native", "pose.models.deploy", "pose.models.deploy.folding")
"""What a detector is folded with, but no native layers."""


def imported(detector, native=False):
    """The project's modules that a picture with this detector needs, and whether torchvision is among the others."""
    root = Path(__file__).resolve().parents[1]
    code = CODE.format(detector=detector, options={"test.native": native})
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_demo_imports_nothing_of_training():
    found = imported("whole_image")
    assert "pose.prediction" in found and "pose.inference.predictor" in found
    assert [name for name in found if name.startswith(FORBIDDEN) and name != FOLDING[0]] == []
    assert len(found) <= 50  # a third of them parts of networks; 56 were those with the trainer


def test_a_demo_with_the_detector_imports_nothing_of_training_and_no_torchvision():
    """Which costs seconds to import."""
    found = imported("None")
    assert "pose.detection.detector" in found and "torchvision" not in found
    assert [name for name in found if name.startswith(FORBIDDEN) and name not in FOLDING] == []
    assert len(found) <= 58


def test_native_layers_bring_their_inference_alone(native_layers):
    found = imported("whole_image", native=True)
    assert "pose.models.native.inference.layers" in found
    assert not any(name.startswith("pose.models.native.training") for name in found)
