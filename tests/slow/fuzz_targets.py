"""Every reader that takes files of others, and the page: each is given a good file that was changed."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from fuzz_changes import as_json, broken, edited
from spot import BrightestSpot, spot
from tiny import TOOL_MODEL, person, write_coco

from pose.checkpoint import load_weights
from pose.config import load_settings, make_settings
from pose.datasets.coco import read_annotations, read_detections
from pose.detection.annotated import read_boxes, read_truth
from pose.detection.score import evaluate_boxes
from pose.errors import MissingExtra, PoseError
from pose.evaluation.coco_eval import load_annotations
from pose.evaluation.protocol import TestProtocol
from pose.evaluation.results import read_results
from pose.evaluation.saved_predictions import DECODERS, WAYS, SavedPredictions, load_predictions
from pose.export.formats import export_file
from pose.export.onnx_file import export_onnx
from pose.formats.options import ReadOptions, WriteOptions
from pose.formats.table import FORMATS, WRITABLE, read_dataset
from pose.inference.boxes import CocoBoxes
from pose.inference.predictor import Predictor
from pose.inference.video.files import quiet_opencv, writing_video
from pose.inference.web.server import create_app
from pose.native.program_file import DETAILS, STEPS
from pose.onnx_format import METADATA_KEY
from pose.skeleton import COCO, choose_skeleton


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
        self.native = []
        for crops in (None, torch.randn(4, 3, 64, 32)):
            export_file(self.model, tiny, folder / "good.native", "native", calibration_crops=crops)
            with zipfile.ZipFile(folder / "good.native") as archive:
                self.native.append({name: archive.read(name) for name in archive.namelist()})
        self.saved = self._predictions()
        (folder / "uploads").mkdir()
        app = create_app(Predictor(BrightestSpot()), folder / "uploads", 200_000, 6)
        app.config["PROPAGATE_EXCEPTIONS"] = True
        self.client = app.test_client()
        with writing_video(folder / "v.mp4", 10) as write:
            for frame in range(4):
                write(spot(20 + 4 * frame, 40))
        (folder / "images").mkdir()
        for image in images:
            cv2.imwrite(str(folder / "images" / image["file_name"]), np.zeros((72, 96, 3), np.uint8))
        (folder / "formats").mkdir()
        self.formats = self._formats()
        self.uploads = {
            "a.png": cv2.imencode(".png", spot(40, 40))[1].tobytes(),
            "a.jpg": cv2.imencode(".jpg", spot(40, 40))[1].tobytes(),
            "a.gif": b"GIF89a" + bytes(30),
            "v.mp4": (folder / "v.mp4").read_bytes(),
        }
        made = "annotations truth detections results boxes skeleton config checkpoint saved network"
        suffixes = (".json", ".yaml", ".pth", ".npz", ".onnx", ".native")
        self.there = {each.name for each in folder.iterdir()} | {n + s for n in made.split() for s in suffixes}

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

    def _formats(self) -> dict[str, Any]:
        """A document of each text format that is read, by the format's name; CVAT's is its XML."""
        place = {"x": 50, "y": 10, "width": 20, "height": 40, "keypointlabels": ["nose"]}
        region = {"id": "a", "type": "keypointlabels", "value": place, "original_width": 96, "original_height": 72}
        box = {**region, "id": "b", "type": "rectanglelabels", "value": {**place, "rectanglelabels": ["person"]}}
        tie = {"type": "relation", "from_id": "b", "to_id": "a", "direction": "left"}
        shape = {"label": "nose", "points": [[5, 6]], "group_id": 1, "shape_type": "point", "flags": {}}
        mpii = {"joints": [[5, 6]] * 16, "joints_vis": [1] * 16, "image": "1.jpg", "center": [5, 6], "scale": 1.0}
        aic = {"image_id": "1", "keypoint_annotations": {"human1": [5, 6, 1] * 14},
               "human_annotations": {"human1": [1, 2, 30, 40]}}  # fmt: skip
        found = {**self.results[0], "file_name": "1.jpg", "width": 96, "height": 72, "box": [1, 2, 30, 40]}
        points = '<points label="nose" outside="0" occluded="1" points="3.50,4.25"/>'
        skeleton = f'<skeleton label="person" frame="0" outside="0" group_id="4">{points}</skeleton>'
        size = "<meta><original_size><width>96</width><height>72</height></original_size></meta>"
        drawn = f'<image id="0" name="1.jpg" width="96" height="72">{skeleton}</image>'
        track = f'<track id="5" label="person">{skeleton}</track>'
        return {
            "coco": self.annotations,
            "keypoints": [found],
            "labelme": {"version": "5", "imagePath": "1.jpg", "imageWidth": 96, "imageHeight": 72,
                        "shapes": [shape, {**shape, "shape_type": "rectangle", "points": [[1, 2], [30, 40]]}]},
            "label-studio": [
                {"id": 1, "data": {"image": "/data/1.jpg"}, "annotations": [{"result": [region, box, tie]}]}
            ],
            "mpii": [mpii],
            "aic": [aic],
            "cvat": f"<annotations><version>1.1</version>{size}{drawn}{track}</annotations>",
        }  # fmt: skip

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
        boxes.check_images([Path("1.jpg")], lambda line: None)
        boxes.check_frames("v.mp4", 3)
        assert boxes.of_image("2.jpg").shape[1] == boxes.of_frame(1).shape[1] == 5

    def read_detector_boxes(self, edits: list, breaks: list) -> None:
        truth = edited(self.annotations, edits[1:]) if len(edits) > 2 else self.annotations
        boxes = self._write("boxes.json", as_json(edited(self.detections, edits[:2])), breaks)
        annotations = self._write("truth.json", as_json(truth), [])
        evaluate_boxes(read_truth(annotations)[0], read_boxes(boxes, annotations)[0])

    def read_formats(self, edits: list, breaks: list) -> None:
        """Annotations of labelling tools and of data sets; what is read is written in every format again."""
        rng = random.Random(repr(edits))
        name = rng.choice(list(self.formats))
        whole = self.formats[name]
        if isinstance(whole, str):  # CVAT's XML: whole words are exchanged, as values of a document are
            for where, _, odd in edits:
                words = whole.split('"')
                place = where % len(words)
                whole = '"'.join([*words[:place], str(odd).encode("utf-8", "replace").decode(), *words[place + 1 :]])
            content = whole.encode()
        else:
            content = as_json(edited(whole, edits))
        path = self._write(f"formats/a.{'xml' if name == 'cvat' else 'json'}", content, breaks)
        found = read_dataset(path, rng.choice((name, name, None)), ReadOptions(images=self.folder / "images"))
        write_as = rng.choice(WRITABLE)
        target = self.folder / "formats" / "out" / ("a" if FORMATS[write_as].folder else "a.csv")
        write = FORMATS[write_as].write
        assert write is not None
        with suppress(MissingExtra):
            write(found, target, WriteOptions())
        assert {each.name for each in self.folder.iterdir()} <= self.there, "a file outside of the folder"

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

    def read_native(self, edits: list, breaks: list) -> None:
        """A file of native layers, in float32 or 8 bits, whose steps and details are changed."""
        good = self.native[len(repr(edits)) % 2]
        documents = edited({name: json.loads(good[name]) for name in (STEPS, DETAILS)}, edits)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in good.items():
                if name not in (STEPS, DETAILS):
                    archive.writestr(name, content)
            for name, document in documents.items() if isinstance(documents, dict) else ():
                archive.writestr(str(name), as_json(document))
        predictor = Predictor.from_file(self._write("network.native", buffer.getvalue(), breaks), "cpu")
        predictor(np.zeros((40, 30, 3), np.uint8))

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
            told = answer.is_json and answer.data  # HEAD has no body
            raise PoseError(answer.get_json()["error"] if told else str(answer.status_code))
