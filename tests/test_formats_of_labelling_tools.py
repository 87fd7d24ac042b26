"""CVAT and Label Studio: what they export is read, and what is written is what they import."""

import json
import zipfile

import numpy as np
import pytest
from test_formats import HAND, assert_same_persons, dataset, there_and_back

from pose.errors import DataError
from pose.formats.options import ReadOptions
from pose.formats.table import input_format, read_dataset
from pose.skeleton import COCO

LABELS = (
    '<meta><task><labels><label><name>person</name><type>skeleton</type><svg>&lt;line data-type="edge" '
    'data-node-from="2" data-node-to="1"&gt;&lt;/line&gt;&lt;circle data-node-id="1" data-label-name="nose"&gt;'
    '&lt;/circle&gt;&lt;circle data-node-id="2" data-label-name="neck"&gt;&lt;/circle&gt;</svg></label>'
    "<label><name>nose</name><type>points</type><parent>person</parent></label>"
    "<label><name>neck</name><type>points</type><parent>person</parent></label>"
    "<label><name>car</name><type>rectangle</type></label></labels></task>{}</meta>"
)
POINTS = (
    '<points label="neck" outside="{}" occluded="1" points="3.50,4.25"/>'
    '<points label="nose" outside="0" occluded="0" points="1.00,2.00"/>'
)
SKELETON = '<skeleton label="person" occluded="0" group_id="4">' + POINTS.format(0) + "</skeleton>"


def cvat_file(path, body, meta=""):
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{LABELS.format(meta)}{body}'
    path.write_text(text + "</annotations>")
    return path


def test_cvat_images(tmp_path):
    box = '<box label="person" group_id="4" xtl="1" ytl="2" xbr="9" ybr="7"/>'
    box += '<box label="car" xtl="0" ytl="0" xbr="1" ybr="1"/>'
    image = f'<image id="0" name="a\\b.jpg" width="40" height="30">{SKELETON}{box}</image>'
    empty = '<image id="1" name="c.jpg" width="40" height="30"></image>'
    path = cvat_file(tmp_path / "a.xml", image + empty)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "annotations.xml")
    for each in (path, tmp_path / "a.zip"):
        assert input_format(each).name == "cvat"
        found = read_dataset(each)
        assert found.skeleton.keypoints == ("nose", "neck") and found.skeleton.limbs == ((1, 0),)
        assert found.keypoints.tolist() == [[[1, 2, 2], [3.5, 4.25, 1]]]
        assert found.boxes.tolist() == [[1, 2, 8, 5]]
        assert [image.file_name for image in found.images] == ["a/b.jpg", "c.jpg"]
        assert +found.left_out == {"shapes of kind 'box' of no person": 1}


def test_cvat_groups_with_several_boxes(tmp_path):
    """The persons' own label comes first, then the first; the others are counted."""
    box = '<box label="{}" group_id="4" xtl="{}" ytl="2" xbr="9" ybr="7"/>'.format
    for boxes, left in (
        (box("person", 1) + box("person", 3), 1),
        (box("head", 3) + box("person", 1), 1),
        (box("head", 1) + box("hat", 3), 1),
    ):
        image = f'<image id="0" name="a.jpg" width="40" height="30">{SKELETON}{boxes}</image>'
        found = read_dataset(cvat_file(tmp_path / "a.xml", image))
        assert found.boxes.tolist() == [[left, 2, 8, 5]]
        assert +found.left_out == {"further boxes of a person's group": 1}


def test_cvat_videos(tmp_path):
    frame = '<skeleton frame="{}" keyframe="1" outside="{}">' + POINTS.format(1) + "</skeleton>"
    body = f'<track id="5" label="person">{frame.format(0, 0)}{frame.format(7, 0)}{frame.format(8, 1)}</track>'
    size = "<original_size><width>40</width><height>30</height></original_size>"
    found = read_dataset(cvat_file(tmp_path / "a.xml", body, size))
    assert [image.file_name for image in found.images] == ["frame_000000.jpg", "frame_000007.jpg"]
    assert found.tracks.tolist() == [5, 5] and found.labeled.tolist() == [[True, False]] * 2
    with pytest.raises(DataError, match="size of its video"):
        read_dataset(cvat_file(tmp_path / "b.xml", body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "has no skeleton"),
        ('<image id="0" name="a" width="4" height="3"><skeleton label="x"/><skeleton label="y"/></image>', "of x, y;"),
        ('<image id="0" name="a" height="3"><skeleton label="x"/></image>', "needs id, name, width"),
        (f'<image id="0" name="a" width="4" height="3">{SKELETON.replace("1.00,2.00", "1")}</image>', "'nose' has"),
        ("<image>", "is no XML of CVAT"),
    ],
)
def test_cvat_that_is_wrong(tmp_path, body, message):
    with pytest.raises(DataError, match=message):
        read_dataset(cvat_file(tmp_path / "a.xml", body))


@pytest.mark.parametrize("skeleton", [COCO, HAND])
def test_label_studio(tmp_path, skeleton):
    given = dataset(skeleton)
    found, lost = there_and_back("label-studio", given, tmp_path / "tasks.json", ReadOptions(skeleton))
    assert_same_persons(found, given, 1e-9)
    assert found.left_out["tasks without regions"] == 2, "an image's size is in its regions alone"
    assert lost["persons and regions without keypoints"] == 2 and lost["areas"] == 2
    config = (tmp_path / "tasks.config.xml").read_text()
    assert all(f'<Label value="{name}"' in config for name in ("person", *skeleton.keypoints))


def region(name, label, kind="keypointlabels", **more):
    place = {"x": 50, "y": 10, "width": 20, "height": 40, kind: [label]}
    return {"id": name, "type": kind, "value": place, "original_width": 200, "original_height": 100, **more}


def label_studio_file(path, results, **task):
    annotations = [{"result": results, "was_cancelled": False}]
    data = {"image": "/data/upload/3/0a1b2c3d-my%20image.jpg"}
    path.write_text(json.dumps([{"id": 1, "data": data, "annotations": annotations, **task}]))
    return path


def test_label_studio_ties_points_to_persons(tmp_path):
    relation = {"type": "relation", "from_id": "box", "to_id": "a", "direction": "left"}
    results = [
        region("box", "person", "rectanglelabels"), region("a", "nose"), relation,
        region("b", "neck", parentID="box"), region("c", "nose"), region("d", "neck", parentID="c"),
        {"id": "t", "type": "textarea", "value": {}},
    ]  # fmt: skip
    found = read_dataset(label_studio_file(tmp_path / "a.json", results))
    assert found.images[0].file_name == "my image.jpg"
    assert found.keypoints.tolist() == [[[100, 10, 2], [100, 10, 2]]] * 2
    assert found.boxes[0].tolist() == [100, 10, 40, 40] and np.isnan(found.boxes[1]).all()
    assert +found.left_out == {"regions of type 'textarea'": 1}


def test_label_studio_persons_with_several_rectangles(tmp_path):
    results = [
        region("head", "head", "rectanglelabels"), region("box", "person", "rectanglelabels", parentID="head"),
        region("a", "nose", parentID="box"), region("b", "cat", "rectanglelabels"), region("c", "nose", parentID="b"),
    ]  # fmt: skip
    results[1]["value"]["width"] = 30
    path = label_studio_file(tmp_path / "a.json", results)
    found = read_dataset(path, options=ReadOptions(category="person"))
    assert found.boxes.tolist() == [[100, 10, 60, 40]]
    assert +found.left_out == {
        "persons whose rectangle is not called 'person'": 1, "further rectangles of a person": 1,
    }  # fmt: skip
    assert +read_dataset(path).left_out == {"further rectangles of a person": 1}


@pytest.mark.parametrize("kind", ["annotations", "predictions"])
@pytest.mark.parametrize("order", [1, -1])
def test_label_studio_takes_the_version_that_was_changed_last(tmp_path, kind, order):
    versions = [
        {"result": [region("a", label)], "created_at": "2026-01-09T08:00:00Z", "updated_at": time}
        for label, time in (("old", "2026-01-10T09:59:59.9Z"), ("new", "2026-01-10T10:00:00.1Z"), ("none", None))
    ]
    path = label_studio_file(tmp_path / "a.json", [], **{"annotations": [], kind: versions[::order]})
    found = read_dataset(path)
    assert found.skeleton.keypoints == ("new",) and +found.left_out == {"older versions of annotations": 2}


def test_label_studio_predictions_have_scores(tmp_path):
    results = [region("a", "nose", score=0.9), region("b", "neck", parentID="a", score=0.1)]
    path = label_studio_file(tmp_path / "a.json", [], annotations=[], predictions=[{"result": results}])
    found = read_dataset(path)
    assert found.joint_scores.tolist() == [[0.9, 0.1]] and found.labeled.tolist() == [[True, False]]
    assert +found.left_out == {"joints below the score 0.2 (unlabeled now)": 1}
    assert read_dataset(path, options=ReadOptions(joint_threshold=0.1)).labeled.all()


def test_label_studio_without_ties(tmp_path):
    alone = [region("a", "nose"), region("b", "neck"), region("box", "person", "rectanglelabels")]
    found = read_dataset(label_studio_file(tmp_path / "a.json", alone))
    assert len(found) == 1 and np.isfinite(found.boxes).all()
    with pytest.raises(DataError, match="task 1: nothing ties its 3 points"):
        read_dataset(label_studio_file(tmp_path / "b.json", [*alone, region("c", "nose")]))
    twice = [region("box", "person", "rectanglelabels"), *(region(n, "nose", parentID="box") for n in "ab")]
    with pytest.raises(DataError, match="keypoint 'nose' twice"):
        read_dataset(label_studio_file(tmp_path / "c.json", twice))
    with pytest.raises(DataError, match="task 1 is not in"):
        read_dataset(label_studio_file(tmp_path / "d.json", [{"type": "keypointlabels"}]))
