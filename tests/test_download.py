"""Fetching and unpacking archives, from a server on this machine."""

import hashlib
import runpy
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pose.datasets.download import COCO_2017, Archive, fetch, missing, unpack
from pose.errors import DataError


class Handler(BaseHTTPRequestHandler):
    """Serves ``content``, from the byte that a Range header asks for."""

    def __init__(self, content: bytes, ranges: list[str | None], *arguments) -> None:
        self.content, self.ranges = content, ranges
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Archive, bytes, list]]:
    """An archive on a local server, its bytes, and the Range headers that the server saw."""
    path = tmp_path / "source.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("annotations/wanted.json", "[1, 2]")
        file.writestr("annotations/other.json", "[]")
    content, ranges = path.read_bytes(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, content, ranges))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wanted = ("annotations/wanted.json",)
    url = f"http://127.0.0.1:{server.server_port}/a.zip"
    yield (
        Archive("a.zip", url, len(content), hashlib.sha256(content).hexdigest(), wanted, {wanted[0]: 1}),
        content,
        ranges,
    )
    server.shutdown()
    server.server_close()


def test_fetches_checks_and_unpacks_only_what_is_wanted(served, tmp_path: Path) -> None:
    archive, content, _ = served
    root = tmp_path / "root"
    assert missing([archive], root) == ["annotations/wanted.json"]
    path, downloaded = fetch(archive, root)
    assert downloaded
    assert path.read_bytes() == content
    unpack(archive, path, root)
    assert (root / "annotations/wanted.json").read_text() == "[1, 2]"
    assert not (root / "annotations/other.json").exists()
    assert missing([archive], root) == []


def test_goes_on_where_it_stopped(served, tmp_path: Path) -> None:
    archive, content, ranges = served
    (tmp_path / "a.zip.part").write_bytes(content[:40])
    path, _ = fetch(archive, tmp_path)
    assert path.read_bytes() == content
    assert ranges == ["bytes=40-"]
    assert fetch(archive, tmp_path) == (path, False)
    assert len(ranges) == 1  # a whole archive is not asked for again


def test_something_else_is_not_taken_for_the_archive(served, tmp_path: Path) -> None:
    archive, content, _ = served
    (tmp_path / "a.zip.part").write_bytes(b"x" * 40)
    with pytest.raises(DataError, match="a.zip"):
        fetch(archive, tmp_path)
    assert list(tmp_path.glob("a.zip*")) == []


def test_an_archive_put_there_by_hand_is_checked_and_kept(served, tmp_path: Path) -> None:
    archive, content, ranges = served
    for wrong in (content[:-1], content[:-1] + b"x"):
        (tmp_path / "a.zip").write_bytes(wrong)
        with pytest.raises(DataError, match="not the known a.zip"):
            fetch(archive, tmp_path)
        assert (tmp_path / "a.zip").read_bytes() == wrong
    assert ranges == []


def test_a_folder_with_too_few_files_is_missing(tmp_path: Path) -> None:
    archive = Archive("a.zip", "", 0, "", None, {"pictures": 2})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.jpg").touch()
    (tmp_path / "pictures" / ".2.jpg").touch()
    assert missing([archive], tmp_path) == ["pictures"]
    (tmp_path / "pictures" / "2.jpg").touch()
    assert missing([archive], tmp_path) == []


def test_no_connection_says_what_to_do(tmp_path: Path) -> None:
    archive = Archive("a.zip", "http://127.0.0.1:9/a.zip", 10, "0" * 64, None, {})
    with pytest.raises(DataError, match="put a.zip from elsewhere"):
        fetch(archive, tmp_path)


def test_a_broken_archive_is_named(served, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="a.zip"):
        unpack(served[0], tmp_path / "a.zip", tmp_path / "root")


def test_cocos_archives_make_what_the_configurations_read() -> None:
    from pose.config import DataSettings

    made = {name for archive in COCO_2017 for name in archive.makes}
    data = DataSettings()
    assert made == {part for split in (*data.train, data.val) for part in (split.annotations, split.images)}


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    tool = Path(__file__).parents[1] / "tools" / "download_coco.py"
    monkeypatch.setattr(sys, "argv", [str(tool), "--check", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(tool), run_name="__main__")
    told = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "person_keypoints_val2017.json" in told and "published detector boxes" in told
