"""The page: whole, self-contained, and shown by a real browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from small_project import run_tool, write_project

from pose.evaluation.analysis.report import PAGE
from pose.evaluation.protocol import TestProtocol

__all__ = ["run_tool"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def tested(project, run_tool):
    """A folder with ``report`` and ``saved.npz`` of a test on detected boxes, and what the tool printed."""
    folder = project / "tested"
    printed = ""
    if not folder.exists():
        arguments = ["--out", folder / "results.json", "--save-predictions", folder / "saved.npz"]
        status, printed, error = run_tool("test.py", project / "tiny.py", project / "tiny.pth", *arguments,
                                          "--report", folder / "report", "--device", "cpu")  # fmt: skip
        assert (status, error) == (0, "")
        assert f"report: {folder / 'report' / PAGE}" in printed
        (folder / "printed.txt").write_text(printed)
    return folder


class Page(HTMLParser):
    """Tags that are opened and closed, and where they point."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.count = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tested):
    text = (tested / "report" / PAGE).read_text()
    page = Page(text)
    assert not page.open
    assert page.links and all(link.startswith("data:") for link in page.links)
    assert "url(" not in text and "<script" not in text
    assert page.count["svg"] == 5 and page.count["section"] == 7 and page.count["img"] >= 3
    assert [path.name for path in (tested / "report").iterdir()] == [PAGE]


def test_it_says_what_the_tool_printed(tested):
    text = (tested / "report" / PAGE).read_text()
    printed = (tested / "printed.txt").read_text().splitlines()
    figures = printed[printed.index(next(line for line in printed if line.split()[:2] == ["AP", "AP50"])) + 1].split()
    assert re.findall(r"<td>([\d.]+|n/a)</td>", text)[: len(figures)] == figures
    assert TestProtocol(boxes="synthetic_val2017_detections.json").boxes in text


def test_saved_predictions_give_the_same_page(tested, run_tool):
    status, printed, error = run_tool("rescore.py", tested / "saved.npz", "--report", tested / "again")
    assert (status, error) == (0, "")
    assert (tested / "again" / PAGE).read_text() == (tested / "report" / PAGE).read_text()
    shutil.rmtree(tested / "again")


def test_without_pictures_the_page_says_so(tested, run_tool, tmp_path):
    arguments = ["--decode", "dark", "--images", tmp_path / "none", "--report", tmp_path / "report"]
    assert run_tool("rescore.py", tested / "saved.npz", *arguments)[0] == 0
    text = (tmp_path / "report" / PAGE).read_text()
    assert "The pictures were not at hand" in text and "not as published: decode dark" in text


def test_a_report_is_about_one_set_of_choices(tested, run_tool, tmp_path):
    status, _, error = run_tool("rescore.py", tested / "saved.npz", "--flip", "on", "off", "--report", tmp_path)
    assert status == 2 and error.count("\n") == 1 and "name one value of each" in error


def test_a_folder_that_cannot_be_written_is_told_before_the_network_runs(project, run_tool, tmp_path):
    (tmp_path / "file").touch()
    arguments = ["--out", tmp_path / "results.json", "--report", tmp_path / "file" / "report"]
    status, printed, error = run_tool("test.py", project / "tiny.py", project / "tiny.pth", *arguments)
    assert (status, printed) == (2, "") and error.count("\n") == 1 and "file" in error
    assert not (tmp_path / "results.json").exists()


def test_a_browser_shows_every_picture_and_chart(tested, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is installed")
    text = (tested / "report" / PAGE).read_text()
    watch = """<script>
        const wide = box => box.width > 50 && box.height > 50;
        document.title = JSON.stringify([
            [...document.images].every(image => image.complete && image.naturalWidth > 0 && wide(image)),
            [...document.querySelectorAll('svg')].every(chart => wide(chart.getBoundingClientRect())),
            [...document.querySelectorAll('svg text')].every(text => {
                const mine = text.getBoundingClientRect(), all = text.closest('svg').getBoundingClientRect();
                return mine.left >= all.left - 1 && mine.right <= all.right + 1;
            }),
            document.documentElement.scrollWidth <= innerWidth,
        ]);
    </script>"""
    (tmp_path / "watched.html").write_text(text.replace("</body>", f"{watch}</body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
               "--window-size=1000,2000", "--dump-dom", f"file://{tmp_path / 'watched.html'}"]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr
    title = re.search(r"<title>(.*?)</title>", shown.stdout).group(1)
    assert title == "[true,true,true,true]"
