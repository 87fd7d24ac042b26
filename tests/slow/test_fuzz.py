"""Readers and the page are given files that are almost right: they read them or say in a line what is wrong.

`pytest -m slow tests/slow/test_fuzz.py` takes half a minute for each reader. Longer, with a table
of counts, and faults on standard error:

    python tests/slow/test_fuzz.py --seconds 1800 --seed 0
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from spot import BrightestSpot, spot
from tiny import TOOL_MODEL, person, write_coco

from pose.checkpoint import load_weights
from pose.config import load_settings, make_settings
from pose.datasets.coco import read_annotations, read_detections
from pose.errors import PoseError
from pose.evaluation.coco_eval import load_annotations
from pose.evaluation.protocol import TestProtocol
from pose.evaluation.results import read_results
from pose.evaluation.saved_predictions import DECODERS, WAYS, SavedPredictions, load_predictions
from pose.export.onnx_file import export_onnx
from pose.formats.options import ReadOptions
from pose.formats.table import read_dataset
from pose.inference.boxes import CocoBoxes
from pose.inference.predictor import Predictor
from pose.inference.video.files import quiet_opencv, writing_video
from pose.inference.web.server import create_app
from pose.onnx_format import METADATA_KEY
from pose.skeleton import COCO, choose_skeleton

ODD = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**30, 1e308, -1e-320, float("nan"), float("inf"), "", "x", "0",
    "../../x", "\ud800", "é" * 300, b"".decode(), [], {}, [[]], [None], {"a": {}}, [1, 2, 3], "1e3", "coco",
)  # fmt: skip
"""Values in place of others."""

EDITS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from(("replace", "remove", "repeat", "rename")), st.sampled_from(ODD)),
    min_size=1,
    max_size=4,
)
"""Where, what and with which value a document is changed."""

BREAKS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from(("cut", "flip", "insert", "deep")), st.binary(max_size=8)),
    min_size=1,
    max_size=3,
)
"""Where and how the bytes of a file are changed."""

CHANGES = st.tuples(EDITS, st.one_of(st.just([]), st.just([]), st.just([]), BREAKS))
"""Three of four files are changed as documents alone, the fourth in its bytes, too."""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key of a nested document; at most a hundred of a long list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:100]) if isinstance(value, list) else ()
    for key, below in items:
        yield value, key
        yield from places(below)


def edited(document: Any, edits: list[tuple[int, str, Any]]) -> Any:
    """A copy of a document with some of its values odd, gone, twice there or under another name."""
    document = copy.deepcopy(document)
    for where, kind, odd in edits:
        found = list(places(document))
        if not found:
            return odd
        owner, key = found[where % len(found)]
        if kind == "repeat" and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif kind == "rename" and isinstance(owner, dict):
            owner[f"{key}x"] = owner.pop(key)
        elif kind == "remove":
            owner.pop(key)
        else:
            owner[key] = odd
    return document


def broken(content: bytes, breaks: list[tuple[int, str, bytes]]) -> bytes:
    """A file's bytes cut off, flipped, with others among them, or deeper than any reader goes."""
    for where, kind, other in breaks:
        place = where % (len(content) + 1)
        if kind == "cut":
            content = content[:place]
        elif kind == "insert":
            content = content[:place] + other + content[place:]
        elif kind == "deep":
            content = content[:place] + b"[" * 100_000
        elif place < len(content):
            content = content[:place] + bytes([content[place] ^ (1 + where % 255)]) + content[place + 1 :]
    return content


def as_json(document: Any) -> bytes:
    """JSON, with NaN and infinity as Python writes them."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def as_xml(element: Any) -> str:
    """XML of a list of tag, attributes and children; of anything else its text."""
    if not isinstance(element, list) or len(element) < 2 or not isinstance(element[1], dict):
        return escape(str(element))
    tag, attributes, *children = element
    pairs = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
    return f"<{tag}{pairs}>{''.join(map(as_xml, children))}</{tag}>"


class Targets:
    """One method a reader, named ``read_...``: takes the changes and raises what the reader raises.

    Args:
        folder: For files.
    """

    def __init__(self, folder: Path) -> None:
        quiet_opencv()
        self.folder = folder
        rng = np.random.default_rng(0)
        people = [np.column_stack([rng.integers(5, 60, (17, 2)), np.full(17, 2)]) for _ in range(3)]
        images = [{"id": number, "file_name": f"{number}.jpg", "width": 96, "height": 72} for number in (1, 2)]
        annotations = [person(1 + row % 2, 10 + row, each) for row, each in enumerate(people)]
        self.good = write_coco(folder / "good.json", images, annotations)
        self.annotations = json.loads(self.good.read_text())
        self.detections = [dict(image_id=n, category_id=1, bbox=[3, 4, 20, 30.5], score=0.9) for n in (1, 2, 2)]
        keypoints = [each.astype(float).flatten().tolist() for each in people]
        self.results = [dict(image_id=1, category_id=1, keypoints=each, score=0.5) for each in keypoints]
        self.skeleton = json.loads((Path(__file__).parents[2] / "configs/lsp/skeleton.json").read_text())
        self.sections = make_settings(dict(model=TOOL_MODEL, data=dict(input_size=(32, 64)))).to_dict()
        tiny = make_settings(dict(model=TOOL_MODEL, data=dict(input_size=(32, 64))))
        self.model = tiny.build_model()
        self.state = {"model": self.model.state_dict(), "epoch": 3, "settings": tiny.to_dict()}
        export_onnx(self.model, tiny, folder / "good.onnx")
        self.onnx = onnx.load(folder / "good.onnx")
        self.saved = self._predictions()
        (folder / "uploads").mkdir()
        app = create_app(Predictor(BrightestSpot()), folder / "uploads", 200_000, 6)
        app.config["PROPAGATE_EXCEPTIONS"] = True
        self.client = app.test_client()
        with writing_video(folder / "v.mp4", 10) as write:
            for frame in range(4):
                write(spot(20 + 4 * frame, 40))
        for name in ("a.png", "a.jpg"):
            cv2.imwrite(str(folder / name), spot(40, 40))
        self.uploads = {
            "a.png": cv2.imencode(".png", spot(40, 40))[1].tobytes(),
            "a.jpg": cv2.imencode(".jpg", spot(40, 40))[1].tobytes(),
            "a.gif": b"GIF89a" + bytes(30),
            "v.mp4": (folder / "v.mp4").read_bytes(),
        }

    def _predictions(self) -> tuple[dict, dict[str, np.ndarray]]:
        """The text and the arrays of a file of saved predictions."""
        from dataclasses import asdict

        count, joints = 3, 17
        protocol = TestProtocol(boxes="annotated", boxes_count=count)
        arrays = dict(
            image_ids=np.array([1, 1, 2]),
            boxes=np.full((count, 4), 10.0),
            box_scores=np.ones(count),
            annotation_ids=np.arange(count),
            points=np.ones((count, len(WAYS), len(DECODERS), joints, 2), np.float32),
            joint_scores=np.ones((count, len(WAYS), joints), np.float32),
        )
        whole = SavedPredictions(protocol, COCO, (8, 16), "a.json", "images", **arrays)
        whole.save(self.folder / "good.npz")
        with np.load(self.folder / "good.npz") as file:
            about = json.loads(file["about"].tobytes())
        assert about["skeleton"] == json.loads(json.dumps(asdict(COCO)))
        return about, arrays

    def _write(self, name: str, content: bytes, breaks: list) -> Path:
        path = self.folder / name
        path.write_bytes(broken(content, breaks))
        return path

    def read_annotations(self, edits: list, breaks: list) -> None:
        path = self._write("annotations.json", as_json(edited(self.annotations, edits)), breaks)
        read_annotations(path, COCO)

    def read_truth(self, edits: list, breaks: list) -> None:
        load_annotations(self._write("truth.json", as_json(edited(self.annotations, edits)), breaks))

    def read_detections(self, edits: list, breaks: list) -> None:
        path = self._write("detections.json", as_json(edited(self.detections, edits)), breaks)
        read_detections(path, self.good, COCO, 0.2)

    def read_results(self, edits: list, breaks: list) -> None:
        read_results(self._write("results.json", as_json(edited(self.results, edits)), breaks), 17, {1, 2})

    def read_boxes(self, edits: list, breaks: list) -> None:
        document = self.detections if len(edits) % 2 else self.annotations
        boxes = CocoBoxes(self._write("boxes.json", as_json(edited(document, edits)), breaks), 0.3)
        boxes.check_images([Path("1.jpg")])
        boxes.check_frames("v.mp4", 3)
        assert boxes.of_image("2.jpg").shape[1] == boxes.of_frame(1).shape[1] == 5

    def read_skeleton(self, edits: list, breaks: list) -> None:
        path = self._write("skeleton.json", as_json(edited(self.skeleton, edits)), breaks)
        skeleton = choose_skeleton(str(path))
        assert len(skeleton.flip_index) == len(skeleton.sides) == len(skeleton.sigmas)

    def read_configuration(self, edits: list, breaks: list) -> None:
        suffix = ".json" if len(edits) % 2 else ".yaml"  # JSON is YAML, too
        path = self._write(f"config{suffix}", as_json(edited(json.loads(as_json(self.sections)), edits)), breaks)
        load_settings(path).skeleton()

    def read_checkpoint(self, edits: list, breaks: list) -> None:
        buffer = io.BytesIO()
        torch.save(edited(self.state, edits), buffer)
        load_weights(self.model, self._write("checkpoint.pth", buffer.getvalue(), breaks))

    def read_predictions(self, edits: list, breaks: list) -> None:
        about, arrays = self.saved
        rng = random.Random(edits[0][0])
        arrays, name = dict(arrays), rng.choice(list(arrays))
        change = rng.choice(("none", "shape", "rows", "nan", "kind"))
        if change == "shape":
            arrays[name] = arrays[name].reshape(-1)[: rng.randrange(5)]
        elif change == "rows":
            arrays[name] = arrays[name][: rng.randrange(3)]
        elif change == "nan" and arrays[name].dtype.kind == "f":
            arrays[name] = np.where(np.arange(arrays[name].size).reshape(arrays[name].shape) == 1, np.nan, arrays[name])
        elif change == "kind":
            arrays[name] = arrays[name].astype(rng.choice(("U8", "complex64", "bool", "float16")))
        about = edited(about, edits) if change == "none" else about
        buffer = io.BytesIO()
        np.savez(buffer, about=np.frombuffer(as_json(about), np.uint8), **arrays)
        saved = load_predictions(self._write("saved.npz", buffer.getvalue(), breaks))
        saved.predictions(saved.protocol)

    def read_onnx(self, edits: list, breaks: list) -> None:
        model = copy.deepcopy(self.onnx)
        (entry,) = [each for each in model.metadata_props if each.key == METADATA_KEY]
        entry.value = as_json(edited(json.loads(entry.value), edits)).decode("utf-8", "replace")
        path = self._write("network.onnx", model.SerializeToString(), breaks)
        predictor = Predictor.from_onnx(path, "cpu")
        predictor(np.zeros((40, 30, 3), np.uint8))

    def _read_format(self, name: str, documents: list[Any], edits: list, breaks: list) -> None:
        """One of a format's documents, changed."""
        document = documents[edits[0][0] % len(documents)]
        path = self._write(f"{name}.json", as_json(edited(document, edits)), breaks)
        read_dataset(path, name, ReadOptions(images=self.folder))

    def read_format_keypoints(self, edits: list, breaks: list) -> None:
        found = {"width": 96, "height": 72, "box": [1, 2, 30, 40], "track_id": 3, "file_name": "a.png"}
        documents = [
            [{**each, **found} for each in self.results],
            [{**each, "file_name": "a.png"} for each in self.results],
        ]
        self._read_format("keypoints", documents, edits, breaks)

    def read_format_coco(self, edits: list, breaks: list) -> None:
        self._read_format("coco", [self.annotations], edits, breaks)

    def read_format_mpii(self, edits: list, breaks: list) -> None:
        person = {"joints_vis": [1] * 16, "joints": [[5, 6]] * 16, "image": "a.png", "scale": 1.0, "center": [5, 5]}
        self._read_format("mpii", [[person, person]], edits, breaks)

    def read_format_aic(self, edits: list, breaks: list) -> None:
        joints = {"keypoint_annotations": {"human1": [5, 6, 1] * 14}, "human_annotations": {"human1": [1, 2, 30, 40]}}
        self._read_format("aic", [[{"image_id": "a", **joints}]], edits, breaks)

    def read_format_labelme(self, edits: list, breaks: list) -> None:
        shapes = [
            {"label": "eye", "points": [[1, 2]], "shape_type": "point", "group_id": 1, "flags": {}},
            {"label": "person", "points": [[1, 2], [30, 40]], "shape_type": "rectangle", "group_id": 1},
        ]
        file = {"version": "5.5", "imagePath": "../a.png", "imageWidth": 80, "imageHeight": 80, "shapes": shapes}
        self._read_format("labelme", [file], edits, breaks)

    def read_format_label_studio(self, edits: list, breaks: list) -> None:
        size = {"original_width": 80, "original_height": 80}
        place = {"x": 5, "y": 6, "width": 7, "height": 8}
        regions = [
            {
                "id": "a",
                "type": "keypointlabels",
                "value": {**place, "keypointlabels": ["eye"]},
                "parentID": "b",
                **size,
            },
            {"id": "b", "type": "rectanglelabels", "value": {**place, "rectanglelabels": ["person"]}, **size},
            {"type": "relation", "from_id": "a", "to_id": "b"},
        ]
        done = [{"result": regions, "updated_at": "2026-01-02"}, {"result": [], "updated_at": "2026-01-01"}]
        task = {"id": 1, "data": {"image": "/data/local-files/?d=a.png"}, "annotations": done}
        self._read_format("label-studio", [[task]], edits, breaks)

    def read_format_cvat(self, edits: list, breaks: list) -> None:
        """An element's tag, attributes and children as a document, which becomes XML again."""
        points = ["points", {"label": "eye", "outside": "0", "occluded": "1", "points": "1.5,2.5"}]
        skeleton = ["skeleton", {"label": "person", "frame": "3", "group_id": "4"}, points]
        box = ["box", {"label": "person", "group_id": "4", "xtl": "1", "ytl": "2", "xbr": "30", "ybr": "40"}]
        image = ["image", {"id": "0", "name": "a.png", "width": "80", "height": "80"}, skeleton, box]
        track = ["track", {"id": "0", "label": "person"}, skeleton]
        size = ["original_size", {}, ["width", {}, "80"], ["height", {}, "80"]]
        whole = ["annotations", {}, size, image, track]
        text = as_xml(edited(whole, edits)).encode("utf-8", "replace")
        read_dataset(self._write("cvat.xml", text, breaks), "cvat")

    def read_format_yolo(self, edits: list, breaks: list) -> None:
        """The data file, which may be JSON, or the bytes of a label."""
        folder = self.folder / "yolo"
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "images" / "a.png").write_bytes((self.folder / "a.png").read_bytes())
        fields = {"path": ".", "train": "images", "kpt_shape": [2, 3], "names": {"0": "person"}, "flip_idx": [1, 0]}
        label = b"0 .5 .5 .2 .4 .5 .5 2 .1 .2 1\n"
        (folder / "labels" / "a.txt").write_bytes(broken(label, breaks))
        (folder / "data.yaml").write_bytes(as_json(fields if breaks else edited(fields, edits)))
        read_dataset(folder, "yolo")

    def read_request(self, edits: list, breaks: list) -> None:
        """What a client may send to the page; an answer of 500 is a fault, and so is an upload that stays."""
        rng = random.Random(repr(edits))
        name = rng.choice(list(self.uploads))
        body = broken(self.uploads[name], breaks) if breaks or rng.random() < 0.5 else self.uploads[name]
        odd = [value for _, _, value in edits if isinstance(value, str) and value.isprintable()]
        shown = rng.choice([name, *odd, f"{''.join(odd)}{name}", "..", "/", "a/../" + name, name.upper()])
        data = rng.choice(
            [
                {"file": (io.BytesIO(body), shown)},
                {"other": (io.BytesIO(body), shown)},
                {"file": "text"},
                {f"field{number}": "x" for number in range(rng.choice((1, 1200)))},
                body,
            ]
        )
        headers = rng.choice(
            [{}, {}, {}, {"Origin": "http://x"}, {"Host": "x"}, {"Content-Type": "multipart/form-data"}]
        )
        path = rng.choice(["/poses", "/poses", "/poses", "/poses", "/", "/x", "/poses/../..", "/static/x"])
        method = rng.choice(["POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
        answer = self.client.open(path, method=method, data=data if method == "POST" else None, headers=headers)
        assert answer.status_code < 500 or answer.status_code == 507, f"{answer.status_code} {answer.data[:200]!r}"
        assert list((self.folder / "uploads").iterdir()) == [], "an upload stays"
        if answer.status_code >= 400:
            raise PoseError(answer.get_json()["error"] if answer.is_json else str(answer.status_code))


READERS = [name for name in dir(Targets) if name.startswith("read_")]


def fuzz(read: Callable[[list, list], None], seconds: float, first_seed: int) -> tuple[Counter, dict[str, str]]:
    """Gives a reader changed files for so long.

    Returns:
        How many were ``read``, ``refused`` with a line and a ``fault``; and of each kind of fault, by exception and
        place, a traceback and its input.
    """
    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    end = time.monotonic() + seconds

    def once(changes: tuple[list, list]) -> None:
        try:
            read(*changes)
            counts["read"] += 1
        except PoseError as error:
            counts["refused"] += 1
            if not str(error).strip():
                faults["an empty message"] = repr(changes)
        except Exception as error:
            counts["fault"] += 1
            last = traceback.extract_tb(error.__traceback__)
            ours = [line for line in last if "/pose/" in line.filename] or last
            key = f"{type(error).__name__} in {Path(ours[-1].filename).name}: {ours[-1].name}"
            faults.setdefault(key, f"{traceback.format_exc()}\n{changes!r}")

    rounds = 0
    while time.monotonic() < end:
        limits = settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate],
                          suppress_health_check=list(HealthCheck))  # fmt: skip
        seed(first_seed * 1_000_000 + rounds)(limits(given(CHANGES)(once)))()
        rounds += 1
    return counts, faults


@contextmanager
def targets() -> Iterator[Targets]:
    """Readers with files in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Targets(Path(folder))


@pytest.fixture(scope="module")
def made() -> Iterator[Targets]:
    with targets() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_what_is_almost_right_is_read_or_refused_in_a_line(made: Targets, name: str) -> None:
    counts, faults = fuzz(getattr(made, name), 30, 0)
    assert counts["read"] and counts["refused"]
    assert faults == {}, next(iter(faults.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="for all readers together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=READERS, default=READERS, help="these readers alone")
    arguments = parser.parse_args()
    every: dict[str, str] = {}
    print("| reader | files | read | refused | faults | kinds of faults |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    with targets() as made:
        for name in arguments.only:
            counts, faults = fuzz(getattr(made, name), arguments.seconds / len(arguments.only), arguments.seed)
            cells = [counts.total(), counts["read"], counts["refused"], counts["fault"], len(faults)]
            print(f"| {name.removeprefix('read_')} | {' | '.join(map(str, cells))} |", flush=True)
            every |= {f"{name}: {key}": text for key, text in faults.items()}
            for key, text in faults.items():
                print(f"\n=== {name}: {key}\n{text[-3000:]}", file=sys.stderr, flush=True)
    return int(bool(every))


if __name__ == "__main__":
    raise SystemExit(main())
