"""Annotation files as people have them: each case has a right figure, and what a rule changes is counted and told."""

import json

import pytest

from pose.datasets.annotations import counts, persons_in
from pose.errors import DataError
from pose.evaluation.coco_eval import evaluate, load_annotations
from pose.skeleton import COCO

PLACES = [[10.0 + 5 * joint + person, 20.0 + 7 * (joint % 5), 2] for person in range(6) for joint in range(17)]


def make_file():
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480} for number in (1, 2, 3)]
    people = [
        {
            "id": person + 1,
            "image_id": 1 + person // 2,
            "category_id": 1,
            "iscrowd": 0,
            "area": 2000.0 + 9000 * (person % 2),
            "bbox": [5.0 + 200 * (person % 2), 10.0, 110.0, 60.0],
            "num_keypoints": 17,
            "keypoints": [
                number + (200 if place == 0 and person % 2 else 0)
                for point in PLACES[17 * person : 17 * person + 17]
                for place, number in enumerate(point)
            ],
        }
        for person in range(6)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}
    return {"images": images, "annotations": people, "categories": [category]}


def answers(category=1):
    """A perfect answer for everyone."""
    return [
        {"image_id": each["image_id"], "category_id": category, "keypoints": each["keypoints"], "score": 1.0}
        for each in make_file()["annotations"]
    ]


def each(**changes):
    """A change of every person; values may be functions of the row and the person."""

    def change(file):
        for row, person in enumerate(file["annotations"]):
            for name, value in changes.items():
                person[name] = value(row, person) if callable(value) else value

    return change


def first(**changes):
    return lambda file: file["annotations"][0].update(changes)


def renamed(category):
    def change(file):
        each(category_id=category)(file)
        file["categories"][0]["id"] = category

    return change


def reordered(file):
    file["categories"][0]["keypoints"].reverse()
    each(keypoints=lambda _, person: [n for j in range(16, -1, -1) for n in person["keypoints"][3 * j : 3 * j + 3]])(
        file
    )


def other_category(file):
    file["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose", "tail"]})
    file["annotations"].append({"id": 99, "image_id": 1, "category_id": 2, "keypoints": [1, 2, 2] * 2})


def triples(row, person):
    return [person["keypoints"][place : place + 3] for place in range(0, 51, 3)]


CASES = {
    "ids from 0": (each(id=lambda row, _: row), ""),
    "ids restart on every picture": (each(id=lambda row, _: row % 2), "6 annotations were numbered anew"),
    "equal ids": (each(id=7), "6 annotations were numbered anew"),
    "keypoints in another order": (reordered, "another order"),
    "no names": (lambda file: file["categories"][0].pop("keypoints"), "names no keypoints"),
    "no categories": (lambda file: file.pop("categories"), "names no keypoints"),
    "two categories": (other_category, "1 annotations of category dog are left out"),
    "a wrong num_keypoints": (each(num_keypoints=0), "6 persons whose num_keypoints is wrong"),
    "no area": (lambda file: [person.pop("area") for person in file["annotations"]], "6 persons without an area"),
    "one of area 0": (first(area=0), "1 persons of area 0"),
    "keypoints null": (first(keypoints=None), "1 persons without keypoints"),
    "keypoints empty": (first(keypoints=[]), "1 persons without keypoints"),
    "a crowd without keypoints": (first(keypoints=[], iscrowd=1), ""),
    "iscrowd null": (each(iscrowd=None), "6 persons with iscrowd null"),
    "nested": (each(keypoints=triples), "6 persons with nested keypoints"),
    "pairs": (each(keypoints=lambda row, p: [n[:2] for n in triples(row, p)]), "6 persons with keypoints without vis"),
    "text": (each(keypoints=lambda _, p: [str(n) for n in p["keypoints"]]), "6 persons with text or null"),
    "visibility -1": (first(keypoints=[3, 4, -1] * 16 + [90, 48, 2]), "16 keypoints with a visibility below 0"),
    "visibility 3": (first(keypoints=[3, 4, 3] * 16 + [90, 34, 2]), "16 keypoints with a visibility below 0"),
    "a fraction": (each(keypoints=lambda _, p: [0.5 if n == 2 else n for n in p["keypoints"]]), "102 keypoints with"),
    "null where unlabelled": (first(keypoints=[None, None, 0] * 16 + [90, 34, 2]), "16 unlabelled keypoints"),
    "seen at 0, 0": (first(keypoints=[0, 0, 2] * 16 + [90, 34, 2]), "16 keypoints at 0, 0"),
}


@pytest.fixture
def written(tmp_path):
    def write(change):
        file = make_file()
        change(file)
        path = tmp_path / "people.json"
        path.write_text(json.dumps(file))
        return path

    return write


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
@pytest.mark.parametrize(("change", "notice"), CASES.values(), ids=CASES)
def test_perfect_answers_score_1_and_what_changed_is_told(written, change, notice, backend):
    if backend != "pycocotools":
        pytest.importorskip("faster_coco_eval")
    truth = load_annotations(written(change), COCO)
    wanted = answers()
    if truth.dataset["annotations"][0].get("keypoints"):
        person = persons_in(truth.dataset, "people.json", COCO).records[0]
        if 0 < person["num_keypoints"] < 17:
            wanted[0]["keypoints"] = person["keypoints"]
    assert evaluate(wanted, truth, COCO, backend)["AP"] == pytest.approx(1)
    assert notice in " ".join(truth.notices) and bool(notice) == bool(truth.notices)


@pytest.mark.parametrize("category", [0, 3])
def test_persons_have_the_files_own_category(written, category):
    assert evaluate(answers(category), written(renamed(category)), COCO)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("who", ["everyone", "one"])
def test_areas_from_boxes_are_counted_whoever_made_them(who):
    file = make_file()
    for person in file["annotations"][: 6 if who == "everyone" else 1]:
        person["area"] = person["bbox"][2] * person["bbox"][3]
    persons = persons_in(file, "people.json", COCO)
    assert persons.areas_from_boxes == (6 if who == "everyone" else 1) and persons.notices == ()


def test_area_0_on_all_persons_is_said_to_be_the_reason(written):
    with pytest.raises(DataError, match=r"people\.json: area is 0 on all 6 persons with labelled keypoints"):
        load_annotations(written(each(area=0)), COCO, somebody=True)


def test_who_does_not_train_is_not_looked_for_either():
    file = make_file()
    first(area=0)(file)
    assert [counts(person) for person in persons_in(file, "people.json", COCO).records] == [False] + [True] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["categories"][0]["keypoints"].__setitem__(0, "snout"), "calls keypoint 1 'snout'.*'nose'"),
        (first(id=1.5), "annotation 1.5 needs a whole number"),
        (first(image_id="1"), "annotation 1 needs a whole number below 2.63 as 'image_id'"),
        (first(id=2**63), "below 2.63"),
        (first(bbox=[1, 2, "3", 4]), "annotation 1 needs x, y, width and height as 'bbox'"),
        (first(bbox=[]), "as 'bbox'"),
        (first(bbox=[1] * 8), "as 'bbox'"),
        (first(bbox=[1, 2, 1e30, 4]), "as 'bbox'"),
        (first(iscrowd=7), "needs 0 or 1 as 'iscrowd'"),
        (first(keypoints=[10**400, 5, 2] * 17), "annotation 1 has a keypoint that is no finite number"),
        (first(keypoints=[1e30, 5, 2] * 17), "annotation 1 has a keypoint that is no finite number"),
        (lambda file: file["images"][0].pop("id"), "an image record needs id"),
    ],
)
def test_what_cannot_be_read_is_named(written, change, message):
    with pytest.raises(DataError, match=rf"people\.json: .*{message}"):
        load_annotations(written(change), COCO)
