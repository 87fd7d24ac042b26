"""The local page: in a real browser, by several at a time, and with what should not come."""

import errno
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from browser import open_browser
from spot import BrightestSpot, spot
from test_files import full_disk

from pose.checkpoint import save_checkpoint
from pose.config import load_settings
from pose.errors import OutputError
from pose.inference.predictor import Predictor
from pose.inference.video.files import writing_video
from pose.skeleton import Skeleton

pytest.importorskip("flask")
serving = pytest.importorskip("werkzeug.serving")

from pose.inference.web.camera import CameraStreams  # noqa: E402 - needs Flask
from pose.inference.web.server import create_app  # noqa: E402 - needs Flask

SERVE = Path(__file__).parents[1] / "tools" / "serve.py"


class Arm(BrightestSpot):
    """From the brightest place of the crop to the middle of its left edge; slow, so that requests meet."""

    skeleton = Skeleton("arm", ("left_elbow", "left_wrist"), limbs=((0, 1),))

    def __call__(self, crops):
        points, scores = super().__call__(crops)
        time.sleep(0.02)
        return np.concatenate([points, np.full_like(points, (0, 32))], 1), np.concatenate([scores, 0 * scores + 0.4], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def port(folder):
    (folder / "uploads").mkdir()
    app = create_app(Predictor(Arm()), folder / "uploads", most_bytes=9_000_000, most_frames=12)
    server = serving.make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def ask(port, body=None, name="a.png", method="POST", path="/poses", **headers):
    """Status and answer of a request like the page's own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    if body is not None:
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + body + b"\r\n--b--\r\n"
        headers["Content-Type"] = "multipart/form-data; boundary=b"
    with suppress(BrokenPipeError):  # what is too long is answered before all of it came
        connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    return answer.status, json.loads(text) if text.startswith("{") else text


def png(x, y):
    return cv2.imencode(".png", spot(x, y))[1].tobytes()


def test_a_picture(port):
    status, answer = ask(port, png(70, 30), "street.png")
    assert status == 200
    (person,) = answer["persons"]
    assert person["keypoints"][0][:2] == pytest.approx([70, 30], abs=4)
    assert (answer["width"], answer["height"]) == (120, 90)
    assert answer["records"][0]["file_name"] == "street.png"
    assert answer["picture"].startswith("data:image/jpeg;base64,")


def test_a_video_comes_back_as_a_page_cut_to_the_limit(port, folder):
    with writing_video(folder / "v.mp4", 10) as write_frame:
        for frame in range(16):
            write_frame(spot(20 + 4 * frame, 40))
    status, answer = ask(port, (folder / "v.mp4").read_bytes(), "v.mp4")
    assert status == 200
    assert answer["page"].count("add({") == 12
    assert [record["frame"] for record in answer["records"]] == list(range(12))
    assert "12 frames, the first of 16" in answer["note"]


def test_camera_streams_are_followed_apart(port):
    def place(name, x, y):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", f"/camera/{name}", cv2.imencode(".jpg", spot(x, y))[1].tobytes())
        answer = json.loads(connection.getresponse().read())
        return answer["persons"][0]["track_id"], answer["persons"][0]["keypoints"][0][:2]

    for step in range(3):
        for name, x in (("one", 30), ("other", 90)):
            track, point = place(name, x + 2 * step, 40)
            assert point == pytest.approx([x + 2 * step, 40], abs=5)
            assert track == place(name, x + 2 * step, 40)[0]


def test_streams_that_were_silent_longest_are_forgotten():
    streams = CameraStreams(Predictor(Arm()), 1, most=2)
    for name in ("a", "b", "a", "c"):
        streams(name, spot(60, 40))
    assert list(streams._streams) == ["a", "c"]
    assert streams._streams["a"].count == 2


def test_what_is_no_camera_image_gets_a_word(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/camera/one", b"no image")
    answer = connection.getresponse()
    assert answer.status == 422 and "camera" in json.loads(answer.read())["error"]


def test_many_at_a_time_are_not_mixed_up(port):
    places = [(10 + 4 * index, 80 - 2 * index) for index in range(24)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda place: ask(port, png(*place), f"{place[0]}.png"), places))
    for (x, y), (status, answer) in zip(places, answers, strict=True):
        assert status == 200 and answer["file_name"] == f"{x}.png"
        assert answer["persons"][0]["keypoints"][0][:2] == pytest.approx([x, y], abs=4)


@pytest.mark.parametrize(
    ("body", "name", "status", "said"),
    [
        (b"no picture", "a.jpg", 422, "a.jpg"),
        (b"no video", "a.mp4", 422, "a.mp4"),
        (b"", "a.jpg", 422, "a.jpg"),
        (b"x" * 9_100_000, "a.jpg", 413, "9 MB"),
        (None, "", 400, "no file"),
    ],
)
def test_what_cannot_be_used_gets_a_word(port, folder, body, name, status, said):
    found, answer = ask(port, body, name)
    assert found == status and said in answer["error"]
    assert str(folder) not in answer["error"] and "Traceback" not in answer["error"]


@pytest.mark.parametrize("place", ["form", "folder", "page"])
def test_a_full_disk_gets_a_word_and_nothing_stays(port, folder, monkeypatch, place):
    if place == "page":
        monkeypatch.setattr("pose.inference.web.server.html_file", no_room)
        with writing_video(folder / "short.mp4", 10) as write_frame:
            write_frame(spot(20, 40))
        body = (folder / "short.mp4").read_bytes()
    else:  # a form above a megabyte is written while it is read
        body = np.random.default_rng(0).bytes(2_000_000 if place == "form" else 100_000)
    with full_disk(100_000_000 if place == "page" else 50_000):
        status, answer = ask(port, body, "short.mp4")
    assert status == 507 and "no room" in answer["error"]
    assert list((folder / "uploads").iterdir()) == []


@contextmanager
def no_room(*_):
    raise OutputError("page.html: cannot be written") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    yield


def test_a_form_of_many_fields_is_not_told_to_be_a_large_file(port):
    for fields in (2000 * [b"x"], [b"x" * 600_000]):
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n%s\r\n' % each for each in enumerate(fields)
        ]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        body = b"".join([*parts, b"--b--\r\n"])
        connection.request("POST", "/poses", body, {"Content-Type": "multipart/form-data; boundary=b"})
        answer = connection.getresponse()
        assert answer.status == 413 and "too many fields, or too much text" in json.loads(answer.read())["error"]


def test_names_lead_nowhere_and_nothing_stays(port, folder):
    for name in ("../../evil.png", "/etc/evil.png", "..\\\\evil.png", "a/b/evil.png"):
        status, answer = ask(port, png(70, 30), name)
        assert status == 200 and answer["file_name"] == "evil.png"
    assert list((folder / "uploads").iterdir()) == []
    assert not list(folder.rglob("evil*")) and not list(folder.parent.glob("evil*"))
    for path in ("/../serve.py", "/static/x", "/poses/../../etc/passwd"):
        assert ask(port, method="GET", path=path)[0] == 404


def test_other_sites_names_and_pages_are_refused(port):
    assert ask(port, method="GET", path="/")[0] == 200
    assert ask(port, method="GET", path="/", Host="evil.example")[0] == 403
    assert ask(port, png(70, 30), Origin="https://evil.example")[0] == 403
    assert ask(port, png(70, 30), Origin=f"http://127.0.0.1:{port}")[0] == 200


@pytest.fixture(scope="module")
def browser(port):
    with open_browser() as browser:
        browser.get(f"http://127.0.0.1:{port}/")
        yield browser


def send(browser, path):
    """Chooses a file and waits for its result."""
    browser.execute_script("delete document.body.dataset.shown")
    browser.find_element("id", "file").send_keys(str(path))
    wait(browser, f"document.body.dataset.shown === {path.name!r}")


def wait(browser, condition):
    script = "const done = arguments[0], wait = () => (%s) ? done(true) : setTimeout(wait, 10); wait();"
    assert browser.execute_async_script(script % condition)


def red_of(browser, x, y):
    script = "return document.getElementById('picture').getContext('2d').getImageData(arguments[0], arguments[1], 1, 1)"
    return browser.execute_script(script + ".data[0]", x, y)


def test_a_picture_in_the_browser(browser, folder):
    cv2.imwrite(str(folder / "spot.png"), spot(80, 45))
    send(browser, folder / "spot.png")
    assert "1 person" in browser.find_element("id", "status").text
    assert red_of(browser, 40, 45) > 200  # the limb is orange, the picture black
    threshold = "arguments[0].value = 0.6; arguments[0].dispatchEvent(new Event('input'))"
    browser.execute_script(threshold, browser.find_element("id", "threshold"))
    wait(browser, "document.getElementById('picture').getContext('2d').getImageData(40, 45, 1, 1).data[0] < 60")


def test_a_dropped_picture_and_its_json(browser, folder):
    script = """
        const [bytes, done] = arguments, files = new DataTransfer();
        files.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
        document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: files}));
        const saved = URL.createObjectURL;
        const wait = () => {
            if (document.body.dataset.shown !== "dropped.png") return setTimeout(wait, 10);
            URL.createObjectURL = (blob) => { blob.text().then(done); return saved(blob); };
            document.getElementById("json").click();
        };
        wait();
    """
    (record,) = json.loads(browser.execute_async_script(script, list(png(30, 60))))
    assert record["file_name"] == "dropped.png"
    assert record["keypoints"][:2] == pytest.approx([30, 60], abs=4)


def test_a_pasted_picture_the_sample_and_a_person_picked_by_mouse(browser):
    script = """
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(arguments[0])], "pasted.png", {type: "image/png"}));
        document.dispatchEvent(new ClipboardEvent("paste", {bubbles: true, clipboardData: files}));
    """
    browser.execute_script(script, list(png(30, 60)))
    wait(browser, "document.body.dataset.shown === 'pasted.png'")
    assert browser.find_element("css selector", "#numbers td").text == "left elbow"
    browser.find_element("id", "sample").click()
    wait(browser, "document.body.dataset.shown === 'street.jpg'")
    assert browser.find_element("id", "person").get_attribute("value") == "all"
    browser.find_element("id", "picture").click()  # the whole picture is one person
    assert browser.find_element("id", "person").get_attribute("value") == "1"


def test_a_camera_in_the_browser(browser):
    browser.find_element("id", "camera").click()
    wait(browser, "document.body.dataset.shown === 'camera.jpg'")
    assert "Camera: 1 person" in browser.find_element("id", "status").text
    assert not browser.find_element("id", "json").is_displayed()
    browser.find_element("id", "camera").click()
    wait(browser, "!camera.on")
    assert browser.find_element("id", "status").text == "The camera is off."


def test_the_page_on_a_phone(browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    )
    browser.refresh()
    browser.find_element("id", "sample").click()
    wait(browser, "document.body.dataset.shown === 'street.jpg'")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.refresh()


def test_a_video_in_the_browser(browser, folder):
    """Noise, so that the page is larger than the 2 MB that browsers take for the text of an address."""
    rng = np.random.default_rng(0)
    with writing_video(folder / "clip.avi", 10) as write_frame:
        for _ in range(12):
            write_frame(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
    send(browser, folder / "clip.avi")
    assert browser.execute_script("return current.page.length") > 2_500_000
    browser.switch_to.frame("video")
    wait(browser, "document.getElementById('picture').dataset.frame === '0'")
    assert browser.find_element("id", "number").text == "0 of 11"
    browser.switch_to.default_content()
    assert not browser.find_element("id", "picture").is_displayed()


def test_a_file_that_is_no_picture_in_the_browser(browser, folder):
    (folder / "text.png").write_text("no picture")
    browser.find_element("id", "file").send_keys(str(folder / "text.png"))
    wait(browser, "document.getElementById('status').className === 'wrong'")
    assert "text.png" in browser.find_element("id", "status").text
    browser.get_log("browser")  # the refusal itself is told in the console


def test_the_tool_listens_on_this_machine_alone(tmp_path):
    (tmp_path / "tiny.py").write_text(
        'model = dict(backbone=dict(type="mobilenet_v2", width=0.35), head=dict(type="bottleneck"))\n'
        "data = dict(input_size=(64, 64))\n"
    )
    torch.manual_seed(0)
    model = load_settings(tmp_path / "tiny.py").build_model()
    save_checkpoint(tmp_path / "tiny.pth", {"model": model.state_dict()})
    command = [sys.executable, SERVE, tmp_path / "tiny.py", tmp_path / "tiny.pth", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        found = re.match(r"open http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        port = int(found.group(1))
        status, answer = ask(port, png(70, 30))
        assert status == 200 and len(answer["persons"][0]["keypoints"]) == 17
        wide = cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))[1].tobytes()
        status, answer = ask(port, wide, "wide.png")
        assert status == 422 and "wide.png" in answer["error"] and "too large" in answer["error"]
        taken = subprocess.run([*command[:-4], "--port", str(port)], capture_output=True, text=True, check=False)
        assert taken.returncode == 2 and str(port) in taken.stderr and taken.stderr.count("\n") == 1
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_tool_and_takes_its_folder_along(tmp_path, sent):
    (tmp_path / "uploads").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "uploads")}
    command = [sys.executable, SERVE, "--weights", "lsp_small", "--port", "0", "--device", "cpu", "--boxes", "whole"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    while not (line := process.stdout.readline()).startswith("open "):
        assert line, process.stderr.read()
    assert list((tmp_path / "uploads").glob("poses.*"))
    process.send_signal(sent)
    assert process.wait(timeout=60) in (0, 128 + sent), process.stderr.read()
    assert not list((tmp_path / "uploads").glob("poses.*"))


@pytest.mark.parametrize(("host", "shown"), [("::1", "http://[::1]:80/"), ("127.0.0.1", "http://127.0.0.1:80/")])
def test_the_address_that_is_shown_can_be_opened(host, shown):
    from pose.commands.serve import address

    assert address(host, 80) == shown
