"""The predictor: the test tool's figures, batches, the right picture for every crop."""

import cv2
import numpy as np
import pytest
import torch
from spot import BrightestSpot, spot
from torch import nn

from pose.config import TestSettings
from pose.datasets.coco import read_detections
from pose.datasets.crops import CropDataset
from pose.datasets.loading.loader import make_loader
from pose.engine.predict import predict
from pose.errors import CheckpointError, DataError
from pose.evaluation.oks import nms_per_image, rescore
from pose.inference.networks import TorchNetwork
from pose.inference.predictor import Predictor
from pose.skeleton import COCO


def test_keypoints_are_in_pixels_of_the_picture():
    poses = Predictor(BrightestSpot())(spot(70, 30), boxes=[[50, 10, 60, 60]])
    assert poses.keypoints.shape == (1, 1, 3)
    assert poses.keypoints[0, 0, :2] == pytest.approx((70, 30), abs=4)
    assert poses.keypoints[0, 0, 2] == poses.scores[0] == 1
    assert poses.boxes.tolist() == [[50, 10, 60, 60]]


def test_without_boxes_the_whole_picture_is_one():
    poses = Predictor(BrightestSpot())(spot(100, 80))
    assert poses.boxes.tolist() == [[0, 0, 120, 90]]
    assert poses.keypoints[0, 0, :2] == pytest.approx((100, 80), abs=4)


def test_crops_of_several_pictures_share_batches_and_find_back():
    network = BrightestSpot()
    images = [spot(20, 20), spot(100, 70), spot(60, 45), spot(90, 10, value=200)]
    boxes = [[[0, 0, 60, 60], [0, 0, 40, 40]], [[70, 40, 50, 50]], [], None]
    poses = Predictor(network, batch_size=3, nms="off")(images, boxes)
    assert network.batches == [3, 1]
    assert [len(one) for one in poses] == [2, 1, 0, 1]
    for one, (x, y) in zip(poses, ((20, 20), (100, 70), (60, 45), (90, 10)), strict=True):
        assert one.keypoints[:, 0, :2] == pytest.approx(np.tile((x, y), (len(one), 1)), abs=5)
    assert poses[3].scores[0] == pytest.approx(200 / 255)


def test_box_scores_count_and_doubles_go():
    poses = Predictor(BrightestSpot())(spot(40, 40), [[10, 10, 60, 60, 0.4], [10, 10, 60, 60, 0.8], [0, 0, 9, 9, 1]])
    assert poses.sources.tolist() == [1, 2]
    assert poses.scores.tolist() == pytest.approx([0.8, 0])
    assert poses.box_scores.tolist() == [0.8, 1]
    kept = Predictor(BrightestSpot(), nms="off", rescore=False)(spot(40, 40), [[10, 10, 60, 60, 0.4]] * 2)
    assert kept.scores.tolist() == [0.4, 0.4]


def test_paths_arrays_and_the_detector(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), spot(70, 30))
    predictor = Predictor(BrightestSpot(), detector=lambda image: [[50, 10, 60, 60, 0.5]])
    by_path, by_array = predictor([tmp_path / "a.png", spot(70, 30)])
    assert by_path.keypoints.tolist() == by_array.keypoints.tolist()
    assert predictor(str(tmp_path / "a.png")).scores.tolist() == [0.5]
    assert predictor([]) == []
    assert [len(one) for one in predictor(np.stack([spot(70, 30)] * 3))] == [1, 1, 1]


def test_keypoints_count_from_the_corner_of_the_upright_picture(tmp_path):
    """Stored lying on its side; upright the spot is at (30, 100) of 90 x 120."""
    image = pytest.importorskip("PIL.Image")
    upright = spot(30, 100, width=90, height=120)
    stored = image.fromarray(cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    poses = Predictor(BrightestSpot())(tmp_path / "a.jpg")
    assert poses.boxes.tolist() == [[0, 0, 90, 120]]
    assert poses.keypoints[0, 0, :2] == pytest.approx((30, 100), abs=4)


def test_what_cannot_be_used_is_named(tmp_path):
    predictor = Predictor(BrightestSpot())
    cv2.imwrite(str(tmp_path / "a.png"), spot(70, 30))
    with pytest.raises(DataError, match=r"a\.png.*outside"):
        predictor(tmp_path / "a.png", [[500, 0, 9, 9]])
    with pytest.raises(DataError, match=r"none\.png"):
        predictor(tmp_path / "none.png")
    for wrong in (np.zeros(9, np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), 7):
        with pytest.raises(DataError, match="picture"):
            predictor([wrong])
    with pytest.raises(DataError, match="as many"):
        predictor([spot(1, 1)], [])


@pytest.fixture(scope="module")
def small_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 17, 9, 4, 4), nn.ReLU())
    return TorchNetwork(model, COCO, (192, 256), TestSettings(), "cpu")


def test_the_same_persons_as_the_test_tool(shared_data, small_network):
    """Real pictures, detected boxes, flip averaging, rescoring and suppression: both ways agree."""
    sample = shared_data / "coco_sample"
    annotations = sample / "annotations/person_keypoints_val2017.json"
    boxes = sample / "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
    persons, _ = read_detections(boxes, annotations, COCO)
    persons = persons.take(persons.image_index < 6)
    dataset = CropDataset(persons, sample / "val2017", COCO, (192, 256))
    expected = predict(small_network.model, make_loader(dataset, 64, 0, train=False), TestSettings(), "cpu")
    scores = rescore(expected.box_scores, expected.keypoints[..., 2])
    kept = nms_per_image(expected.image_ids, expected.keypoints, scores, expected.areas, COCO.sigmas)

    names = [sample / "val2017" / name.decode() for name in persons.file_names[:6]]
    images = [cv2.imread(str(name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) for name in names]
    given = np.column_stack([persons.boxes, persons.box_scores])
    poses = Predictor(small_network)(images, [given[persons.image_index == row] for row in range(6)])
    order = kept[np.argsort(persons.image_index[kept], kind="stable")]
    assert len(order) == sum(map(len, poses)) > 20
    np.testing.assert_allclose(np.concatenate([one.keypoints for one in poses]), expected.keypoints[order], atol=1e-4)
    np.testing.assert_allclose(np.concatenate([one.scores for one in poses]), scores[order], atol=1e-6)


def test_answers_that_are_no_numbers_are_refused():
    class Damaged(BrightestSpot):
        def __call__(self, crops):
            points, scores = super().__call__(crops)
            return points, np.full_like(scores, np.nan)

    with pytest.raises(CheckpointError, match="NaN"):
        Predictor(Damaged())(spot(70, 30))


def test_ten_persons_in_one_picture_are_one_batch():
    network = BrightestSpot()
    Predictor(network)(spot(40, 40), [[row * 10, 0, 10, 80] for row in range(10)])
    assert network.batches == [10]
