"""The page of a video, in a real browser: frames, skeletons, scores, and what happens on a click."""

import base64
import json
import re

import numpy as np
import pytest
from browser import open_browser

from pose.inference.inputs import Frame
from pose.inference.video.files import BROWSER_SUFFIXES, CODECS, writing_video
from pose.inference.web.viewer import html_file
from pose.poses import Poses
from pose.skeleton import COCO
from pose.visualization import SIDE_COLORS

SIZE = (320, 240)
ELBOW, WRIST = COCO.keypoints.index("left_elbow"), COCO.keypoints.index("left_wrist")


def poses_at(frame):
    """Person 1 moves to the right, four pixels a frame; person 2 is in the first half alone."""
    keypoints = np.zeros((2, 17, 3))
    keypoints[0, ELBOW], keypoints[0, WRIST] = (20 + 4 * frame, 60, 0.9), (20 + 4 * frame, 180, 0.3)
    keypoints[1, ELBOW], keypoints[1, WRIST] = (300, 60, 0.8), (300, 180, 0.8)
    boxes = np.array([[10.0 + 4 * frame, 50, 20, 140], [290, 50, 20, 140]])
    ones = np.ones(2)
    poses = Poses(boxes, ones, keypoints, ones * 0.5, ones * 6000, np.arange(2), COCO, np.array([1, 2]))
    return poses[: 2 if frame < 10 else 1]


def write_page(path, frames=20, **options):
    with html_file(path, "A </script> title", COCO, 25, frames, SIZE, **options) as write:
        for number in range(frames):
            image = np.full((SIZE[1], SIZE[0], 3), 10 * number, np.uint8)
            write(Frame(number, image), poses_at(number), image)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = write_page(tmp_path_factory.mktemp("page") / "a.html")
    with open_browser() as browser:
        browser.get(page.as_uri())
        yield browser


def pixel(browser, x, y):
    """Red, green and blue of the picture's canvas at a pixel of the video."""
    script = """
        const canvas = document.getElementById("picture"), scale = canvas.width / META.width;
        const [x, y] = [arguments[0], arguments[1]].map((value) => Math.round((value + 0.5) * scale));
        return Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data.slice(0, 3));
    """
    return browser.execute_script(script, x, y)


def choose(browser, element, value):
    """Sets a control as a person would, and waits until its frame is painted."""
    script = """
        const [id, value, done] = arguments;
        const element = document.getElementById(id);
        element.value = value;
        document.getElementById("picture").dataset.frame = "";
        element.dispatchEvent(new Event("input"));
        const wait = () => document.getElementById("picture").dataset.frame === "" ? setTimeout(wait, 5) : done();
        wait();
    """
    browser.execute_async_script(script, element, value)


@pytest.fixture(autouse=True)
def fresh(request):
    if "browser" in request.fixturenames:
        page = request.getfixturevalue("browser")
        for element, value in (("threshold", 0.2), ("person", "all"), ("keypoint", "all"), ("frame", 0)):
            choose(page, element, value)


def is_arm(color):
    return color == pytest.approx(SIDE_COLORS["left"][::-1], abs=12)


def test_the_skeleton_lies_over_its_frame(browser):
    assert browser.title == "A </script> title"
    assert is_arm(pixel(browser, 20, 120)) and is_arm(pixel(browser, 300, 120))
    assert pixel(browser, 160, 120) == pytest.approx([0, 0, 0], abs=3)


def test_the_slider_goes_to_a_frame(browser):
    choose(browser, "frame", 15)
    assert is_arm(pixel(browser, 80, 120)) and not is_arm(pixel(browser, 20, 120))
    assert not is_arm(pixel(browser, 300, 120))
    assert pixel(browser, 160, 120) == pytest.approx([150, 150, 150], abs=3)
    assert browser.find_element("id", "number").text == "15 of 19"


def test_the_threshold_hides_doubtful_joints(browser):
    choose(browser, "threshold", 0.5)
    assert not is_arm(pixel(browser, 20, 120)) and is_arm(pixel(browser, 20, 60)) and is_arm(pixel(browser, 300, 120))


def test_one_person_and_the_numbers(browser):
    choose(browser, "person", "2")
    assert not is_arm(pixel(browser, 20, 120)) and is_arm(pixel(browser, 300, 120))
    rows = [row.text for row in browser.find_elements("css selector", "#numbers tr")]
    assert len(rows) == 17 and rows[WRIST] == "left wrist 300.0 180.0 0.80"


def test_buttons_and_keys_step_and_play_moves_on(browser):
    number = browser.find_element("id", "number")
    browser.find_element("id", "forth").click()
    assert number.text == "1 of 19"
    browser.find_element("id", "back").click()
    assert number.text == "0 of 19"
    browser.find_element("tag name", "body").send_keys("\ue014")  # the right arrow
    assert number.text == "1 of 19"
    play = browser.find_element("id", "play")
    play.click()
    assert play.text == "Pause"
    browser.execute_async_script(
        "const wait = () => document.getElementById('number').textContent === '1 of 19' ? setTimeout(wait, 5) : done();"
        "const done = arguments[0]; wait();"
    )
    play.click()
    assert number.text != "1 of 19"


def test_the_plot_shows_the_scores_and_goes_where_it_is_clicked(browser):
    ink = """
        const canvas = document.getElementById("plot"), context = canvas.getContext("2d");
        const color = document.createElement("canvas").getContext("2d");
        color.fillStyle = trackColor(arguments[0]);
        color.fillRect(0, 0, 1, 1);
        const wanted = color.getImageData(0, 0, 1, 1).data, rows = [];
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        for (let i = 0; i < data.length; i += 4)
          if (Math.abs(data[i] - wanted[0]) + Math.abs(data[i + 1] - wanted[1]) + Math.abs(data[i + 2] - wanted[2]) < 40
              && data[i + 3] > 200) rows.push(Math.floor(i / 4 / canvas.width) / canvas.height);
        return rows;
    """
    choose(browser, "keypoint", ELBOW)
    high = np.mean(browser.execute_script(ink, 1))
    choose(browser, "keypoint", WRIST)
    low = np.mean(browser.execute_script(ink, 1))
    assert low - high == pytest.approx(0.6, abs=0.1)  # scores .9 and .3, from top to bottom
    choose(browser, "person", "1")
    assert browser.execute_script(ink, 2) == []
    browser.execute_script(
        "const plot = document.getElementById('plot'), box = plot.getBoundingClientRect();"
        "plot.dispatchEvent(new MouseEvent('click', {clientX: box.left + box.width * 0.75, clientY: box.top + 9}));"
    )
    assert browser.find_element("id", "number").text.split()[0] in ("13", "14", "15")


@pytest.mark.parametrize("suffix", CODECS)
def test_which_videos_a_browser_plays(browser, tmp_path, suffix):
    with writing_video(tmp_path / f"a{suffix}", 10) as write_frame:
        for _ in range(5):
            write_frame(np.zeros((48, 64, 3), np.uint8))
    data = base64.b64encode((tmp_path / f"a{suffix}").read_bytes()).decode()
    script = """
        const [data, done] = arguments, video = document.createElement("video");
        video.onloadeddata = () => done(video.videoWidth);
        video.onerror = () => done(0);
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        video.src = URL.createObjectURL(new Blob([bytes]));
    """
    assert browser.execute_async_script(script, data) == (64 if suffix in BROWSER_SUFFIXES else 0)


def test_the_page_needs_nothing_else(tmp_path):
    text = write_page(tmp_path / "a.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']|@import|https?://|fetch\(""", text)


def test_a_long_video_keeps_few_pictures_and_every_skeleton(tmp_path):
    text = write_page(tmp_path / "a.html", 20, most_images=7).read_text()
    entries = [json.loads(entry) for entry in re.findall(r"<script>add\((.*)\)</script>", text)]
    assert [entry["number"] for entry in entries if entry["picture"]] == list(range(0, 20, 3))
    assert [len(entry["persons"]) for entry in entries] == [2] * 10 + [1] * 10
