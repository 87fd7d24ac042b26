"""Drawn people: what is annotated is what is drawn, and a seed is all a data set depends on."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from pose.datasets.synthetic.dataset import draw_image, write_annotations_only, write_dataset
from pose.datasets.synthetic.parts import Part
from pose.datasets.synthetic.people import draw_person
from pose.datasets.synthetic.poses import limb
from pose.datasets.synthetic.scenes import draw_scene
from pose.skeleton import COCO

INDEX = {name: index for index, name in enumerate(COCO.keypoints)}
WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng([3, i]), WIDTH, HEIGHT) for i in range(150)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "set"
    write_dataset(root, train_images=4, val_images=30, width=WIDTH, height=HEIGHT, seed=5)
    return root


def labeled(scenes):
    """Yields (scene, annotation, index of the person, keypoints (17, 3)) of every annotated person."""
    for scene in scenes:
        for annotation, person in zip(scene.annotations, scene.annotated, strict=True):
            yield scene, annotation, person, np.array(annotation["keypoints"]).reshape(17, 3)


def file_bytes(root: Path) -> dict:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_picture_depends_on_its_seed_alone():
    first, second, other = (draw_image(np.random.default_rng(seed), WIDTH, HEIGHT) for seed in (1, 1, 2))
    assert np.array_equal(first[0], second[0]) and first[1] == second[1]
    assert not np.array_equal(first[0], other[0]) and first[1] != other[1]
    assert first[0].shape == (HEIGHT, WIDTH, 3) and first[0].dtype == np.uint8


def test_a_set_depends_on_its_seed_alone(tmp_path):
    sizes = {"train_images": 2, "val_images": 2, "width": 96, "height": 64}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_dataset(tmp_path / name, **sizes, seed=seed)
    a, b, c = (file_bytes(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys() and all(a[name] != c[name] for name in a)


def test_a_larger_set_begins_with_the_smaller_one(dataset, tmp_path):
    write_dataset(tmp_path / "more", train_images=6, val_images=1, width=WIDTH, height=HEIGHT, seed=5)
    small, large = file_bytes(dataset), file_bytes(tmp_path / "more")
    images = [name for name in small if name.startswith("train2017")]
    assert len(images) == 4 and all(small[name] == large[name] for name in images)


def test_visible_keypoints_lie_in_the_picture_and_in_the_box(scenes):
    for _, annotation, _, keypoints in labeled(scenes):
        x, y, w, h = annotation["bbox"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= WIDTH and y + h <= HEIGHT
        inside = keypoints[keypoints[:, 2] > 0, :2]
        assert (inside >= 0).all() and (inside <= (WIDTH - 1, HEIGHT - 1)).all()
        seen = keypoints[keypoints[:, 2] == 2, :2]
        assert (seen >= (x - 0.5, y - 0.5)).all() and (seen <= (x + w - 0.5, y + h - 0.5)).all()


def test_box_and_area_are_those_of_the_visible_pixels(scenes):
    for scene, annotation, person, _ in labeled(scenes):
        rows, columns = np.nonzero(scene.owner >> 4 == person + 1)
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w - 1, y + h - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        assert annotation["area"] == len(rows)


def test_the_map_of_owners_is_what_the_picture_shows():
    """The picture is steeper along the edge of the map than along that edge moved elsewhere."""
    scene = draw_scene(np.random.default_rng(8), WIDTH, HEIGHT, max_people=1)
    mask = (scene.owner > 0).astype(np.uint8)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    gray = cv2.cvtColor(scene.image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    steepness = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    moved = np.roll(edge, (11, 17), (0, 1))
    assert steepness[edge].mean() > 2 * steepness[moved & ~edge].mean()


def test_visible_keypoints_lie_on_their_own_limb(scenes):
    limbs = {"elbow": ("UPPER_ARM", "FOREARM"), "wrist": ("FOREARM",), "ankle": ("SHIN",)}
    checked = 0
    for scene, _, person, keypoints in labeled(scenes):
        x, y = keypoints[:, :2].round().astype(int).T
        owner, part = scene.owner[y, x] >> 4, scene.owner[y, x] & 15
        seen = keypoints[:, 2] == 2
        assert (owner[seen] == person + 1).all()
        assert (part[:5][seen[:5]] == Part.HEAD).all()
        for side in ("left", "right"):
            for joint, parts in limbs.items():
                index = INDEX[f"{side}_{joint}"]
                if seen[index]:
                    assert part[index] in [Part[f"{side.upper()}_{name}"] for name in parts]
                    checked += 1
    assert checked > 300


def test_keypoints_hidden_by_others_by_things_and_by_oneself_occur_and_are_flagged(scenes):
    by_others = by_things = by_oneself = 0
    for scene, _, person, keypoints in labeled(scenes):
        x, y = keypoints[:, :2].round().astype(int).T
        owner = (scene.owner[y, x] >> 4)[keypoints[:, 2] == 1]
        by_others += ((owner > 0) & (owner != person + 1)).sum()
        by_things += (owner == 0).sum()
        by_oneself += (owner == person + 1).sum()
    assert min(by_others, by_things, by_oneself) > 20


def test_unlabeled_keypoints_are_zero_and_not_counted(scenes):
    outside = 0
    for _, annotation, _, keypoints in labeled(scenes):
        unlabeled = keypoints[keypoints[:, 2] == 0]
        assert (unlabeled == 0).all()
        assert annotation["num_keypoints"] == 17 - len(unlabeled)
        outside += len(unlabeled)
    assert outside > 50


def test_a_face_turned_away_is_not_labeled(scenes):
    away = 0
    for scene, _, person, keypoints in labeled(scenes):
        turned = scene.people[person].turned_away
        assert (keypoints[turned] == 0).all()
        away += turned[:5].sum()
    assert away > 50


@pytest.mark.parametrize(("turned", "sign"), [(0, 1), (180, -1)])
def test_left_is_at_the_right_of_a_front_view_and_at_the_left_of_a_back_view(turned, sign):
    rng = np.random.default_rng(0)
    for _ in range(60):
        person = draw_person(rng, yaw=turned + rng.uniform(-30, 30), roll=rng.uniform(-20, 20))
        x = person.keypoints[:, 0]
        assert sign * (x[INDEX["left_shoulder"]] - x[INDEX["right_shoulder"]]) > 0
        assert sign * (x[INDEX["left_hip"]] - x[INDEX["right_hip"]]) > 0


@pytest.mark.parametrize(("yaw", "near", "direction"), [(90, "right", 1), (-90, "left", -1)])
def test_a_side_view_shows_the_near_side_and_looks_ahead(yaw, near, direction):
    rng = np.random.default_rng(1)
    far = "left" if near == "right" else "right"
    for _ in range(60):
        person = draw_person(rng, yaw=yaw, roll=0.0)
        points = person.keypoints
        assert points[INDEX[f"{near}_hip"], 2] > points[INDEX[f"{far}_hip"], 2]
        ears = (points[INDEX["left_ear"], 0] + points[INDEX["right_ear"], 0]) / 2
        assert direction * (points[INDEX["nose"], 0] - ears) > 0


def test_the_face_is_seen_from_the_front_and_not_from_behind():
    rng = np.random.default_rng(2)
    face = [INDEX["nose"], INDEX["left_eye"], INDEX["right_eye"]]
    hidden = {
        yaw: np.mean([draw_person(rng, yaw=yaw, roll=0.0).turned_away[face] for _ in range(60)]) for yaw in (0, 180)
    }
    assert hidden[0] < 0.05 and hidden[180] > 0.95


@pytest.mark.parametrize("side", [1, -1])
def test_elbows_close_forward_and_knees_backward(side):
    right_angle = np.deg2rad([0, 0, 90, 0])
    upper, lower, _ = limb(right_angle, side, hinge=1)
    assert np.allclose(upper, (0, 1, 0)) and np.allclose(lower, (0, 0, 1))
    upper, lower, front = limb(right_angle, side, hinge=-1)
    assert np.allclose(upper, (0, 1, 0)) and np.allclose(lower, (0, 0, -1)) and np.allclose(front, (0, 1, 0))
    sitting = limb(np.deg2rad([90, 0, 90, 0]), side, hinge=-1)
    assert np.allclose(sitting, [(0, 0, 1), (0, 1, 0), (0, 0, 1)])
    spread = limb(np.deg2rad([0, 90, 0, 0]), side, hinge=1)
    assert np.allclose(spread[0], (side, 0, 0))


def test_pycocotools_reads_the_set(dataset):
    for split, count in (("train2017", 4), ("val2017", 30)):
        coco = CocoFile(str(dataset / "annotations" / f"person_keypoints_{split}.json"))
        assert len(coco.imgs) == count and len(coco.anns) >= count * 0.9
        assert coco.cats[1]["keypoints"] == list(COCO.keypoints)
        assert coco.cats[1]["skeleton"][0] == [16, 14]
        for record in coco.imgs.values():
            image = cv2.imread(str(dataset / split / record["file_name"]))
            assert image.shape == (record["height"], record["width"], 3) == (HEIGHT, WIDTH, 3)
        assert all(
            a["image_id"] in coco.imgs and a["iscrowd"] == 0 and a["category_id"] == 1 for a in coco.anns.values()
        )
    train = json.loads((dataset / "annotations/person_keypoints_train2017.json").read_text())
    ids = [a["id"] for a in train["annotations"]]
    assert len(set(ids)) == len(ids)


def evaluate(truth: CocoFile, moved_by: float) -> float:
    """AP of the true keypoints moved to the right by some pixels."""
    results = []
    for a in truth.anns.values():
        keypoints = np.array(a["keypoints"], float).reshape(17, 3) + (moved_by, 0, 0)
        entry = {"image_id": a["image_id"], "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": 1.0}
        results.append(entry)
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def test_the_true_keypoints_score_one(dataset):
    truth = CocoFile(str(dataset / "annotations/person_keypoints_val2017.json"))
    assert evaluate(truth, 0.0) == pytest.approx(1.0)
    assert evaluate(truth, 15.0) < 0.5


def test_detections_find_most_people_and_some_that_are_none(dataset):
    truth = CocoFile(str(dataset / "annotations/person_keypoints_val2017.json"))
    found = json.loads((dataset / "person_detection_results/synthetic_val2017_detections.json").read_text())
    true_boxes = {a["id"]: (a["image_id"], np.array(a["bbox"])) for a in truth.anns.values()}
    hit, false = set(), 0
    for entry in found:
        assert set(entry) == {"image_id", "category_id", "bbox", "score"} and 0 < entry["score"] < 1
        box = np.array(entry["bbox"])
        assert (box[:2] >= 0).all() and (box[:2] + box[2:] <= (WIDTH + 0.01, HEIGHT + 0.01)).all()
        matches = [
            i for i, (image, other) in true_boxes.items() if image == entry["image_id"] and iou(box, other) > 0.6
        ]
        hit.update(matches)
        false += not matches
    assert len(hit) > 0.85 * len(true_boxes) and false > 5


def iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = (np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    return sides.prod() / (a[2:].prod() + b[2:].prod() - sides.prod())


def test_the_second_call_draws_nothing(dataset):
    before = file_bytes(dataset)
    calls = []
    write_dataset(dataset, 4, 30, WIDTH, HEIGHT, seed=5, progress=lambda *now: calls.append(now))
    assert not calls and file_bytes(dataset) == before


def test_a_folder_that_holds_something_else_is_refused(dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("photos")
    with pytest.raises(FileExistsError, match="something other"):
        write_dataset(tmp_path, 1, 1, 64, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileExistsError, match="not of"):
        write_dataset(dataset, 4, 30, WIDTH, HEIGHT, seed=6)


def test_coco_itself_and_a_damaged_set_are_refused(tmp_path):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/person_keypoints_val2017.json").write_text(json.dumps({"info": {"year": 2017}}))
    with pytest.raises(FileExistsError, match="something other"):
        write_dataset(root, 1, 1, 64, 64)
    write_dataset(tmp_path / "set", 2, 1, 64, 64)
    next((tmp_path / "set/train2017").iterdir()).unlink()
    with pytest.raises(FileExistsError, match="missing"):
        write_dataset(tmp_path / "set", 2, 1, 64, 64)


def test_an_interrupted_call_leaves_nothing_and_an_empty_folder_is_filled(tmp_path):
    def stop(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    root = tmp_path / "set"
    root.mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, 2, 1, 64, 64, progress=stop)
    assert list(tmp_path.iterdir()) == [root] and not list(root.iterdir())
    write_dataset(root, 2, 1, 64, 64)
    assert len(list((root / "train2017").iterdir())) == 2


def test_two_processes_may_write_the_same_set(tmp_path):
    root = tmp_path / "set"
    write_dataset(root, 1, 1, 64, 64, progress=lambda done, total: write_dataset(root, 1, 1, 64, 64))
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize("wrong", [{"width": 8}, {"max_people": 0}, {"max_people": 16}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="need"):
        draw_image(np.random.default_rng(0), **{"width": 64, "height": 64, **wrong})


def test_as_many_people_as_asked_for_fit_into_the_map_of_owners():
    most = max(len(draw_scene(np.random.default_rng(i), 64, 48, max_people=15).people) for i in range(60))
    assert most == 15
    assert all(len(draw_scene(np.random.default_rng(i), 64, 48, max_people=1).people) == 1 for i in range(10))


def test_annotations_without_pictures(tmp_path):
    path = tmp_path / "many.json"
    write_annotations_only(path, images=700, persons=2000, seed=1)
    coco = CocoFile(str(path))
    assert len(coco.imgs) == 700 and len(coco.anns) == 2000
    assert {a["image_id"] for a in coco.anns.values()} == set(coco.imgs)
    for a in coco.anns.values():
        keypoints = np.array(a["keypoints"]).reshape(17, 3)
        assert a["num_keypoints"] == (keypoints[:, 2] > 0).sum() >= 1
        assert (keypoints[keypoints[:, 2] == 0] == 0).all()
        x, y, w, h = a["bbox"]
        seen = keypoints[keypoints[:, 2] > 0, :2]
        assert (seen >= (x - 1.01, y - 1.01)).all() and (seen <= (x + w, y + h)).all()
        assert x + w <= 640 and y + h <= 480 and a["area"] > 0
    again = tmp_path / "again.json"
    write_annotations_only(again, images=700, persons=2000, seed=1)
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="images >= 1"):
        write_annotations_only(path, images=0, persons=1)
