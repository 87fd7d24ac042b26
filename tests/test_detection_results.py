"""Boxes, of this or any other detector, and the persons that they are measured on: read by rules, or refused."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_project import run_tool
from test_orientation import marked

from pose.datasets.orientation import TURNED
from pose.detection.annotated import read_boxes, read_truth
from pose.detection.detector import PersonDetector
from pose.detection.image_cache import open_image_cache
from pose.detection.labels import Source, read_sources
from pose.detection.results import detect_data_set
from pose.detection.score import evaluate_boxes, precision_recall
from pose.errors import DataError
from pose.resources import SAMPLE
from pose.weights import shipped_detector

__all__ = ["run_tool"]

BOX = dict(image_id=1, category_id=1, bbox=[10, 10, 20, 40], score=0.9)
CATEGORIES = [dict(id=1, name="person"), dict(id=2, name="dog")]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Two images; on the first a person without an area, a crowd and a dog. No keypoints, as in COCO's instances."""
    images = [dict(id=number, file_name=f"{number}.png", width=64, height=64) for number in (1, 2)]
    annotations = [
        dict(id=1, image_id=1, category_id=1, bbox=[10, 10, 20, 40], iscrowd=0),
        dict(id=2, image_id=1, category_id=1, bbox=[40, 10, 20, 40], iscrowd=1, area=800),
        dict(id=3, image_id=1, category_id=2, bbox=[0, 0, 8, 8], iscrowd=0, area=64),
    ]
    return write(tmp_path / "truth.json", dict(images=images, annotations=annotations, categories=CATEGORIES))


def test_other_categories_are_no_persons(tmp_path: Path, truth: Path) -> None:
    persons, notices, _ = read_truth(truth)
    assert [line.partition(": ")[2].partition(":")[0] for line in notices] == [
        "1 persons without an area",
        "1 annotations of category dog are left out; persons are category person",
    ]
    others = [dict(BOX, image_id=7), dict(BOX, category_id=2, bbox=[0, 0, 8, 8])]
    boxes, left_out = read_boxes(write(tmp_path / "boxes.json", [BOX, *others]), truth)
    assert boxes == [BOX] and len(left_out) == 2  # a line for each of the others
    assert evaluate_boxes(persons, boxes)["recall"] == 1
    assert precision_recall(persons, boxes, [0.5]) == [(0.5, 1.0, 1.0)]
    whole = json.loads(truth.read_text())
    whole["annotations"][0]["num_keypoints"] = 5  # and no keypoints: a file of boxes may say so
    assert evaluate_boxes(read_truth(write(truth, whole)).file, boxes)["recall_keypoints"] == 1


def test_boxes_without_a_size_are_neither_learned_nor_looked_for(tmp_path: Path, truth: Path) -> None:
    """One without a width, one without a height and one beside the picture: counted alike, and nobody is missed."""
    whole = json.loads(truth.read_text())
    for number, box in enumerate([[5, 5, 0, 20], [5, 5, 20, 0], [64, 5, 20, 20]], 4):
        whole["annotations"].append(dict(id=number, image_id=1, category_id=1, bbox=box, iscrowd=0, area=9))
    write(truth, whole)
    told = f"{truth}: 3 boxes without a size inside their picture are left out"
    persons = read_truth(truth)
    assert told in persons.notices and [each["id"] for each in persons.file["annotations"]] == [1, 2]
    assert evaluate_boxes(persons.file, [BOX])["recall"] == 1
    labels = read_sources([Source(".", "truth.json")], tmp_path)
    assert told in labels.told and labels.boxes[0].tolist() == [[10, 10, 30, 50], [40, 10, 60, 50]]
    for image in whole["images"]:
        image.update(width=0, height=0)  # not known: nothing is beside it
    assert len(read_truth(write(truth, whole)).file["annotations"]) == 3


@pytest.mark.parametrize("area", [0, -5])
def test_a_person_of_area_0_is_looked_for_and_has_keypoints(tmp_path: Path, truth: Path, area: float) -> None:
    whole = json.loads(truth.read_text())
    whole["annotations"][0].update(area=area, keypoints=[20, 20, 2] * 17, num_keypoints=17)
    persons, notices, _ = read_truth(write(truth, whole))
    assert f"{truth}: 1 persons of area 0 or less: their boxes' areas are taken" in notices
    assert not any("looked for" in line for line in notices)
    figures = evaluate_boxes(persons, [BOX])
    assert figures["recall"] == figures["recall_keypoints"] == figures["recall_keypoints_s"] == 1
    assert evaluate_boxes(persons, [])["recall_keypoints"] == 0
    assert len(read_sources([Source(".", "truth.json")], tmp_path).boxes[0]) == 2


def test_a_truth_without_a_box_is_refused(truth: Path) -> None:
    whole = json.loads(truth.read_text())
    del whole["annotations"][0]["bbox"]
    with pytest.raises(DataError, match=r"truth.json: .*annotation 1 needs x, y, width and height as 'bbox'"):
        read_truth(write(truth, whole))


def test_recall_is_of_the_persons_alone(truth: Path) -> None:
    """The file as it is, with its dog: of one person, one is found."""
    whole = json.loads(truth.read_text())
    whole["annotations"][0]["area"] = 800
    assert precision_recall(whole, [BOX], [0.5]) == [(0.5, 1.0, 1.0)]
    assert precision_recall(whole, [dict(BOX, category_id=2)], [0.5], 7) == [(0.5, 0.0, 0.0)]


def test_persons_may_be_of_any_category(tmp_path: Path, truth: Path, run_tool) -> None:
    whole = json.loads(truth.read_text())
    whole["categories"] = [dict(id=1, name="dog"), dict(id=3, name="person"), dict(id=5, name="rider")]
    for annotation, number in zip(whole["annotations"], (3, 3, 1), strict=True):
        annotation["category_id"] = number
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((64, 64, 3), np.uint8))
    write(truth, whole)
    found = detect_data_set(lambda image: np.array([[10, 10, 20, 40, 0.9]]), truth, tmp_path)
    assert [record["category_id"] for record in found] == [3, 3]
    assert detect_data_set(lambda image: np.ones((1, 5)), truth, tmp_path, "rider")[0]["category_id"] == 5
    dogs = [dict(BOX, category_id=1, bbox=[0, 0, 8, 8])]
    boxes = write(tmp_path / "boxes.json", [*found[:1], *dogs])
    status, told, _ = run_tool("test_detector.py", "--boxes", boxes, "--annotations", truth)
    assert status == 0 and "from 0.30 on: precision 1.000, recall 1.000" in told
    status, _, told = run_tool("test_detector.py", "--boxes", boxes, "--annotations", truth, "--category", "horse")
    assert status == 2 and f"{truth}: has no category 'horse'; it has 1 ('dog'), 3 ('person')" in told
    sources = [Source(".", "truth.json")]
    assert read_sources(sources, tmp_path).boxes[0].tolist() == [[10, 10, 30, 50], [40, 10, 60, 50]]
    assert read_sources(sources, tmp_path, 1).boxes[0].tolist() == [[0, 0, 8, 8]]


def test_images_are_found_and_turned_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Named as on Windows, and annotated upright though stored sideways: wide as stored, high as annotated."""
    (tmp_path / "phone").mkdir()
    marked(tmp_path / "phone" / "a.jpg", 6)
    images = [dict(id=1, file_name="phone\\a.jpg", width=32, height=48)]
    person = dict(id=1, image_id=1, category_id=1, bbox=[16, 0, 16, 24], area=384, iscrowd=0)
    truth = write(tmp_path / "truth.json", dict(images=images, annotations=[person], categories=CATEGORIES))
    shapes = []
    detect_data_set(lambda image: shapes.append(image.shape) or np.empty((0, 5)), truth, tmp_path)
    assert shapes == [(48, 32, 3)]
    assert TURNED in capsys.readouterr().err
    labels = read_sources([Source(".", "truth.json")], tmp_path)
    cache, broken = open_image_cache(tmp_path / "cache", labels.paths, 64, labels.sizes)
    assert not broken and cache.notices == [(TURNED, str(tmp_path / "phone" / "a.jpg"))]
    x1, y1, x2, y2 = labels.boxes[0][0].astype(int)
    image = cache[0][0]
    assert image[y1:y2, x1:x2].min() > 200 and image.mean() < 100  # the bright corner, as it stands upright
    others = np.array([[30, 48]])
    with pytest.raises(DataError, match="a.jpg: picture is 48 x 32, its annotations say 30 x 48"):
        open_image_cache(tmp_path / "cache", labels.paths, 64, others)


def test_pictures_of_a_data_set_that_cannot_be_read_are_named_and_the_others_boxes_written(
    tmp_path: Path, run_tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One absent, one cut off, one of another size, and two that are read; all five alike where a figure is wanted."""
    monkeypatch.setattr(
        PersonDetector, "from_checkpoint", lambda *given: lambda image: np.array([[10, 10, 20, 40, 0.9]])
    )
    images = [dict(id=number, file_name=f"{number}.png", width=64, height=64) for number in range(1, 6)]
    truth, out = write(tmp_path / "truth.json", dict(images=images, categories=CATEGORIES)), tmp_path / "boxes.json"
    for number, side in ((2, 64), (3, 64), (4, 32), (5, 64)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((side, side, 3), np.uint8))
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:-20])
    asked = ("detect.py", "any.pth", "--annotations", truth, "--images", tmp_path, "--out", out)
    status, said, told = run_tool(*asked)
    assert status == 1 and f"{out}: 2 boxes; 3 pictures left out" in said
    assert [record["image_id"] for record in json.loads(out.read_text())] == [2, 5]
    assert [line.split(": ")[1] for line in told.splitlines()] == [str(tmp_path / f"{n}.png") for n in (1, 3, 4)]
    with pytest.raises(DataError, match=r"1\.png"):
        detect_data_set(lambda image: np.empty((0, 5)), truth, tmp_path)
    before = out.read_bytes()
    for number in (2, 5):
        (tmp_path / f"{number}.png").unlink()
    status, _, told = run_tool(*asked)
    assert status == 2 and "none of the pictures can be used, the first: " in told.splitlines()[-1]
    assert out.read_bytes() == before
    status, _, told = run_tool(*asked[:5], tmp_path / "nowhere", *asked[6:])
    assert status == 2 and told.startswith(f"error: {tmp_path / 'nowhere'}: picture folder not found")
    for number in range(1, 6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))
    assert run_tool(*asked)[:2] == (0, f"{out}: 5 boxes\n")


def test_the_tool_takes_detectors_by_name_and_by_any_file(tmp_path: Path, run_tool, monkeypatch) -> None:
    """Twice, with a folder called as the detector; the detector's own file is not written over."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        status, said, error = run_tool("detect.py", "person", SAMPLE, "--out", "person")
        assert status == 0 and "person: 3 boxes on 1 picture\n" in said, error
    boxes = Path("person", "boxes.json").read_bytes()
    shutil.copy(shipped_detector().checkpoint, "renamed.pt")
    status, _, error = run_tool("detect.py", "renamed.pt", SAMPLE, "--out", "again")
    assert status == 0 and Path("again", "boxes.json").read_bytes() == boxes, error
    status, _, error = run_tool("detect.py", "no/such.pt", SAMPLE, "--out", "again")
    assert status == 2 and error == "error: no/such.pt: detector file not found\n"
    shutil.copy("renamed.pt", "boxes.json")
    status, _, error = run_tool("detect.py", "boxes.json", SAMPLE, "--out", ".")
    assert status == 2 and "boxes.json: " in error and Path("boxes.json").stat().st_size > 1e6


def test_nothing_is_fetched_for_input_that_is_not_there(tmp_path: Path, run_tool, monkeypatch) -> None:
    monkeypatch.setattr("pose.inference.torchvision_detector.get_model", lambda *given, **more: pytest.fail("fetched"))
    nowhere = tmp_path / "nowhere.jpg"
    for asked in ([nowhere], ["--annotations", nowhere, "--images", tmp_path]):
        status, _, error = run_tool("detect.py", "ssdlite320_mobilenet_v3_large", *asked, "--out", tmp_path / "a.json")
        assert status == 2 and str(nowhere) in error


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(image_id=1.5), "record 0 has 1.5 as image_id, not a whole number"),
        (dict(image_id=2**63), "has 9223372036854775808 as image_id, not a whole number of 64 bits"),
        (dict(bbox=[1, 2, 3]), r"record 0 \(picture 1\) has \[1, 2, 3\] as bbox, not x, y, width, height"),
        (dict(bbox=[[1], [2], [3], [4]]), "as bbox, not x, y, width, height"),
        (dict(bbox=[1, 2, float("nan"), 4]), "has no size"),
        (dict(score=float("nan")), "no finite number as score"),
        (dict(score=None), "no finite number as score, but None"),
        (dict(score=[0.5]), r"no finite number as score, but \[0.5\]"),
        (dict(image_id=7), "none of its 1 boxes is on a picture"),
    ],
)
def test_boxes_that_are_none_are_refused(tmp_path: Path, truth: Path, changed: dict, said: str) -> None:
    with pytest.raises(DataError, match=f"boxes.json: .*{said}"):
        read_boxes(write(tmp_path / "boxes.json", [{**BOX, **changed}]), truth)


@pytest.mark.parametrize("content", [{}, 5, None, "text", [5], ["text"], [[1]], [{}]])
def test_a_file_that_holds_no_boxes_is_refused(tmp_path: Path, truth: Path, content: object, run_tool) -> None:
    boxes = write(tmp_path / "boxes.json", content)
    status, _, error = run_tool("test_detector.py", "--boxes", boxes, "--annotations", truth)
    assert status == 2 and error.startswith(f"error: {boxes}: ") and error.count("\n") == 1


@pytest.mark.parametrize("content", [{}, 5, None, [], dict(images=None, annotations=None), dict(images=[1])])
def test_annotations_that_are_none_are_refused(tmp_path: Path, content: object, run_tool) -> None:
    wrong = write(tmp_path / "truth.json", content)
    boxes = write(tmp_path / "boxes.json", [BOX])
    status, _, error = run_tool("test_detector.py", "--boxes", boxes, "--annotations", wrong)
    assert status == 2 and error.startswith(f"error: {wrong}: ") and error.count("\n") == 1
    with pytest.raises(DataError, match="truth.json"):
        detect_data_set(lambda image: np.empty((0, 5)), wrong, tmp_path)


@pytest.mark.parametrize(
    ("image", "said"), [(dict(id=2, file_name=5), "has 5 as file_name"), (dict(id=1, file_name="b.png"), "the same id")]
)
def test_images_without_a_name_or_an_id_of_their_own_are_refused(tmp_path: Path, image: dict, said: str) -> None:
    images = write(tmp_path / "truth.json", dict(images=[dict(id=1, file_name="a.png"), image]))
    with pytest.raises(DataError, match=f"truth.json: .*{said}"):
        detect_data_set(lambda image: np.empty((0, 5)), images, tmp_path)
