"""torchvision's detectors: by name, from a file, and what is said when neither can be had."""

from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from pose.errors import CheckpointError
from pose.inference.boxes import as_boxes
from pose.inference.detector import load_detector
from pose.options import OptionError

NAME = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("detector") / "detector.pth"
    torch.save(get_model(NAME, weights=None, weights_backbone=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def detector(weights):
    return load_detector(NAME, weights, threshold=0.0, device="cpu")


def test_a_detector_from_a_file_runs(detector):
    """Untrained, so that nothing can be said of its boxes but that they are inside and sorted."""
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    boxes = as_boxes(detector(image))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:4] <= (80, 60)).all()
    assert (np.diff(boxes[:, 4]) <= 0).all()


def test_persons_are_kept_as_x_y_width_height_with_their_scores(detector, monkeypatch):
    seen = []

    def model(images):
        seen.append(images[0])
        boxes = [[5.0, 5, 25, 45], [0, 0, 9, 9], [50, 20, 300, 60], [1, 1, 5, 5], [7, 7, 7, 9]]
        labels, scores = [1, 2, 1, 1, 1], [0.6, 0.99, 0.9, 0.2, 0.8]
        return [{"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}]

    monkeypatch.setattr(detector, "model", model)
    monkeypatch.setattr(detector, "threshold", 0.5)
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 2] = 255
    np.testing.assert_allclose(detector(image), [[50, 20, 30, 40, 0.9], [5, 5, 20, 40, 0.6]], atol=1e-6)
    assert seen[0].shape == (3, 60, 80) and seen[0][0].min() == 1 and seen[0][2].max() == 0  # RGB in [0, 1]


def test_what_cannot_be_had_is_named(weights, tmp_path, monkeypatch):
    with pytest.raises(OptionError, match=NAME):
        load_detector("ssdlite320_mobilenet_v3")
    with pytest.raises(CheckpointError, match=r"none\.pth"):
        load_detector(NAME, tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        load_detector(NAME, tmp_path / "cut.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth.*another network"):
        load_detector(NAME, tmp_path / "other.pth")

    def no_network(*_, **__):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(CheckpointError, match=r"cache/hub/checkpoints/ssdlite320\S+\.pth.*--detector-weights"):
        load_detector(NAME)


def test_weights_of_the_cache_are_used(weights, tmp_path, monkeypatch):
    from torchvision.models import get_model_weights

    name = get_model_weights(NAME).DEFAULT.url.rpartition("/")[2]
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(weights)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ours, theirs = load_detector(NAME, device="cpu").model.state_dict(), torch.load(weights, weights_only=True)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
