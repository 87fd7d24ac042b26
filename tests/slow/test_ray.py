"""examples/ray_poses.py on a local Ray: the rows are those of the predictor."""

import os
import runpy
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose import Predictor
from pose.inference.boxes import whole_image

os.environ.update(RAY_agent_register_timeout_ms="300000", RAY_raylet_start_wait_time_s="300")  # a busy machine
ray = pytest.importorskip("ray.data")
parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WEIGHTS = "lsp_small"


def test_ray_data_finds_what_the_predictor_finds(tmp_path):
    import ray

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 4, 3), np.uint8)
        cv2.imwrite(str(pictures / f"{number}.png"), cv2.resize(pixels, (80, 120)))
    (pictures / "bad.png").write_bytes(b"no picture")
    make = partial(Predictor.from_weights, WEIGHTS, device="cpu", detector=whole_image)
    example = runpy.run_path(str(ROOT / "examples" / "ray_poses.py"))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        assert example["find"](str(pictures), str(tmp_path / "found"), make) == 7
    finally:
        ray.shutdown()
    rows = {Path(row["image"]).name: row for row in parquet.read_table(tmp_path / "found").to_pylist()}
    assert "not a picture" in rows["bad.png"]["error"]
    predictor = make()
    for number in range(6):
        poses = predictor(pictures / f"{number}.png")
        found = np.reshape(rows[f"{number}.png"]["keypoints"], poses.keypoints.shape)
        np.testing.assert_allclose(found, poses.keypoints, rtol=1e-3, atol=1e-2)
