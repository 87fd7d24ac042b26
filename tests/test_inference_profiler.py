"""Times of stages: what is inside is not counted twice, and the network is what takes the time."""

import time

import numpy as np
import pytest

from pose.config import TestSettings
from pose.inference.networks import TorchNetwork
from pose.inference.predictor import Predictor
from pose.inference.profiler import Profiler
from pose.models.pose_net import build_pose_net
from pose.skeleton import COCO


def test_inner_stages_are_taken_out_of_outer_ones():
    profiler = Profiler()
    for _ in range(2):
        with profiler("outer"):
            time.sleep(0.02)
            with profiler("inner"):
                time.sleep(0.04)
    assert profiler.seconds["outer"] == pytest.approx(0.04, abs=0.02)
    assert profiler.seconds["inner"] == pytest.approx(0.08, abs=0.02)
    assert profiler.counts == {"outer": 2, "inner": 2}
    lines = profiler.table(images=2).splitlines()
    assert lines[1].split()[0] == "inner" and lines[-1].split()[0] == "all"
    assert float(lines[-1].split()[1]) == pytest.approx(60, abs=20)


@pytest.mark.slow
def test_one_person_on_one_core_is_bounded_by_the_network():
    """DY-MobileNetV2 x0.5 Type-B with flip averaging, from the picture to keypoints."""
    dynamic = {"type": "dynamic"}
    backbone = {"type": "mobilenet_v2", "width": 0.5, "conv": dynamic}
    model = build_pose_net(backbone, {"type": "bottleneck", "conv": dynamic})
    profiler = Profiler()
    predictor = Predictor(TorchNetwork(model, COCO, (192, 256), TestSettings(), "cpu", profiler), profiler=profiler)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    predictor(image, [[100, 50, 200, 400]])
    profiler.seconds.clear()
    start = time.perf_counter()
    for _ in range(20):
        predictor(image, [[100, 50, 200, 400]])
    elapsed = time.perf_counter() - start
    assert profiler.seconds["forward"] > 0.85 * elapsed
