"""The exported page finds in a real browser what ONNX Runtime finds, and needs nothing but itself."""

import base64
import hashlib
import io
import json
import re
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from browser import open_browser
from tiny import INPUT_SIZE, MODEL

from pose.config import make_settings
from pose.detection.letterbox import input_size
from pose.detection.settings import load_network
from pose.evaluation.calibration import JointCalibration
from pose.export import web_page
from pose.export.errors import ExportError
from pose.export.web_page import LIBRARY, RUNTIME, export_web_page
from pose.weights import shipped_detector

pytest.importorskip("onnx")

STAND_IN = """
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export const InferenceSession = {
  async create(network) {
    window.seen ??= { network: network.byteLength, runtime: env.wasm.wasmBinary.byteLength };
    return { async run({ crops, images }) {
      if (images) {
        window.image = images;
        const boxes = [[8, 8, 24, 40, 0.9], [9, 9, 24, 40, 0.8], [40, 8, 4000, 40, 0.7], [0, 0, 9, 9, 0.01]];
        return { boxes: { data: Float32Array.from(boxes.flat()) } };
      }
      window.crop = crops;
      let best = 0;
      for (let i = 0; i < crops.data.length; i += 3) if (crops.data[i] > crops.data[best]) best = i;
      const pixel = best / 3, width = crops.dims[2];
      const place = [pixel % width, Math.floor(pixel / width)];
      return { keypoints: { data: Float32Array.from(Array.from(Array(17), (_, k) => [...place, k / 16]).flat()) } };
    } };
  },
};
"""
"""In place of the package, which is 14 MB and not on every machine: every keypoint is the reddest pixel of the crop,
and their scores go from 0 to 1."""

# knots below, among and above the scores; two at one place, as a fit with few joints has them
CALIBRATION = JointCalibration(
    np.tile([0.1, 0.3, 0.3, 0.9], (17, 1)), np.linspace([0, 0.1, 0.2, 0.5], [0.3, 0.4, 0.9, 1], 17), 0.4, True
)

WAIT = (
    "const done = arguments[0];"
    "(function wait() { window.found ? done([found, seen, crop.dims, window.image?.dims]) : setTimeout(wait, 50); })()"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    path = tmp_path / "onnxruntime-web-0.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in ((LIBRARY, STAND_IN.encode()), (RUNTIME, b"\0asm")):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))
    monkeypatch.setattr(web_page, "INTEGRITY", base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode())
    return path


def test_a_picture_becomes_keypoints_in_its_pixels(tmp_path, package):
    settings = make_settings(dict(model=MODEL, data=dict(input_size=INPUT_SIZE)))
    page = tmp_path / "page.html"
    assert export_web_page(settings.build_model(), settings, page, package, calibration=CALIBRATION.to_dict()) <= 1e-4
    image = np.zeros((96, 72, 3), np.uint8)
    cv2.circle(image, (50, 30), 5, (0, 0, 255), -1)  # red in BGR
    cv2.imwrite(str(tmp_path / "me.png"), image)
    with open_browser() as browser:
        browser.get(page.as_uri())
        browser.find_element("id", "file").send_keys(str(tmp_path / "me.png"))
        browser.set_script_timeout(60)
        (result, seen, dims, image_dims) = browser.execute_async_script(WAIT)
    assert image_dims is None and len(result["persons"]) == 1
    assert dims == [1, INPUT_SIZE[1], INPUT_SIZE[0], 3] and seen["network"] > 1000 and seen["runtime"] == 4
    found = np.array(result["persons"][0]["keypoints"])
    assert np.abs(found[:, :2] - (50, 30)).max() < 8
    np.testing.assert_allclose(found[:, 2], CALIBRATION(np.linspace(0, 1, 17, dtype=np.float32)), atol=1e-6)


def test_the_detector_in_the_page_finds_persons(tmp_path, package):
    """Its boxes are the stand-in's: one of a person twice, one that leaves the picture, one below the threshold."""
    settings = make_settings(dict(model=MODEL, data=dict(input_size=INPUT_SIZE)))
    page = tmp_path / "page.html"
    export_web_page(settings.build_model(), settings, page, package, shipped_detector().checkpoint)
    cv2.imwrite(str(tmp_path / "me.png"), np.zeros((240, 320, 3), np.uint8))
    with open_browser() as browser:
        browser.get(page.as_uri())
        browser.find_element("id", "file").send_keys(str(tmp_path / "me.png"))
        browser.set_script_timeout(60)
        (result, _, _, image_dims) = browser.execute_async_script(WAIT)
    across, down = input_size(320, 240, load_network(shipped_detector().checkpoint)[1].test.input_area)
    assert image_dims == [1, down, across, 3]
    factor = min(across / 320, down / 240)
    first, second = (np.array(person["box"]) * factor for person in result["persons"])
    np.testing.assert_allclose(first, [8, 8, 16, 32], atol=1e-4)
    np.testing.assert_allclose(second, [40, 8, across - 40, 32], atol=1e-4)


def test_the_page_has_the_calibration_of_its_scores_alone(tmp_path, package):
    settings = make_settings(dict(model=MODEL, data=dict(input_size=INPUT_SIZE)))
    model, page = settings.build_model(), tmp_path / "page.html"

    def shown(calibration):
        export_web_page(model, settings, page, package, calibration=calibration)
        text = re.search(r'id="metadata">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
        return json.loads(text[1])["calibration"]

    assert settings.test.flip
    assert shown(CALIBRATION.to_dict()) == CALIBRATION.to_dict()
    assert shown(None) is None
    assert shown(replace(CALIBRATION, flip=False).to_dict()) is None, "of scores that are not flip-averaged"
    with pytest.raises(ExportError, match="calibration cannot be used"):
        export_web_page(model, settings, page, package, calibration={"scores": []})


def test_what_is_not_the_package_is_told(tmp_path):
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    settings = make_settings(dict(model=MODEL, data=dict(input_size=INPUT_SIZE)))
    with pytest.raises(ExportError, match=r"other\.tgz: not onnxruntime-web@.* by its SHA-512"):
        export_web_page(settings.build_model(), settings, tmp_path / "page.html", tmp_path / "other.tgz")
    assert not (tmp_path / "page.html").exists()
