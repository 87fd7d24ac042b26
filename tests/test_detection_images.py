"""Labels of several data sets, canvases, letterboxes and boxes on pictures."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pose.detection.canvas import CanvasSettings, compose
from pose.detection.data import is_held_out, open_training_data
from pose.detection.dataset import CanvasDataset, collate
from pose.detection.groups import are_groups
from pose.detection.image_cache import open_image_cache
from pose.detection.labels import Source, read_sources
from pose.detection.letterbox import LONGEST_SIDE, input_size, letterbox, to_image
from pose.detection.score import best_threshold, evaluate_boxes, precision_recall
from pose.detection.settings import DataSettings
from pose.detection.targets import NOTHING, PERSON, REGION, UNSURE
from pose.errors import DataError
from pose.options import OptionError


def annotation(identity, image, box, **more):
    box = {"id": identity, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
    return {**box, **more}


@pytest.fixture
def folder(tmp_path):
    """Two data sets: one with boxes by hand and by a detector, one by a detector alone."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), rng.integers(0, 255, (60, 80 + number, 3), np.uint8))
    truth = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 80 + number, "height": 60} for number in range(6)
        ],
        "annotations": [annotation(1, 0, [10, 10, 20, 40]), annotation(2, 0, [50, 0, 20, 20], iscrowd=1)],
    }
    found = {"0.png": [[11, 10, 20, 40, 0.9], [40, 20, 20, 30, 0.7], [60, 30, 9, 20, 0.4], [0, 0, 9, 9, 0.1]]}
    (tmp_path / "a.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "b.json").write_text(json.dumps({f"{number}.png": [[5, 5, 30, 50, 0.8]] for number in range(6)}))
    return tmp_path


def test_boxes_by_hand_and_a_detectors_become_one(folder):
    sources = [Source("a", "a.json", "found.json", weight=3), Source("b", None, "b.json")]
    images = read_sources(sources, folder)
    assert len(images) == 12
    assert images.weights.tolist() == [3] * 6 + [1] * 6
    first = images.paths.index(str(folder / "a" / "0.png"))
    assert images.boxes[first].tolist() == [[10, 10, 30, 50], [50, 0, 70, 20], [40, 20, 60, 50], [60, 30, 69, 50]]
    assert images.kinds[first].tolist() == [PERSON, REGION, PERSON, UNSURE]
    with pytest.raises(DataError, match="list.json: not a file of boxes"):
        (folder / "list.json").write_text("3")
        read_sources([Source("a", "a.json", "list.json")], folder)
    with pytest.raises(DataError, match="nowhere.json"):
        read_sources([Source("a", None, "nowhere.json")], folder)
    with pytest.raises(ValueError, match="annotations or boxes"):
        Source("a")
    truth = json.loads((folder / "a.json").read_text())
    truth["annotations"][0]["bbox"] = [10, 10, 20]
    (folder / "bad.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=r"bad.json: .*annotation 1 needs x, y, width and height as 'bbox'"):
        read_sources([Source("a", "bad.json", "found.json")], folder)
    (folder / "short.json").write_text(json.dumps({"0.png": [[11, 10, 20, 40]]}))
    with pytest.raises(DataError, match="short.json: boxes of 0.png are not lists of 5 numbers"):
        read_sources([Source("a", "a.json", "short.json")], folder)


def test_found_boxes_may_be_in_cocos_results_format(folder):
    """As tools/detect.py writes them of the pictures of an annotation file."""
    found = json.loads((folder / "found.json").read_text())
    results = [
        {"image_id": int(name[0]), "category_id": 1, "bbox": box[:4], "score": box[4]}
        for name, boxes in found.items()
        for box in boxes
    ]
    (folder / "results.json").write_text(json.dumps(results))
    by_name, by_id = (read_sources([Source("a", "a.json", boxes)], folder) for boxes in ("found.json", "results.json"))
    assert by_name.paths == by_id.paths
    for one, other in zip(by_name.boxes + by_name.kinds, by_id.boxes + by_id.kinds, strict=True):
        assert np.array_equal(one, other)
    assert by_id.told == by_name.told
    again = json.loads((folder / "a.json").read_text())
    again["images"].append({**again["images"][0], "id": 9})  # one file by two ids
    (folder / "twice.json").write_text(json.dumps(again))
    twice = read_sources([Source("a", "twice.json", "results.json")], folder)
    assert np.array_equal(twice.boxes[0], by_id.boxes[0])
    with pytest.raises(DataError, match="results.json: not a file of boxes: .* results format, which needs annotation"):
        read_sources([Source("a", None, "results.json")], folder)
    (folder / "results.json").write_text(json.dumps([{**results[0], "image_id": 77}]))
    with pytest.raises(DataError, match="results.json: none of its 1 boxes is on a picture"):
        read_sources([Source("a", "a.json", "results.json")], folder)
    (folder / "results.json").write_text(json.dumps([{**results[0], "bbox": [5, 5, 1e300, 40]}]))
    with pytest.raises(DataError, match="results.json: a box of 0.png is not 5 finite numbers up to .*1e.300"):
        read_sources([Source("a", "a.json", "results.json")], folder)


def group_of(*members, box=(0, 0, 100, 100)):
    """Whether a box by hand with these boxes of a detector, score .5 each, is of a group."""
    found = np.array([[*member, 0.5] for member in members]).reshape(-1, 5)
    return are_groups(np.array([box], np.float64), found).tolist()


def test_a_box_around_several_persons_is_a_group():
    apart = [(5, 10, 20, 50), (40, 10, 20, 50), (75, 10, 20, 50)]
    assert group_of(*apart) == [True]
    assert group_of(*apart[:2]) == group_of() == [False]  # two upright persons' heads, say, or nobody else
    assert group_of(*apart[:2], box=(0, 0, 130, 100)) == [True]  # a wide box needs fewer
    assert group_of(apart[0], box=(0, 0, 230, 100)) == [True]
    assert group_of(*apart, (2, 2, 96, 96)) == [False]  # the detector sees one person there
    assert group_of(apart[0], apart[0], (7, 12, 20, 50)) == [False]  # one member, found thrice
    assert group_of(*((x, y, 90, 90) for x, y, *_ in apart)) == [False]  # as large as itself
    assert group_of(*((x + 200, y, w, h) for x, y, w, h in apart)) == [False]  # elsewhere
    assert are_groups(np.zeros((0, 4)), np.zeros((0, 5))).shape == (0,)


def test_each_number_of_the_rule_of_groups_counts():
    """One case on either side of each."""
    apart = [(5, 10, 20, 50), (40, 10, 20, 50), (75, 10, 20, 50)]
    box = np.array([[0.0, 0, 100, 100]])

    def told(*found):
        return are_groups(box, np.array(found)).item()

    members = [(*member, 0.3) for member in apart]
    assert told(*members) and not told(*members[:2], (*apart[2], 0.29))  # MEMBER
    assert told(*members, (0, 0, 100, 100, 0.39)) and not told(*members, (0, 0, 100, 100, 0.4))  # AGREED
    assert told(*members, (0, 0, 100, 49, 0.4)) and not told(*members, (0, 0, 100, 51, 0.4))  # SAME_PERSON
    assert told(*members[:2], (84, 10, 20, 50, 0.3)) and not told(*members[:2], (86, 10, 20, 50, 0.3))  # INSIDE
    assert told(*members[:2], (66, 0, 34, 100, 0.3)) and not told(*members[:2], (64, 0, 36, 100, 0.3))  # SMALLER
    assert told(*members[:2], (49, 10, 20, 50, 0.3)) and not told(*members[:2], (48, 10, 20, 50, 0.3))  # ONE_MEMBER


def test_groups_of_a_data_set_are_crowds_and_counted(folder):
    truth = json.loads((folder / "a.json").read_text())
    truth["annotations"] = [
        annotation(number, 0, box)
        for number, box in enumerate([[0, 0, 80, 60], [5, 5, 10, 30], [30, 5, 10, 30], [55, 5, 10, 30]], 1)
    ]
    (folder / "groups.json").write_text(json.dumps(truth))
    for boxes, groups, first in (({"0.png": []}, False, PERSON), ({"0.png": []}, True, REGION), ({}, True, PERSON)):
        (folder / "looked.json").write_text(json.dumps(boxes))
        images = read_sources([Source("a", "groups.json", "looked.json", groups=groups)], folder)
        assert images.kinds[images.paths.index(str(folder / "a" / "0.png"))].tolist() == [first, *[PERSON] * 3]
        told = [line for line in images.told if "groups" in line]
        assert told == groups * [
            f"{folder / 'groups.json'}: {int(first == REGION)} boxes are around groups and count as crowds",
            f"{folder / 'looked.json'}: no boxes of {6 - len(boxes)} pictures: no groups are looked for there",
        ]
    for crowd in truth["annotations"][1:3]:  # no members then, and one is too few
        crowd["iscrowd"] = 1
    (folder / "groups.json").write_text(json.dumps(truth))
    (folder / "looked.json").write_text('{"0.png": []}')
    images = read_sources([Source("a", "groups.json", "looked.json", groups=True)], folder)
    assert images.kinds[images.paths.index(str(folder / "a" / "0.png"))].tolist() == [PERSON, REGION, REGION, PERSON]
    with pytest.raises(ValueError, match="groups needs annotations and boxes"):
        Source("a", "groups.json", groups=True)


@pytest.mark.parametrize(
    "wrong", [None, float("nan"), float("inf"), 1e300, 10**400], ids=["null", "nan", "inf", "large", "huge"]
)
@pytest.mark.parametrize("place", [2, 4])
def test_numbers_of_found_boxes_that_are_none_are_refused(folder, wrong, place):
    box = [11, 10, 20, 40, 0.9]
    box[place] = wrong
    (folder / "found.json").write_text(json.dumps({"1.png": [[5, 5, 30, 50, 0.8]], "2.png": [[5, 5, 30, 50, 1], box]}))
    with pytest.raises(DataError, match=r"found.json: (a box|boxes) of 2.png (is|are) not .*5 .*numbers"):
        read_sources([Source("a", None, "found.json")], folder)


def test_found_boxes_without_a_size_are_counted(folder):
    boxes = [[5, 5, 30, 50, 0.8], [5, 5, 0, 50, 0.8], [5, 5, 30, -1, 0.8], [-9, 5, 9, 9, 0.8]]
    (folder / "found.json").write_text(json.dumps({"0.png": boxes, "1.png": []}))
    images = read_sources([Source("a", None, "found.json")], folder)
    assert images.boxes[0].tolist() == [[5, 5, 35, 55]] and images.kinds[0].tolist() == [PERSON]
    assert images.told == (f"{folder / 'found.json'}: 3 boxes without a size are left out",)


def test_the_cache_holds_the_pictures_and_names_the_broken(folder):
    paths = [str(folder / "a" / "0.png"), str(folder / "a" / "absent.png"), str(folder / "a" / "5.png")]
    cache, broken = open_image_cache(folder / "cache", paths, 40)
    assert cache.usable.tolist() == [True, False, True]
    assert len(broken) == 1
    assert "absent.png" in broken[0]
    image, scale = cache[2]
    assert image.shape == (28, 40, 3)
    assert scale == pytest.approx([40 / 85, 28 / 60])
    again, _ = open_image_cache(folder / "cache", paths, 40)
    assert np.array_equal(again[0][0], cache[0][0])
    with pytest.raises(DataError, match="absent.png"):
        open_image_cache(folder / "cache", paths[1:2], 40)


@pytest.mark.parametrize("damage", [lambda pixels: pixels.unlink(), lambda pixels: pixels.write_bytes(b"cut")])
def test_a_cache_that_is_not_whole_is_made_again_and_others_are_told(folder, damage):
    paths = [str(folder / "a" / "0.png"), str(folder / "a" / "1.png")]
    told = []
    cache, _ = open_image_cache(folder / "cache", paths, 40, tell=told.append)
    (pixels,) = (folder / "cache").glob("*.bin")
    image = cache[1][0].copy()
    damage(pixels)
    assert np.array_equal(open_image_cache(folder / "cache", paths, 40, tell=told.append)[0][1][0], image)
    assert told == []
    for _ in range(2):
        open_image_cache(folder / "cache", paths[:1], 40, tell=told.append)
    assert len(told) == 1 and pixels.name in told[0] and "delete what no training needs" in told[0]


def test_too_few_images_to_hold_one_out_are_told(folder):
    def settings(held_out, annotations="a.json"):
        sources = (dict(images="a", annotations=annotations),)
        return DataSettings(str(folder), sources, str(folder / "cache"), held_out=held_out)

    assert len(open_training_data(settings(6)).held_out_rows) == 1
    with pytest.raises(DataError, match=r"6 usable pictures to learn from and 0 held out of 6.*data.held_out=50"):
        open_training_data(settings(50))
    truth = json.loads((folder / "a.json").read_text())
    (folder / "gone.json").write_text(
        json.dumps({**truth, "images": [{**truth["images"][0], "file_name": "0none.png"}, *truth["images"][1:2]]})
    )
    with pytest.raises(DataError, match="0 usable pictures to learn from and 1 held out of 2"):
        open_training_data(settings(2, "gone.json"))


def test_a_picture_stays_held_out_when_others_come_and_in_every_data_set_that_names_it(folder):
    b, a = dict(images="b", boxes="b.json"), dict(images="a", annotations="a.json")
    settings = DataSettings(str(folder), (b,), str(folder / "cache"), held_out=3)
    alone = open_training_data(settings)
    both = open_training_data(replace(settings, sources=(a, b)))
    of_b = str(folder / "b")
    paths = [[data.images.paths[row] for row in data.held_out_rows] for data in (alone, both)]
    names = [{path for path in own if path.startswith(of_b)} for own in paths]
    assert names[0] == names[1] and 0 < len(names[0]) < 6
    twice = open_training_data(replace(settings, sources=(b, b)))
    assert len(twice.held_out_rows) == 2 * len(alone.held_out_rows)
    named, placed = (open_training_data(replace(settings, held_out=4, held_out_by=by)) for by in ("name", "place"))
    assert named.held_out_rows.tolist() == [4, 5]
    assert placed.held_out_rows.tolist() == [3]  # every fourth, as trainings of before had it
    folders = [is_held_out(f"/data/{number}/rgb.png", "/data", 2) for number in range(100)]
    assert 20 < sum(folders) < 80  # a folder a picture
    assert folders == [is_held_out(f"elsewhere/{number}/rgb.png", "elsewhere", 2) for number in range(100)]
    held_out = [is_held_out(f"/pictures/{number}.jpg", "/pictures", 50) for number in range(20_000)]
    assert 340 <= sum(held_out) <= 460  # 400 of 20,000, within three deviations


@pytest.mark.parametrize("seed", range(20))
def test_a_box_lies_on_the_canvas_where_its_pixels_lie(seed):
    def take(rng):
        image = np.zeros((200, 300, 3), np.uint8)
        image[60:140, 100:220] = 255
        return image, np.array([[100, 60, 220, 140.0]]), np.array([PERSON])

    settings = CanvasSettings(grids=(1.0,), scale=(0.5, 1.2), gain=0.0, contrast=0.0, gray=0.0)
    canvas, boxes, kinds = compose(take, (256, 192), settings, np.random.default_rng(seed))
    rows, columns = np.nonzero(canvas[..., 0] > 127 + 64)
    assert kinds.tolist() == [PERSON]
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes[0].tolist() == pytest.approx(seen, abs=1.5)


def test_a_person_cut_off_is_doubtful_then_gone():
    def take(rng):
        boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 4.0], [300, 0, 400, 100]])
        return np.zeros((100, 100, 3), np.uint8), boxes, np.full(3, PERSON)

    kinds, shares = [], []
    for seed in range(60):
        settings = CanvasSettings(grids=(1.0,), scale=(3.0, 3.0), aspect=1.0, kept=0.5, doubtful=0.1)
        _, boxes, kind = compose(take, (64, 64), settings, np.random.default_rng(seed))
        assert (boxes >= 0).all() and (boxes <= 64).all()
        assert len(kind) <= 2  # the third is nowhere on the picture
        kinds += kind.tolist()
        shares += ((boxes[:, 2:] - boxes[:, :2]).prod(1) / 192**2).tolist()
    assert set(kinds) == {UNSURE}  # a 64 x 64 canvas holds a ninth of the first, and the second is 4 pixels high
    assert max(shares) == pytest.approx(1 / 9, rel=0.01)


def test_canvases_depend_on_the_seed_alone_and_gray_fills_the_rest(folder):
    data = open_training_data(
        DataSettings(
            root=str(folder), sources=({"images": "b", "boxes": "b.json"},), cache=str(folder / "c"), held_out=3
        )
    )
    assert data.held_out_rows.tolist() == [2, 5]
    make = [
        CanvasDataset(data.images, data.cache, data.train_rows, 4, (64, 96), CanvasSettings(), seed)
        for seed in (1, 1, 2)
    ]
    for place in ((0, 0), (3, 2)):
        canvases = [dataset[place][0] for dataset in make]
        assert canvases[0].shape == (96, 64, 3)
        assert np.array_equal(canvases[0], canvases[1])
        assert not np.array_equal(canvases[0], canvases[2])
    batch = collate([make[0][0, row] for row in range(4)])
    assert batch.images.shape == (4, 96, 64, 3)
    assert batch.boxes.shape[:2] == batch.kinds.shape
    assert (batch.boxes[batch.kinds == NOTHING] == 0).all()
    truth = data.truth(data.held_out_rows)
    assert [image["id"] for image in truth["images"]] == [2, 5]
    assert truth["annotations"][0]["bbox"] == pytest.approx([5, 5, 30, 50])


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (640, 427), (500, 333), (64, 64), (3000, 200), (33, 900)])
def test_the_input_fits_its_area_and_a_box_comes_back_exactly(size):
    area = 352 * 256
    width, height = input_size(*size, area)
    assert width * height <= area
    assert width % 32 == height % 32 == 0
    assert max(width, height) <= LONGEST_SIDE
    image = np.zeros((size[1], size[0], 3), np.uint8)
    pixels, scale = letterbox(image, area)
    assert pixels.shape == (height, width, 3)
    assert scale[0] == pytest.approx(scale[1], rel=0.05)
    boxes = np.array([[1, 2, size[0] - 3, size[1] - 4.5, 0.7]])
    drawn = boxes.copy()
    drawn[:, :4] *= np.tile(scale, 2)
    back = to_image(drawn, scale, image.shape)
    assert back[0] == pytest.approx([1, 2, size[0] - 4, size[1] - 6.5, 0.7])
    outside = np.array([[-50, -50, -1, -1, 0.5], [-1e4, -1e4, 1e4, 1e4, 0.4]])
    assert to_image(outside, scale, image.shape).tolist() == [[0, 0, *size, 0.4]]


def test_letterboxed_pixels_lie_where_the_scale_says():
    image = np.zeros((480, 640, 3), np.uint8)
    image[120:360, 200:520] = 255
    pixels, scale = letterbox(image, 352 * 256)
    rows, columns = np.nonzero(pixels[: round(480 * scale[1]), : round(640 * scale[0]), 0] > 127)
    assert [columns.min(), columns.max() + 1] == pytest.approx([200 * scale[0], 520 * scale[0]], abs=0.6)
    assert [rows.min(), rows.max() + 1] == pytest.approx([120 * scale[1], 360 * scale[1]], abs=0.6)


def test_figures_are_cocos_and_recall_counts_persons_with_keypoints():
    truth = {
        "images": [{"id": number, "width": 200, "height": 200} for number in (1, 2)],
        "annotations": [
            annotation(1, 1, [0, 0, 100, 100], num_keypoints=5),
            annotation(2, 1, [100, 100, 20, 20], num_keypoints=0),
            annotation(3, 2, [0, 0, 50, 50], num_keypoints=3),
            annotation(4, 2, [100, 0, 100, 200], iscrowd=1),
        ],
    }
    boxes = [(1, [0, 0, 100, 90], 0.9), (2, [0, 0, 50, 20], 0.8), (2, [120, 50, 50, 50], 0.7)]
    results = [{"image_id": image, "category_id": 1, "bbox": box, "score": score} for image, box, score in boxes]
    figures = evaluate_boxes(truth, results)
    assert figures["recall"] == pytest.approx(1 / 3)
    assert figures["recall_keypoints"] == pytest.approx(1 / 2)
    assert figures["recall_keypoints_l"] == 1
    assert figures["recall_keypoints_m"] == 0
    assert figures["recall_keypoints_s"] == -1
    assert figures["AP50"] == pytest.approx(34 / 101, abs=1e-6)  # precision 1 up to a recall of a third
    rows = precision_recall(truth, results, [0.1, 0.85, 0.95])
    assert rows == [(0.1, 1 / 2, 1 / 3), (0.85, 1.0, 1 / 3), (0.95, 0.0, 0.0)]
    assert 0.8 < best_threshold(truth, results) <= 0.9  # one of one box is right, a third of the persons found
    assert evaluate_boxes(truth, [])["recall"] == 0
    assert precision_recall(truth, [], [0.5]) == [(0.5, 0.0, 0.0)]


@pytest.mark.parametrize("ids", [(1, 2), (0, 1), (5, 5)])
def test_figures_do_not_depend_on_the_numbers_of_annotations(ids):
    """pycocotools takes a match with id 0 for none, and equal ids for one person."""
    places = [[0, 0, 40, 80], [60, 10, 30, 70]]
    truth = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": [annotation(number, 1, box, num_keypoints=1) for number, box in zip(ids, places, strict=True)],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in places]
    figures = evaluate_boxes(truth, results)
    assert figures["AP"] == pytest.approx(1) and figures["recall"] == figures["recall_keypoints"] == 1
    assert evaluate_boxes(truth, results[:1])["recall"] == evaluate_boxes(truth, results[1:])["recall"] == 0.5
    assert precision_recall(truth, results, [0.5]) == [(0.5, 1.0, 1.0)]
    assert [each["id"] for each in truth["annotations"]] == list(ids)


def test_settings_that_cannot_be_are_named(folder):
    with pytest.raises(OptionError, match=r"data.sources\[0\].image.*images"):
        DataSettings(sources=({"image": "b", "boxes": "b.json"},)).make_sources()
    with pytest.raises(ValueError, match="grids"):
        CanvasSettings(grids=(0.0, 0.0))
    with pytest.raises(ValueError, match="held_out"):
        DataSettings(held_out=1)
    with pytest.raises(ValueError, match="held_out_by must be name or place, got 'chance'"):
        DataSettings(held_out_by="chance")
