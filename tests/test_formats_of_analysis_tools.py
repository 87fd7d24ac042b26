"""Formats of published data sets and of tools that analyse poses."""

import csv
import json
from dataclasses import replace

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
    assert found.boxes.tolist() == [[1, 2, 10, 20]] and not +found.left_out
    other = {**record, "human_annotations": {"human1": [1, 2, 11, 22], "human2": [0, 0, 5, 5]}}
    (tmp_path / "aic.json").write_text(json.dumps([other]))
    found = read_dataset(tmp_path / "aic.json", options=ReadOptions(images=tmp_path))
    assert found.left_out == {"persons without keypoints": 1}
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


def test_labelme_beside_groups_a_shape_without_one_is_nobodys(tmp_path):
    shapes = [
        shape("person", [0, 0], [9, 9], kind="rectangle", group=1),
        shape("eye", [1, 2], group=1),
        shape("eye", [5, 5]),
    ]
    labelme_file(tmp_path / "a.json", [*shapes, shape("car", [3, 3], [8, 8], kind="rectangle")])
    found = read_dataset(tmp_path)
    assert len(found) == 1 and found.boxes.tolist() == [[0, 0, 9, 9]]
    assert found.left_out["points without a group_id, beside groups"] == 1
    assert found.left_out["rectangles called 'car'"] == 1


def test_labelme_takes_the_rectangle_of_the_persons_label(tmp_path):
    boxes = [
        shape("bag", [3, 3], [8, 8], kind="rectangle"),
        shape("woman", [0, 0], [9, 9], kind="rectangle"),
    ]
    labelme_file(tmp_path / "a.json", [*boxes, shape("eye", [1, 2])])
    found = read_dataset(tmp_path, options=ReadOptions(category="woman"))
    assert found.boxes.tolist() == [[0, 0, 9, 9]] and found.left_out["rectangles called 'bag'"] == 1


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
    drawn = [shape("box", [1, 2], [3, 5], kind="rectangle"), shape("hat", [0, 0], [1, 1], kind="rectangle")]
    shapes = [shape("eye", [1, 2]), *drawn]
    labelme_file(tmp_path / "b.json", shapes)
    found = read_dataset(tmp_path / "b.json")
    assert found.boxes.tolist() == [[1, 2, 2, 3]] and +found.left_out == {"further rectangles of a person": 1}
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


def test_openpose_keeps_folders_where_names_need_them(tmp_path):
    given = dataset(COCO)
    for names, files in (
        (("dir.v2/0001", "dir.v2/0002", "a/../b.jpg", "../c.jpg"), ["0001", "0002", "b", "c"]),
        (("a/1.jpg", "b/1.jpg", "../2.jpg", "3.jpg"), ["2", "3", "a/1", "b/1"]),
    ):
        images = [ImageRecord(name, 40, 30) for name in names]
        out = tmp_path / names[0][0] / "out"
        FORMATS["openpose"].write(replace(given, images=tuple(images)), out, WriteOptions())
        written = sorted(path.relative_to(out.parent).as_posix() for path in out.parent.rglob("*.json"))
        assert written == [f"out/{file}_keypoints.json" for file in files]


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


@pytest.mark.parametrize("names", [("1704205800123.jpg", "1704205800456.jpg"), ("a.jpg", "b.jpg"), ("1.jpg", "01.jpg")])
def test_deeplabcut_of_names_that_number_no_frames(tmp_path, names):
    images = [ImageRecord(name, 40, 30, identity) for name, identity in zip(names, (10**12, 3), strict=True)]
    tracked = make_dataset(HAND, images, [1, 0], dataset(HAND).keypoints[:2], tracks=[4, 4])
    lost = FORMATS["deeplabcut"].write(tracked, tmp_path / "a.csv", WriteOptions())
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert [row[0] for row in rows[4:]] == ["0", "1"] and all(any(row[1:]) for row in rows[4:])
    assert lost["frames without a number (rows in the images' order)"] == 2
    assert float(rows[5][1]) == pytest.approx(tracked.keypoints[0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("names", [("a_1.jpg", "b_2.jpg"), ("a/1.jpg", "b/1.jpg")])
def test_deeplabcut_of_two_videos_is_refused(tmp_path, names):
    images = [ImageRecord(name, 40, 30) for name in names]
    tracked = make_dataset(HAND, images, [0, 1], dataset(HAND).keypoints[:2], tracks=[4, 4])
    with pytest.raises(DataError, match="images of 2 videos"):
        FORMATS["deeplabcut"].write(tracked, tmp_path / "a.csv", WriteOptions())


def test_deeplabcut_of_a_track_twice_on_an_image_keeps_the_first(tmp_path):
    given = dataset(HAND)
    tracked = make_dataset(HAND, [ImageRecord("0.jpg", 40, 30)], [0, 0, 0], given.keypoints[:3], tracks=[4, 4, 9])
    lost = FORMATS["deeplabcut"].write(tracked, tmp_path / "a.csv", WriteOptions())
    (row,) = list(csv.reader((tmp_path / "a.csv").open()))[4:]
    assert float(row[1]) == pytest.approx(given.keypoints[0, 0, 0], abs=1e-6)
    assert lost["persons of a track that has another one on their image"] == 1


def test_deeplabcut_of_no_images_is_a_table_without_rows(tmp_path):
    nobody = make_dataset(HAND, [], np.zeros(0, int), np.zeros((0, HAND.num_keypoints, 3)))
    FORMATS["deeplabcut"].write(nobody, tmp_path / "none.csv", WriteOptions())
    header = (tmp_path / "none.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in header][-1] == "coords"


def test_images_of_numbers_beyond_64_bits_are_numbered_anew():
    images = [ImageRecord("a.jpg", 40, 30, 2**63), ImageRecord("b.jpg", 40, 30, 7)]
    none = np.zeros((0, HAND.num_keypoints, 3))
    assert make_dataset(HAND, images, [], none).image_ids().tolist() == [1, 2]
    assert make_dataset(HAND, images[1:], [], none).image_ids().tolist() == [7]


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


def test_sleap_predictions_keep_their_scores(tmp_path):
    sleap_io = pytest.importorskip("sleap_io", reason="the extra formats")
    write_image(tmp_path, "0.png")
    skeleton = sleap_io.Skeleton(["nose", "left_eye", "right_eye"], name="face")
    video = sleap_io.Video.from_filename([str(tmp_path / "0.png")])
    points = np.array([[1.5, 2.25], [3, 4], [np.nan, np.nan]])
    found = sleap_io.PredictedInstance.from_numpy(points, skeleton, point_scores=np.array([0.75, 0.25, 0]), score=0.5)
    sleap_io.Labels([sleap_io.LabeledFrame(video, 0, [found])]).save(str(tmp_path / "a.slp"))
    for threshold, visibility, below in ((0.2, 2, {}), (0.3, 0, {"joints below the score 0.3 (unlabeled now)": 1})):
        read = read_dataset(tmp_path / "a.slp", options=ReadOptions(joint_threshold=threshold))
        assert read.keypoints[0, :, 2].tolist() == [2, visibility, 0] and read.scores.tolist() == [0.5]
        np.testing.assert_array_equal(read.joint_scores, [[0.75, 0.25, np.nan]])
        assert +read.left_out == below


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
    with pytest.raises(ImportError, match=r"sleap_io, .*pip install '\.\[formats\]'"):
        read_dataset(tmp_path / "a.slp")
