"""The page with the real onnxruntime-web, the shipped network and its detector finds on a street what Python finds.

It needs npm with its registry, Chromium and a minute: `pytest -m slow tests/slow/test_real_page.py -s` prints the
milliseconds. ONNXRUNTIME_WEB may name the package's .tgz.
"""

import os
import shutil

import cv2
import numpy as np
import pytest
from browser import open_browser

from pose import Predictor
from pose.checkpoint import load_weights
from pose.config import load_settings
from pose.export.web_page import export_web_page
from pose.resources import ROOT
from pose.weights import shipped, shipped_detector

STREET = ROOT / "data" / "sample" / "street.jpg"
WAIT = (
    "const done = arguments[0];"
    "(function wait() { window.found ? done([found, element('status').textContent]) : setTimeout(wait, 100); })()"
).replace("element(", "document.getElementById(")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "base_static"])
def test_the_page_finds_what_python_finds(tmp_path, name):
    package = os.environ.get("ONNXRUNTIME_WEB")
    if not package and not shutil.which("npm"):
        pytest.skip("no npm")
    known = shipped(name)
    settings = load_settings(known.config)
    model = settings.build_model()
    load_weights(model, known.checkpoint)
    page = tmp_path / "poses.html"
    export_web_page(model, settings, page, package, shipped_detector().checkpoint)
    with open_browser() as browser:
        browser.set_script_timeout(300)
        browser.get(page.as_uri())
        found = []
        for _ in range(3):  # the first compiles
            browser.execute_script("window.found = null")
            browser.find_element("id", "file").send_keys(str(STREET))
            found.append(browser.execute_async_script(WAIT))
        browser.save_screenshot(str(tmp_path / "page.png"))
    result, told = min(found, key=lambda one: one[0]["milliseconds"])
    print(f"\n{name}: {told}; {page.stat().st_size / 1e6:.1f} MB; {tmp_path / 'page.png'}")
    poses = Predictor.from_weights(name, device="cpu")(cv2.imread(str(STREET)))
    theirs = np.array([person["keypoints"] for person in result["persons"]])
    assert len(theirs) >= len(poses)
    for person in poses:  # by the nearest of the page's; picture scaling differs a little between browser and OpenCV
        seen = person.keypoints[:, 2] > 0.5
        distance = np.linalg.norm(theirs[:, :, :2] - person.keypoints[:, :2], axis=2)[:, seen]
        assert np.median(distance, axis=1).min() < 0.03 * max(person.box[2:4])
