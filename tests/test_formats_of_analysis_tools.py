"""Formats of published data sets and of tools that analyse poses."""

import csv
import json

import cv2
import numpy as np
import pytest
from test_formats import HAND, dataset

from pose.errors import DataError
from pose.formats.dataset import ImageRecord, make_dataset
from pose.formats.options import ReadOptions, WriteOptions
from pose.formats.table import FORMATS, read_dataset
from pose.skeleton import COCO


def write_image(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), np.zeros((30, 40, 3), np.uint8))


def test_mpii_s_own_file(tmp_path):
    """As MATLAB wrote it: single structs without a list, visibility as a number, as text or empty."""
    scipy_io = pytest.importorskip("scipy.io")
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((30, 40, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((50, 60, 3), np.uint8))

    def structs(*entries):
        listed = np.empty(len(entries), object)
        listed[:] = entries
        return listed

    def point(joint, x, y, **more):
        return {"id": joint, "x": x, "y": y, **more}

    several = structs(point(0, 11.5, 21.0, is_visible=1), point(1, 5.0, 6.0, is_visible="0"), point(9, 3.0, 4.0))
    single = point(15, 8.0, 9.0, is_visible=np.zeros((0, 0)))
    person = {"x1": 1, "y1": 2, "x2": 3, "y2": 4, "scale": 1.5, "objpos": {"x": 5, "y": 6}}
    annolist = structs(
        {"image": {"name": "a.jpg"}, "annorect": structs({**person, "annopoints": {"point": several}}, person)},
        {"image": {"name": "b.jpg"}, "annorect": {**person, "annopoints": {"point": single}}},
        {"image": {"name": "c.jpg"}, "annorect": np.zeros((0, 0))},
        {"image": {"name": "d.jpg"}, "annorect": {**person, "annopoints": np.zeros((0, 0))}},
    )
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    scipy_io.savemat(path, {"RELEASE": {"annolist": annolist, "img_train": [1, 1, 0, 0]}})
    found = read_dataset(path, options=ReadOptions(images=tmp_path))
    assert found.images == (ImageRecord("a.jpg", 40, 30), ImageRecord("b.jpg", 60, 50))
    assert found.owners.tolist() == [0, 1] and found.skeleton.name == "mpii"
    labeled = {joint: found.keypoints[0, joint].tolist() for joint in np.flatnonzero(found.labeled[0])}
    assert labeled == {0: [10.5, 20, 2], 1: [4, 5, 1], 9: [2, 3, 2]}
    assert found.keypoints[1, 15].tolist() == [7, 8, 2] and found.labeled[1].sum() == 1
    assert found.left_out["images without labeled persons, such as the test split's"] == 2
    assert found.left_out["persons without joints"] == 1
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"u12_1\.mat: not MPII's release"):
        read_dataset(path, options=ReadOptions(images=tmp_path))


def test_mpii(tmp_path):
    write_image(tmp_path, "a.jpg")
    joints = [[k + 1, 2 * k + 1] for k in range(16)]
    record = {"joints_vis": [0] + [1] * 15, "joints": joints, "image": "a.jpg", "scale": 1.0, "center": [5, 5]}
    (tmp_path / "train.json").write_text(json.dumps([record, record]))
    found = read_dataset(tmp_path / "train.json", options=ReadOptions(images=tmp_path))
    assert found.keypoints[1, :2].tolist() == [[0, 0, 0], [1, 2, 2]], "MATLAB counts from 1"
    assert found.images == (ImageRecord("a.jpg", 40, 30),) and found.skeleton.name == "mpii"


def test_aic(tmp_path):
    write_image(tmp_path, "a1.jpg")
    record = {
        "url": "", "image_id": "a1", "human_annotations": {"human1": [1, 2, 11, 22]},
        "keypoint_annotations": {"human1": [5, 6, 1, 7, 8, 2, 0, 0, 3] + [1, 1, 1] * 11},
    }  # fmt: skip
    (tmp_path / "aic.json").write_text(json.dumps([record]))
    found = read_dataset(tmp_path / "aic.json", options=ReadOptions(images=tmp_path))
    assert found.keypoints[0, :3].tolist() == [[5, 6, 2], [7, 8, 1], [0, 0, 0]]
    assert found.boxes.tolist() == [[1, 2, 10, 20]]
    (tmp_path / "aic.json").write_text(json.dumps([{**record, "human_annotations": {}}]))
    with pytest.raises(DataError, match="record 0 is not"):
        read_dataset(tmp_path / "aic.json", options=ReadOptions(images=tmp_path))


def labelme_file(path, shapes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"version": "5.5", "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30, "shapes": shapes})
    )


def shape(label, *points, kind="point", group=None, **more):
    return {"label": label, "points": list(points), "shape_type": kind, "group_id": group, **more}


def test_labelme(tmp_path):
    shapes = [
        shape("left_eye", [1, 2], group=1), shape("right_eye", [3, 4.5], group=1, flags={"occluded": True}),
        shape("person", [9, 8], [1, 2], kind="rectangle", group=1), shape("left_eye", [5, 6], group=2),
        shape("car", [0, 0], [1, 1], kind="polygon"),
    ]  # fmt: skip
    labelme_file(tmp_path / "sub" / "a.json", shapes)
    found = read_dataset(tmp_path)
    assert found.images == (ImageRecord("sub/a.jpg", 40, 30),)
    assert found.keypoints.tolist() == [[[1, 2, 2], [3, 4.5, 1]], [[5, 6, 2], [0, 0, 0]]]
    assert found.boxes[0].tolist() == [1, 2, 8, 6] and +found.left_out == {"shapes of kind 'polygon'": 1}
    assert found.skeleton.flip_pairs == ((0, 1),)
    labelme_file(tmp_path / "b.json", [shape("eye", [1, 2]), shape("eye", [1, 2])])
    with pytest.raises(DataError, match="b.json: points without a group_id have 'eye' twice"):
        read_dataset(tmp_path / "b.json")


def test_openpose(tmp_path):
    given = dataset(COCO)
    lost = FORMATS["openpose"].write(given, tmp_path / "out", WriteOptions())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{number}_keypoints.json" for number in range(4)]
    people = json.loads((tmp_path / "out" / "1_keypoints.json").read_text())["people"]
    points = np.reshape([person["pose_keypoints_2d"] for person in people], (2, 25, 3))
    rows = given.keypoints[[0, 2]]
    for place, name in (
        (0, "nose"),
        (2, "right_shoulder"),
        (5, "left_shoulder"),
        (16, "left_eye"),
        (11, "right_ankle"),
    ):
        true = rows[:, COCO.keypoints.index(name)]
        np.testing.assert_allclose(points[:, place], np.hstack([true[:, :2], true[:, 2:] > 0]), atol=1e-6)
    shoulders = rows[:, [5, 6]]
    neck = np.where((shoulders[..., 2] > 0).all(1)[:, None], shoulders[..., :2].mean(1), 0)
    np.testing.assert_allclose(points[:, 1, :2], neck, atol=1e-6)
    assert json.loads((tmp_path / "out" / "3_keypoints.json").read_text()) == {"version": 1.3, "people": []}
    assert lost["necks and pelvises made of two joints"] > 0
    with pytest.raises(DataError, match="none of OpenPose's joints"):
        FORMATS["openpose"].write(dataset(HAND), tmp_path / "hand", WriteOptions())


def test_deeplabcut_csv(tmp_path):
    given = dataset(HAND)
    lost = FORMATS["deeplabcut"].write(given, tmp_path / "a.csv", WriteOptions())
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert [row[0] for row in rows] == ["scorer", "individuals", "bodyparts", "coords", "0", "1", "2", "3"]
    assert rows[1][1:] == ["person_1"] * 12 + ["person_2"] * 12 and rows[3][1:4] == ["x", "y", "likelihood"]
    second = np.reshape([float(cell or "nan") for cell in rows[5][13:]], (4, 3))
    seen = given.labeled[2]
    np.testing.assert_allclose(second[seen, :2], given.keypoints[2][seen, :2], atol=1e-6)
    assert np.isnan(second[~seen]).all() and (second[seen, 2] == 1).all()
    assert lost["names of images (rows are numbers)"] == 4


def test_deeplabcut_of_a_video_has_every_frame(tmp_path):
    given = dataset(HAND)
    images = [ImageRecord(f"clip_{frame:06}.jpg", 40, 30) for frame in (2, 3, 6)]
    tracked = make_dataset(HAND, images, [0, 0, 2], given.keypoints[:3], tracks=[4, 9, 9])
    FORMATS["deeplabcut"].write(tracked, tmp_path / "a.csv", WriteOptions())
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert [row[0] for row in rows[4:]] == [str(frame) for frame in range(7)]
    assert {*rows[1][1:]} == {"track_4", "track_9"}
    empty = {number for number, row in enumerate(rows[4:]) if not any(row[1:])}
    assert empty == {0, 1, 3, 4, 5}, "movement counts rows, so that frames without anyone have theirs"


def test_deeplabcut_hdf5(tmp_path):
    pandas = pytest.importorskip("pandas", reason="the extra formats")
    pytest.importorskip("tables", reason="the extra formats")
    given = dataset(HAND)
    for name in ("a.csv", "a.h5"):
        FORMATS["deeplabcut"].write(given, tmp_path / name, WriteOptions())
    table = pandas.read_hdf(tmp_path / "a.h5")
    assert table.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    same = pandas.read_csv(tmp_path / "a.csv", header=[0, 1, 2, 3], index_col=0)
    np.testing.assert_allclose(table.to_numpy(), same.to_numpy(), atol=1e-6)


def test_sleap(tmp_path):
    sleap_io = pytest.importorskip("sleap_io", reason="the extra formats")
    for number in range(3):
        write_image(tmp_path, f"{number}.png")
    skeleton = sleap_io.Skeleton(["nose", "left_eye", "right_eye"], edges=[("nose", "left_eye")], name="face")
    video = sleap_io.Video.from_filename([str(tmp_path / f"{number}.png") for number in range(3)])
    track = sleap_io.Track("one")
    points = [np.array([[1.5, 2.25], [3, 4], [np.nan, np.nan]]), np.array([[7.0, 8], [9, 10], [11, 12]])]
    instances = [sleap_io.Instance.from_numpy(each, skeleton=skeleton, track=track) for each in points]
    frames = [sleap_io.LabeledFrame(video, frame, [each]) for frame, each in zip((0, 2), instances, strict=True)]
    sleap_io.Labels(frames).save(str(tmp_path / "a.slp"))
    found = read_dataset(tmp_path / "a.slp")
    assert found.images == (ImageRecord("0.png", 40, 30), ImageRecord("2.png", 40, 30))
    assert found.keypoints.tolist()[0] == [[1.5, 2.25, 2], [3, 4, 2], [0, 0, 0]]
    assert (
        found.tracks.tolist() == [0, 0] and found.skeleton.limbs == ((0, 1),) and found.skeleton.flip_pairs == ((1, 2),)
    )


def test_deeplabcut_projects(tmp_path):
    pytest.importorskip("sleap_io", reason="the extra formats")
    (tmp_path / "config.yaml").write_text("Task: test\n")
    folder = tmp_path / "labeled-data" / "clip"
    for number in range(2):
        write_image(folder, f"img{number}.png")
    (folder / "CollectedData_me.csv").write_text(
        "scorer,,,me,me,me,me,me,me,me,me\nindividuals,,,a,a,a,a,b,b,b,b\n"
        "bodyparts,,,nose,nose,tail,tail,nose,nose,tail,tail\ncoords,,,x,y,x,y,x,y,x,y\n"
        "labeled-data,clip,img0.png,1.5,2.5,3,4,5,6,,\nlabeled-data,clip,img1.png,,,,,7,8,9,10\n"
    )
    for path in (tmp_path, tmp_path / "config.yaml"):
        found = read_dataset(path)
        assert [image.file_name for image in found.images] == [f"labeled-data/clip/img{n}.png" for n in range(2)]
        assert found.keypoints.tolist() == [
            [[1.5, 2.5, 2], [3, 4, 2]], [[5, 6, 2], [0, 0, 0]], [[7, 8, 2], [9, 10, 2]]
        ]  # fmt: skip


def test_a_format_whose_library_is_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sleap_io", None)
    (tmp_path / "a.slp").write_bytes(b"")
    with pytest.raises(ImportError, match=r"sleap_io .*pip install 'pose\[formats\]'"):
        read_dataset(tmp_path / "a.slp")
