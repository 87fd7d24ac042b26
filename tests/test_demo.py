"""tools/demo.py: pictures, folders and videos in; drawn ones and COCO-format JSON out; one line for bad input."""

import csv
import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pose.checkpoint import load_weights, save_checkpoint
from pose.config import load_settings
from pose.datasets.annotations import persons_in
from pose.evaluation.results import check_results
from pose.inference.video.files import writing_video
from pose.skeleton import COCO

DEMO = Path(__file__).parents[1] / "tools" / "demo.py"
CONFIG = """
model = dict(backbone=dict(type="mobilenet_v2", width=0.35), head=dict(type="bottleneck"))
data = dict(input_size=(64, 64))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    (folder / "tiny.py").write_text(CONFIG)
    torch.manual_seed(0)
    save_checkpoint(folder / "tiny.pth", {"model": load_settings(folder / "tiny.py").build_model().state_dict()})
    return folder / "tiny.py", folder / "tiny.pth"


@pytest.fixture
def demo(network, tmp_path, monkeypatch, capsys):
    """Runs the tool and returns its exit status and standard error; ``demo.printed`` is the standard output."""

    def run(*arguments, config=network[0], checkpoint=network[1], out=tmp_path / "out"):
        files = [config] if checkpoint is None else [config, checkpoint]
        argv = ["demo.py", *files, *arguments, "--out", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in argv])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(DEMO), run_name="__main__")
        run.printed, errors = capsys.readouterr()
        return exit_.value.code, errors

    return run


def write_image(path, width=80, height=60):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))
    return path


def video(path, frames=12):
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (80, 60))
    for frame in range(frames):
        writer.write(np.full((60, 80, 3), frame * 10, np.uint8))
    writer.release()
    return path


def boxes_file(path, *records):
    path.write_text(json.dumps([{"category_id": 1, "score": 0.9, **record} for record in records]))
    return path


def results(folder):
    return json.loads((folder / "keypoints.json").read_text())


def test_annotations_that_other_tools_read_hold_every_image_with_its_size(demo, tmp_path):
    write_image(tmp_path / "in/1.png")
    write_image(tmp_path / "in/2.png", 40, 90)
    boxes = boxes_file(tmp_path / "boxes.json", {"image_id": 2, "bbox": [1, 2, 30, 40]})
    assert demo(tmp_path / "in", "--boxes", boxes, "--coco", "--threshold", 0)[0] == 0
    file = json.loads((tmp_path / "out/annotations.json").read_text())
    assert file["images"] == [
        {"id": 1, "file_name": "1.png", "width": 80, "height": 60},
        {"id": 2, "file_name": "2.png", "width": 40, "height": 90},
    ]
    (found,), (record,) = file["annotations"], results(tmp_path / "out")
    assert (found["image_id"], found["bbox"], found["area"]) == (2, [1, 2, 30, 40], 1200)
    assert found["num_keypoints"] == 17 and found["score"] == record["score"]
    assert (record["width"], record["height"]) == (40, 90)
    (person,) = persons_in(file, "annotations.json", COCO).records
    assert person["keypoints"][:2] == record["keypoints"][:2]


def test_one_box_outside_the_picture_is_left_out_and_told(demo, tmp_path):
    image, found = write_image(tmp_path / "in/7.png"), {"image_id": 7, "bbox": [1, 2, 30, 40]}
    others = [{**found, "bbox": box} for box in ([900, 2, 5, 4], [1, 2, 0, 4])]
    boxes = boxes_file(tmp_path / "boxes.json", found, *others)
    status, errors = demo(image, "--boxes", boxes)
    assert status == 0 and "1 of 2 boxes are left out" in errors and "1 of 3 boxes are left out" in errors
    assert [record["box"] for record in results(tmp_path / "out")] == [[1, 2, 30, 40]]


def test_a_box_outside_one_frame_loses_no_other_frame(demo, tmp_path):
    clip = video(tmp_path / "in/clip.mp4", frames=6)
    places = [[1, 2, 30, 40]] * 4 + [[900, 2, 5, 4], [1, 2, 30, 40]]
    records = [{"image_id": frame, "bbox": box} for frame, box in enumerate(places)]
    status, errors = demo(clip, "--boxes", boxes_file(tmp_path / "boxes.json", *records), "--csv")
    assert status == 0 and "frame 4: the box [900.0, 2.0, 5.0, 4.0] lies outside" in errors
    assert [record["image_id"] for record in results(tmp_path / "out")] == [0, 1, 2, 3, 5]
    drawn = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    assert sum(drawn.read()[0] for _ in range(9)) == 6


def test_a_picture(demo, tmp_path):
    status, errors = demo(write_image(tmp_path / "in/street.png"))
    assert (status, errors) == (0, "")
    assert cv2.imread(str(tmp_path / "out/street.png")).shape == (60, 80, 3)
    (record,) = results(tmp_path / "out")
    assert record["file_name"] == "street.png"
    assert record["box"] == [0, 0, 80, 60]
    check_results([record], num_keypoints=17)


def test_pictures_of_one_name_do_not_replace_each_other(demo, tmp_path):
    for folder in ("in_a", "in_b"):
        write_image(tmp_path / folder / "1.jpg")
    status, errors = demo(f"{tmp_path}/in_*/1.jpg")
    assert status == 2
    assert "two pictures of the input have this name" in errors
    assert not (tmp_path / "out" / "1.jpg").exists()


def test_a_folder_with_annotated_boxes(demo, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_image(tmp_path / "in" / name)
    images = [{"id": row, "file_name": name, "width": 80, "height": 60} for row, name in ((41, "a.jpg"), (42, "b.jpg"))]
    boxes = [(41, [0, 0, 30, 50]), (41, [40, 0, 30, 50]), (42, [5, 5, 50, 50])]
    annotations = [{"id": 1, "image_id": image, "category_id": 1, "bbox": box} for image, box in boxes]
    (tmp_path / "f.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    assert demo(tmp_path / "in", "--boxes", tmp_path / "f.json")[0] == 0
    assert [(record["image_id"], record["file_name"]) for record in results(tmp_path / "out")] == [
        (41, "a.jpg"), (41, "a.jpg"), (42, "b.jpg")]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg", "c.jpg", "keypoints.json"]


def test_a_video_with_boxes_for_some_frames(demo, tmp_path):
    boxes = boxes_file(tmp_path / "f.json", *({"image_id": frame, "bbox": [5, 5, 40, 40]} for frame in (0, 9, 11)))
    assert demo(video(tmp_path / "in/run.mp4"), "--boxes", boxes)[0] == 0
    assert [record["frame"] for record in results(tmp_path / "out")] == [0, 9, 11]
    written = cv2.VideoCapture(str(tmp_path / "out/run.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert written.get(cv2.CAP_PROP_FPS) == 10


def test_unreadable_pictures_are_named_and_the_rest_is_done(demo, tmp_path):
    write_image(tmp_path / "in/1.jpg")
    (tmp_path / "in/2.jpg").write_text("no picture")
    (tmp_path / "in/3.jpg").write_bytes(write_image(tmp_path / "in/4.jpg").read_bytes()[:500])
    status, errors = demo(tmp_path / "in")
    assert status == 1
    assert "2.jpg" in errors and "3.jpg" in errors and errors.count("\n") == 2
    assert [record["file_name"] for record in results(tmp_path / "out")] == ["1.jpg", "4.jpg"]


def test_a_cut_off_video_gives_what_is_there(demo, tmp_path):
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for frame in range(20):
        writer.write(np.random.default_rng(frame).integers(0, 255, (120, 160, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, errors = demo(path)
    assert status == 1
    assert "long.avi" in errors
    assert 0 < len(results(tmp_path / "out")) < 20


def test_bad_input_is_one_line_and_status_2_and_loses_nothing(demo, network, tmp_path):
    good = write_image(tmp_path / "in/7.jpg")
    demo(good)
    before = (tmp_path / "out/keypoints.json").read_bytes()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.pth").write_bytes(network[1].read_bytes()[:2000])
    torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "other.pth")
    flat = boxes_file(tmp_path / "flat.json", {"image_id": 7, "bbox": [1, 2, 0, 4]})
    outside = boxes_file(tmp_path / "outside.json", {"image_id": 7, "bbox": [900, 2, 5, 4]})
    others = boxes_file(tmp_path / "others.json", {"image_id": 8, "bbox": [1, 2, 5, 4]})
    cases = [
        ("none.jpg", demo(tmp_path / "none.jpg")),
        ("none.mp4", demo(tmp_path / "none.mp4")),
        ("text.jpg", demo(tmp_path / "text.jpg")),
        ("text.mp4", demo(tmp_path / "text.mp4")),
        ("empty", demo(tmp_path / "empty")),
        ("nowhere.json", demo(good, "--boxes", tmp_path / "nowhere.json")),
        ("flat.json", demo(good, "--boxes", flat)),
        ("outside.json", demo(good, "--boxes", outside)),
        ("others.json", demo(good, "--boxes", others)),
        ("none.pth", demo(good, checkpoint=tmp_path / "none.pth")),
        ("cut.pth", demo(good, checkpoint=tmp_path / "cut.pth")),
        ("other.pth", demo(good, checkpoint=tmp_path / "other.pth")),
        ("none.py", demo(good, config=tmp_path / "none.py")),
        ("data.rot", demo(good, "--cfg-options", "data.rot=1")),
        ("text.jpg", demo(good, out=tmp_path / "text.jpg")),
        ("in", demo(good, out=tmp_path / "in")),
    ]
    for name, (status, errors) in cases:
        assert status == 2, name
        assert name in errors and errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert (tmp_path / "out/keypoints.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["7.jpg", "keypoints.json"]


def test_a_pattern_csv_and_a_profile(demo, tmp_path, capsys):
    for name in ("a.jpg", "b.jpg", "c.png"):
        write_image(tmp_path / "in" / name)
    assert demo(tmp_path / "in" / "*.jpg", "--csv", "--profile")[0] == 0
    with open(tmp_path / "out/keypoints.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == ["a.jpg", "b.jpg"]
    (first, _) = results(tmp_path / "out")
    assert float(rows[0]["left_wrist_x"]) == first["keypoints"][3 * 9]
    assert float(rows[0]["box_height"]) == first["box"][3]


def test_boxes_that_follow_in_a_video(demo, tmp_path):
    boxes = boxes_file(tmp_path / "f.json", {"image_id": 0, "bbox": [10, 10, 40, 40]})
    path = tmp_path / "in.avi"
    noise = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    with writing_video(path, 10) as write_frame:
        for frame in range(8):
            write_frame(noise[:, frame : frame + 80])
    assert demo(path, "--boxes", boxes, "--detect-every", "6", "--smooth", "strong", "--video-format", "avi")[0] == 0
    found = results(tmp_path / "out")
    assert [(record["frame"], record["track_id"]) for record in found] == [(frame, 1) for frame in range(6)]
    assert found[5]["box"][:2] == pytest.approx([5, 10], abs=0.5)
    assert (tmp_path / "out/in.avi").is_file()


def test_a_detector_by_file(demo, tmp_path, monkeypatch):
    asked = []

    def load(*given):
        asked.append(given)
        return lambda image: [[5, 5, 20, 30, 0.75], [40, 5, 20, 30, 0.5]]

    monkeypatch.setattr("pose.inference.command_line.load_detector", load)
    assert demo(write_image(tmp_path / "in/a.jpg"), "--detector", "some", "--detector-weights", "w.pth")[0] == 0
    ((*given, native),) = asked
    assert given == ["some", "w.pth", None, "cpu", "person", None] and isinstance(native, bool)  # as the network's
    assert [record["box_score"] for record in results(tmp_path / "out")] == [0.75, 0.5]


def test_show_needs_a_display(demo, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    status, errors = demo(write_image(tmp_path / "in/a.jpg"), "--show")
    assert status == 2 and "--show" in errors and errors.count("\n") == 1


def test_closing_the_window_keeps_what_was_done(demo, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda *_: ord("q") if len(shown) == 3 else -1)
    status, errors = demo(video(tmp_path / "in/run.mp4"), "--show")
    assert status == 0 and "3 of 12" in errors
    assert len(shown) == len(results(tmp_path / "out")) == 3
    assert cv2.VideoCapture(str(tmp_path / "out/run.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_page_of_a_video(demo, tmp_path):
    assert demo(video(tmp_path / "in/run.mp4"), "--html")[0] == 0
    assert (tmp_path / "out/run.html").read_text().count("add({") == 12
    status, errors = demo(write_image(tmp_path / "in/a.jpg"), "--html")
    assert status == 2 and "--html" in errors


def test_every_file_that_was_written_is_named_and_everybody_counted(demo, tmp_path):
    image, out = write_image(tmp_path / "in/7.jpg"), tmp_path / "out"
    boxes = boxes_file(tmp_path / "boxes.json", *({"image_id": 7, "bbox": [x, 2, 30, 40]} for x in (1, 40)))
    assert demo(image, "--boxes", boxes, "--csv", "--coco", "--threshold", "1")[0] == 0
    assert f"drawn: {out} (1 picture, 0 of 2 persons, 0 joints above 1: lower --threshold" in demo.printed
    assert f"keypoints: {out / 'keypoints.json'}, {out / 'keypoints.csv'}, {out / 'annotations.json'}\n" in demo.printed
    assert demo(image, "--boxes", boxes)[0] == 0
    assert f"keypoints: {out / 'keypoints.json'} (in place of an earlier one)" in demo.printed
    clip = video(tmp_path / "in/run.mp4", 2)
    assert demo(clip, out=tmp_path / "clip")[0] == 0
    assert "browsers cannot play that" in demo.printed and "in place" not in demo.printed
    assert demo(clip, "--html", out=tmp_path / "clip")[0] == 0
    assert "browsers cannot play that" not in demo.printed and str(tmp_path / "clip" / "run.html") in demo.printed


def test_a_shells_pattern_and_a_misspelt_word_for_boxes_are_explained(demo, tmp_path):
    a, b = (write_image(tmp_path / "in" / name) for name in ("a.jpg", "b.jpg"))
    status, errors = demo(b, config=tmp_path / "net.pth", checkpoint=None)
    assert status == 2 and "is no configuration and no exported file" in errors
    status, errors = demo(b, config=a, checkpoint=None)
    assert status == 2 and "got 2 files: give their folder, or a pattern in quotes" in errors
    status, errors = demo(a, "--boxes", "wohle")
    assert status == 2 and "--boxes: wohle: file not found; whole: one person fills the picture" in errors


def test_an_exported_network_gives_the_same_numbers(demo, network, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from pose.export.onnx_file import export_onnx

    settings = load_settings(network[0])
    model = settings.build_model().eval()
    load_weights(model, network[1])
    export_onnx(model, settings, tmp_path / "pose.onnx")
    name = write_image(tmp_path / "in/a.jpg")
    assert demo(name)[0] == 0
    (expected,) = results(tmp_path / "out")
    assert demo(name, config=tmp_path / "pose.onnx", checkpoint=None)[0] == 0
    (found,) = results(tmp_path / "out")
    assert found["keypoints"] == pytest.approx(expected["keypoints"], abs=1e-3)
    assert found["box"] == expected["box"]
    assert demo(config=tmp_path / "pose.onnx", checkpoint=None)[0] == 2  # no input
