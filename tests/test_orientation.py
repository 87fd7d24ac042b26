"""Pictures with an EXIF mark: read the way in which they were annotated, and counted."""

import json
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import INPUT_SIZE, tiny_settings, write_tiny_set

from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.datasets.loading.loader import batches, make_loader
from pose.datasets.orientation import TURNED, UNSURE, ImageNotices, exif_orientation, read_annotated
from pose.detection.results import detect_data_set
from pose.engine import evaluate
from pose.engine.evaluate import open_test_set
from pose.engine.train import train
from pose.errors import DataError
from pose.formats.dataset import ImageRecord, make_dataset
from pose.formats.skeleton_sheet import draw_skeleton_sheet
from pose.inference.boxes import CocoBoxes
from pose.inference.inputs import ImageFiles
from pose.inspection.page import Examples
from pose.skeleton import COCO

SIZE = (48, 32)


def marked(path, orientation, order="little", size=SIZE, image=None):
    """A JPEG, of an image or one that is bright in its left upper corner, with an EXIF mark."""
    if image is None:
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[: size[1] // 2, : size[0] // 2] = 255
    data = cv2.imencode(".jpg", image)[1].tobytes()
    if orientation:
        entry = b"".join(
            value.to_bytes(length, order) for value, length in ((0x112, 2), (3, 2), (1, 4), (orientation, 2))
        )
        tiff = (b"II*\0" if order == "little" else b"MM\0*") + (8).to_bytes(4, order) + (1).to_bytes(2, order)
        block = b"Exif\0\0" + tiff + entry + bytes(2) + bytes(4)
        data = data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]
    path.write_bytes(data)
    return path


def bright_corner(image):
    """Row and column of the brightest quarter, 0 or 1 each."""
    quarters = cv2.resize(image, (2, 2), interpolation=cv2.INTER_AREA)[..., 0]
    return divmod(int(quarters.argmax()), 2)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("orientation", range(9))
def test_the_mark_is_that_of_the_file(tmp_path, orientation, order):
    data = marked(tmp_path / "a.jpg", orientation, order).read_bytes()
    assert exif_orientation(data) == max(orientation, 1)
    upright = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert (upright.shape[0] > upright.shape[1]) == (orientation >= 5)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xe1\0\x10Exif\0\0II", b"\x89PNG"]
)
def test_what_says_nothing_is_not_turned(data):
    assert exif_orientation(data) == 1


@pytest.mark.parametrize(
    ("orientation", "said", "corner", "notice"),
    [
        (0, SIZE, (0, 0), ""),
        (1, SIZE, (0, 0), ""),
        (6, SIZE, (0, 0), ""),  # annotated as stored
        (6, SIZE[::-1], (0, 1), TURNED),  # annotated upright
        (8, SIZE[::-1], (1, 0), TURNED),
        (3, SIZE, (0, 0), UNSURE),
        (6, (0, 0), (0, 0), UNSURE),
        (1, (0, 0), (0, 0), ""),
    ],
)
def test_width_and_height_tell(tmp_path, orientation, said, corner, notice):
    image, found, _ = read_annotated(marked(tmp_path / "a.jpg", orientation), said)
    assert image.shape[:2] == (said[::-1] if any(said) else SIZE[::-1])
    assert (bright_corner(image), found) == (corner, notice)


def test_smaller_and_square_ones(tmp_path):
    image, notice, _ = read_annotated(marked(tmp_path / "a.jpg", 6), SIZE[::-1], 2)
    assert (image.shape, notice, bright_corner(image)) == ((24, 16, 3), TURNED, (0, 1))
    assert read_annotated(marked(tmp_path / "b.jpg", 6, size=(40, 40)), (40, 40)).notice == UNSURE


def test_the_true_reason_of_another_size(tmp_path):
    with pytest.raises(DataError, match=r"a\.jpg: picture is 48 x 32, .* say 32 x 48; width and height are exchanged"):
        read_annotated(marked(tmp_path / "a.jpg", 1), SIZE[::-1])
    with pytest.raises(DataError, match=r"say 30 x 30; it is not the picture"):
        read_annotated(marked(tmp_path / "a.jpg", 6), (30, 30))


def test_whoever_draws_an_annotated_picture_draws_it_as_it_was_annotated(tmp_path):
    """A picture that was annotated upright, by a name with a backslash, and the same without a mark."""
    for folder in ("marked", "upright"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    path = marked(tmp_path / "marked" / "sub" / "a.jpg", 6)
    encoded = cv2.imencode(".png", cv2.imread(str(path)))[1].tobytes()
    (tmp_path / "upright" / "sub" / "a.jpg").write_bytes(encoded)  # decoders go by what is in it
    points = np.column_stack([np.linspace(2, 30, 17), np.linspace(2, 46, 17), np.full(17, 2)])
    data = make_dataset(COCO, [ImageRecord("sub\\a.jpg", *SIZE[::-1])], [0], points[None])
    image = {"id": 1, "file_name": "sub\\a.jpg", "width": SIZE[1], "height": SIZE[0]}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image]}))

    def detected(root):
        return detect_data_set(
            lambda image: np.array([[*image[:9, :4, 0].ravel()[:4], 1.0]]), tmp_path / "a.json", root
        )

    for draw in (partial(draw_skeleton_sheet, data), lambda root: Examples(data, root).person(0), detected):
        one, other = (np.asarray(draw(tmp_path / folder)) for folder in ("marked", "upright"))
        np.testing.assert_array_equal(one, other)
    blank = draw_skeleton_sheet(data, tmp_path / "nowhere")
    assert (blank != draw_skeleton_sheet(data, tmp_path / "marked")).any()


def test_no_other_way_leads_from_an_annotation_file_to_a_picture():
    """Pictures that nobody annotated, of a folder or of classes, are all that read_image is for."""
    root = Path(__file__).parents[1]
    callers = {
        path.relative_to(root).as_posix()
        for folder in ("pose", "tools")
        for path in (root / folder).rglob("*.py")
        if re.search(r"(?<!def )\bread_image\(", path.read_text(encoding="utf-8"))
    }
    assert callers == {
        "pose/classification/train.py",
        "pose/inference/bulk/finder.py",
        "pose/inference/images.py",
        "tools/quickstart.py",
    }


def test_they_are_counted_once_each():
    notices, lines = ImageNotices(), []
    for path in ("a", "b", "a"):
        notices.add([(TURNED, path)], lines.append)
    notices.tell_counts(lines.append)
    notices.tell_counts(lines.append)
    assert lines == [f"a and perhaps more pictures {TURNED}", f"2 pictures {TURNED}"]


@pytest.mark.parametrize(("said", "corner", "lines"), [(SIZE, (0, 0), 0), (SIZE[::-1], (0, 1), 1)])
def test_boxes_of_a_file_turn_the_pictures_of_a_demo(tmp_path, said, corner, lines):
    path, told = marked(tmp_path / "a.jpg", 6), []
    image = {"id": 1, "file_name": "a.jpg", "width": said[0], "height": said[1]}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    (tmp_path / "f.json").write_text(json.dumps({"images": [image], "annotations": [box]}))
    boxes = CocoBoxes(tmp_path / "f.json")
    (frame,) = ImageFiles([path], False, told.append, boxes.size_of)
    assert bright_corner(frame.image) == corner and len(told) == lines


@pytest.mark.parametrize("workers", [0, 1])
def test_training_crops_of_turned_pictures_are_those_of_upright_ones(tmp_path, capsys, workers):
    root = write_tiny_set(tmp_path / "set")
    persons = read_annotations(root / "annotations" / "person_keypoints_train2017.json", COCO)

    def crops(**options):
        dataset = CropDataset(persons, root / "train2017", COCO, INPUT_SIZE, **options)
        loader = make_loader(dataset, 4, workers, train=False)
        return np.concatenate([batch.crops.numpy().copy() for batch in batches(loader)])

    upright = crops()
    assert not capsys.readouterr().err
    for path in sorted((root / "train2017").iterdir())[:3]:
        stored = cv2.rotate(cv2.imread(str(path)), cv2.ROTATE_90_COUNTERCLOCKWISE)
        marked(path, 6, image=stored)
    turned = crops()
    assert np.abs(turned.astype(int) - upright).mean() < 2
    assert f"3 pictures {TURNED}" in capsys.readouterr().err
    for _ in ("made", "found"):
        told: list[str] = []
        crops(crop_cache=tmp_path / "cache", workers=workers, tell=told.append)
        assert f"3 pictures {TURNED}" in told


def test_turned_pictures_are_in_the_records_of_a_training_and_a_test(tmp_path):
    root = write_tiny_set(tmp_path / "set")
    for folder, count in (("train2017", 3), ("val2017", 1)):
        for path in sorted((root / folder).iterdir())[:count]:
            marked(path, 6, image=cv2.rotate(cv2.imread(str(path)), cv2.ROTATE_90_COUNTERCLOCKWISE))
    settings = tiny_settings(root, train=dict(epochs=1, batch_size=4))
    checkpoint = train(settings, tmp_path / "run", "cpu")["checkpoint"]
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert told["training"][-1] == f"3 pictures {TURNED}" and told["validation"][-1] == f"1 pictures {TURNED}"
    test_set = open_test_set(settings, settings.data.val, "annotated")
    evaluate.test(settings.build_model(), test_set, settings, "cpu")
    assert evaluate.stamp(settings, test_set, "model", checkpoint).notices[-1] == f"1 pictures {TURNED}"
