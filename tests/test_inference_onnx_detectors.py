"""Detectors in ONNX files: every layout that is known gives the same boxes, every other is refused."""

import json

import cv2
import numpy as np
import pytest
from small_project import run_tool
from spot import spot

from pose.errors import CheckpointError, PoseError
from pose.inference.detector import load_detector
from pose.inference.onnx_detector import PIXELS, OnnxDetector
from pose.onnx_format import open_session
from pose.options import OptionError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_files import FLOAT, save, save_detector  # noqa: E402 - needs onnx

__all__ = ["run_tool"]

CELLS = 64 + 16 + 4  # rows of a grid for 64 x 64
KEYPOINTS = np.linspace(0, 64, 51, dtype=np.float32)
IMAGE = np.zeros((96, 128, 3), np.uint8)  # goes into 64 x 64 at half its size
EXPECTED = [[16, 6, 32, 40, 0.8], [108, 0, 20, 40, 0.55]]
NAMES = {"names": "{0: 'person', 1: 'dog'}", "task": "detect"}

PERSONS = [
    [8, 3, 24, 23, 0.8, 0],
    [54, 0, 70, 20, 0.55, 0],  # half outside
    [36, 16, 44, 24, 0.9, 1],  # a dog
    [36, 16, 44, 24, 0.3, 0],  # too doubtful
]
"""x1, y1, x2, y2, score, class."""


def chosen(more=0, rows=20):
    """(1, rows, 6 + more): as files write them that choose boxes themselves, the rest zeros."""
    found = np.zeros((1, rows, 6 + more), np.float32)
    found[0, : len(PERSONS), :6] = PERSONS
    found[0, :, 6:] = KEYPOINTS[:more] if more else 0
    return found


def grid(classes=2, more=0, objectness=False, rows=CELLS, value=10.0):
    """(1, rows, columns) of YOLO's grid: centers, and each person twice, the second time worse."""
    found = np.zeros((1, rows, 4 + objectness + classes + more), np.float32)
    for place, (x1, y1, x2, y2, score, label) in enumerate(PERSONS):
        for copy in range(2):
            row = found[0, 2 * place + copy]
            row[:4] = (x1 + x2) / 2, (y1 + y2) / 2 + copy, x2 - x1, y2 - y1
            if label < classes:
                row[4 + objectness + int(label)] = (score - 0.05 * copy) / (0.95 if objectness else 1)
            if objectness:
                row[4] = 0.95
    if more:
        found[..., -more:] = value
    return found


def turned(array):
    return np.ascontiguousarray(array.transpose(0, 2, 1))


LABELS = np.array([[0, 0, 1, 0]])
MASKS = np.zeros((1, 32, 16, 16), np.float32)
RTMDET = (200 - 103.53) / 57.375, (100 - 116.28) / 57.12, -123.675 / 58.395  # of blue, green, red 200, 100, 0
LAYOUTS = {
    "chosen boxes": ({"output0": chosen()}, {}),
    "chosen boxes with names": ({"output0": chosen()}, NAMES),
    "300 chosen boxes": ({"output0": chosen(rows=300)}, {}),
    "one chosen box or two": ({"output0": chosen()[:, :4]}, {}),
    "chosen boxes with keypoints": ({"output0": chosen(51)}, {}),
    "chosen boxes with five keypoints": ({"output0": chosen(15)}, {**NAMES, "kpt_shape": "[5, 3]", "task": "pose"}),
    "chosen boxes with masks": ({"output0": chosen(32), "output1": MASKS}, {**NAMES, "task": "segment"}),
    "grid": ({"output0": turned(grid())}, {}),
    "grid with names": ({"output0": turned(grid())}, NAMES),
    "grid of one class": ({"output0": turned(grid(1))}, {}),
    "grid of 80 classes": ({"output0": turned(grid(80))}, {}),
    "grid with keypoints": ({"output0": turned(grid(1, 51))}, {}),
    "grid with points": ({"output0": turned(grid(2, 10))}, {**NAMES, "kpt_shape": "[5, 2]", "task": "pose"}),
    "grid with masks": ({"output0": turned(grid(2, 32)), "output1": MASKS}, {}),
    "grid, rows first": ({"output0": grid()}, {}),
    "grid with objectness": ({"output": grid(80, objectness=True, rows=3 * CELLS)}, {}),
    "grid of two classes with objectness": ({"output": grid(objectness=True, rows=3 * CELLS)}, {}),
    "grid with objectness and keypoints": ({"output": grid(1, 51, True, rows=3 * CELLS)}, {}),
    "boxes with scores, labels": ({"dets": chosen()[:, :4, :5].copy(), "labels": LABELS}, {}),
    "labels, boxes with scores": ({"labels": LABELS, "dets": chosen()[:, :4, :5].copy()}, {}),
}  # fmt: skip


@pytest.mark.parametrize("open_shapes", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_persons(tmp_path, name, open_shapes):
    outputs, metadata = LAYOUTS[name]
    detector = load_detector(str(save_detector(tmp_path / "a.onnx", outputs, (1, 3, 64, 64), metadata, open_shapes)))
    np.testing.assert_allclose(detector(IMAGE), EXPECTED, atol=1e-4)
    assert detector(np.zeros((1, 1, 3), np.uint8)).shape[1] == 5


def test_the_tool_that_writes_boxes_takes_them(tmp_path, run_tool):
    save_detector(tmp_path / "a.onnx", LAYOUTS["boxes with scores, labels"][0], (1, 3, 64, 64))
    cv2.imwrite(str(tmp_path / "1.png"), IMAGE)
    status, _, error = run_tool("detect.py", tmp_path / "a.onnx", tmp_path / "1.png", "--out", tmp_path / "found")
    assert status == 0, error
    found = json.loads((tmp_path / "found" / "boxes.json").read_text())
    np.testing.assert_allclose([[*each["bbox"], each["score"]] for each in found], EXPECTED, atol=1e-3)
    whole = ("--annotations", tmp_path / "a.json", "--images", tmp_path, "--out", tmp_path / "boxes.json")
    image = dict(id=7, file_name="1.png", width=IMAGE.shape[1], height=IMAGE.shape[0])
    (tmp_path / "a.json").write_text(json.dumps(dict(images=[image], categories=[dict(id=1, name="person")])))
    status, _, error = run_tool("detect.py", tmp_path / "a.onnx", *whole)
    assert status == 0, error
    rows = json.loads((tmp_path / "boxes.json").read_text())
    assert {row["image_id"] for row in rows} == {7} and len(rows) > len(found), "low scores count in a data set's file"


@pytest.mark.parametrize("batched", [True, False])
def test_torchvision_s_lists_in_any_order(tmp_path, batched):
    boxes = np.array([[5, 5, 25, 45], [0, 0, 9, 9], [50, 20, 300, 60], [1, 1, 5, 5]], np.float32)
    labels, scores = np.array([1, 2, 1, 1]), np.array([0.6, 0.99, 0.9, 0.2], np.float32)
    outputs = {"labels": labels, "scores": scores, "boxes": boxes}
    outputs = {name: array[None] for name, array in outputs.items()} if batched else outputs
    path = save_detector(tmp_path / "a.onnx", outputs, (3, "h", "w"), open_shapes=True)
    found = OnnxDetector(path)(spot(40, 40))
    np.testing.assert_allclose(found, [[50, 20, 70, 40, 0.9], [5, 5, 20, 40, 0.6]], atol=1e-6)
    np.testing.assert_allclose(OnnxDetector(path, class_name="2")(spot(40, 40)), [[0, 0, 9, 9, 0.99]], atol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "metadata", "said"),
    [
        ({"a": np.zeros((1, 300, 9), np.float32)}, {}, r"a \(1, 300, 9\)"),
        ({"a": np.zeros((1, 4, CELLS), np.float32)}, {}, "0 columns for classes"),
        ({"a": turned(grid())}, {"names": "{0: 'a', 1: 'b', 2: 'c'}"}, "2 columns for classes, 3 names"),
        ({"a": np.zeros((1, 4 * CELLS, 85), np.float32)}, {}, "YOLOX"),
        ({"a": turned(grid(3))}, {"names": "{0: 'a', 1: 'b'}", "task": "obb"}, "task is 'obb'"),
        ({"a": np.zeros((1, 1000), np.float32)}, {}, r"\(1, 1000\)"),
        (
            {"a": np.zeros((1, 5, 4), np.float32), "b": np.zeros((1, 5, 91), np.float32)},
            {},
            r"a \(1, 5, 4\).*b \(",
        ),
        ({name: np.zeros((1, 9, 8, 8), np.float32) for name in "abc"}, {}, r"c \(1, 9, 8, 8\)"),
    ],
)
def test_unknown_layouts_are_refused_with_their_shapes(tmp_path, outputs, metadata, said):
    path = save_detector(tmp_path / "odd.onnx", outputs, (1, 3, 128, 128), metadata)
    with pytest.raises(CheckpointError, match=rf"odd\.onnx: not a detector.*{said}"):
        load_detector(str(path))


def test_scores_that_are_none_are_told(tmp_path):
    """Five keypoints that the file does not speak of would be fifteen classes."""
    detector = load_detector(str(save_detector(tmp_path / "five.onnx", {"a": turned(grid(1, 15))})))
    with pytest.raises(CheckpointError, match=r"five\.onnx.*score 10.*\(1, 20, 84\)"):
        detector(IMAGE)


def test_any_class_by_name_or_number(tmp_path):
    dog = [[72, 32, 16, 16, 0.9]]
    path = str(save_detector(tmp_path / "named.onnx", {"a": turned(grid())}, metadata=NAMES))
    for chosen_class in ("dog", "Dog", "1"):
        np.testing.assert_allclose(load_detector(path, class_name=chosen_class)(IMAGE), dog, atol=1e-4)
    with pytest.raises(OptionError, match=r"no class 'cat', it has person, dog; .*--detector-class"):
        load_detector(path, class_name="cat")
    path = str(save_detector(tmp_path / "plain.onnx", {"a": turned(grid())}))
    np.testing.assert_allclose(load_detector(path, class_name="1")(IMAGE), dog, atol=1e-4)
    with pytest.raises(OptionError, match=r"plain\.onnx: names no classes; .*the number of 'dog'"):
        load_detector(path, class_name="dog")
    with pytest.raises(OptionError, match=r"plain\.onnx: no class 2, it has 2"):
        load_detector(path, class_name="2")
    path = str(save_detector(tmp_path / "heads.onnx", {"a": chosen()}, metadata={"names": "{0: 'head'}"}))
    with pytest.raises(OptionError, match="no class 'person', it has head"):
        load_detector(path)


@pytest.mark.parametrize(
    ("outputs", "pixels", "expected"),
    [
        ({"a": chosen()}, None, (0, 100 / 255, 200 / 255)),
        ({"dets": chosen()[:, :4, :5].copy(), "labels": LABELS}, None, RTMDET),
        ({"dets": chosen()[:, :4, :5].copy(), "labels": LABELS}, "bgr255", (200, 100, 0)),
    ],
)  # fmt: skip
def test_what_the_input_holds(tmp_path, outputs, pixels, expected):
    detector = OnnxDetector(save_detector(tmp_path / "a.onnx", outputs), pixels=pixels)
    seen = []
    session, detector.session = detector.session, type("Spy", (), {})()
    detector.session.run = lambda names, given: [seen.append(given["images"]), session.run(names, given)][1]
    detector(np.full((64, 64, 3), (200, 100, 0), np.uint8))
    assert seen[0].shape == (1, 3, 64, 64) and seen[0].dtype == np.float32
    np.testing.assert_allclose(seen[0][0, :, 5, 5], expected, rtol=1e-5)


def test_half_precision_and_any_size(tmp_path):
    path = save_detector(
        tmp_path / "half.onnx", {"a": chosen()}, ("batch", 3, "height", "width"), {"imgsz": "[64, 64]"}, True,
        onnx.TensorProto.FLOAT16,
    )  # fmt: skip
    detector = load_detector(str(path))
    assert detector.size == (64, 64)
    np.testing.assert_allclose(detector(IMAGE), EXPECTED, atol=1e-4)


def test_files_and_options_that_are_wrong_are_named(tmp_path):
    (tmp_path / "text.onnx").write_text("no detector")
    identity = [onnx.helper.make_node("Identity", [name], [name + "2"]) for name in "ab"]
    inputs = [(name, FLOAT, [1, 3, 8, 8]) for name in "ab"]
    save(tmp_path / "two.onnx", identity, inputs, [(name + "2", FLOAT, [1, 3, 8, 8]) for name in "ab"])
    for name in ("none.onnx", "text.onnx", "two.onnx"):
        with pytest.raises(PoseError, match=name):
            load_detector(str(tmp_path / name))
    with pytest.raises(OptionError, match="unknown pixels 'rgb255'.*did you mean"):
        OnnxDetector(save_detector(tmp_path / "a.onnx", {"a": chosen()}), pixels="rgb255")
    with pytest.raises(OptionError, match="--detector-pixels"):
        load_detector("ssdlite320_mobilenet_v3_large", pixels=next(iter(PIXELS)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_reaches_the_runtime(tmp_path, monkeypatch, device):
    path = save_detector(tmp_path / "five.onnx", {"a": turned(grid(1, 15))})
    asked = []

    def opened(path, device="auto", threads=0):
        asked.append(device)
        return open_session(path, "cpu", threads)

    monkeypatch.setattr("pose.onnx_format.open_session", opened)
    load_detector(str(path), device=device)
    assert asked == [device]
