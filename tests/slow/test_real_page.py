"""The page with the real onnxruntime-web, the shipped network and its detector finds on a street what Python finds.

It needs npm with its registry, Chromium and a minute: `pytest -m slow tests/slow/test_real_page.py -s` prints the
milliseconds. ONNXRUNTIME_WEB may name the package's .tgz.
"""

import os
import shutil
import time

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
FOUND = "return window.found ? [found, document.getElementById('status').textContent] : null"
AGAIN = "window.found = null; document.getElementById('file').dispatchEvent(new Event('change'))"
LONGEST_WAIT = 600
"""Seconds; on a machine that does nothing else it is a few."""


def wait_for(browser):
    """What the page found, and its words for it."""
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end:
        found = browser.execute_script(FOUND)
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing in {LONGEST_WAIT} s: {browser.find_element('id', 'status').text}")


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
        browser.get(page.as_uri())
        browser.find_element("id", "file").send_keys(str(STREET))
        found = [wait_for(browser)]
        for _ in range(2):  # the first time it compiles
            browser.execute_script(AGAIN)
            found.append(wait_for(browser))
        browser.save_screenshot(str(tmp_path / "page.png"))
    result, told = min(found, key=lambda one: one[0]["milliseconds"])
    print(f"\n{name}: {told}; {page.stat().st_size / 1e6:.1f} MB; {tmp_path / 'page.png'}")
    poses = Predictor.from_weights(name, device="cpu")(cv2.imread(str(STREET)))
    theirs = np.array([person["keypoints"] for person in result["persons"]])
    nearest = []
    for person in poses:  # a browser scales pictures otherwise than OpenCV, so the detector's weaker boxes may differ
        seen = person.keypoints[:, 2] > 0.5
        distance = np.linalg.norm(theirs[:, :, :2] - person.keypoints[:, :2], axis=2)[:, seen]
        nearest.append(np.median(distance, axis=1).min() / max(person.box[2:4]) if seen.any() else np.inf)
    assert (np.array(nearest) < 0.03).sum() >= 2, nearest
