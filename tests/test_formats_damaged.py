"""Annotations of other tools that are damaged, or that would write where they must not: a line, and nothing written."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_project import run_tool
from test_formats import dataset

from pose.errors import DataError, MissingExtra
from pose.formats.options import WriteOptions
from pose.formats.table import FORMATS, READABLE, read_dataset

__all__ = ["run_tool"]


@pytest.mark.parametrize("name", ["../../evil.jpg", "/nowhere/evil.jpg", "a/../../evil.jpg"])
@pytest.mark.parametrize("format_name", ["yolo", "openpose"])
def test_an_image_s_name_leads_nowhere_else(tmp_path: Path, format_name: str, name: str) -> None:
    given = dataset()
    names = (name, f"b/{Path(name).name}", "c.jpg", "d.jpg")  # the last part alone is not enough for OpenPose's files
    images = [replace(image, file_name=each) for image, each in zip(given.images, names, strict=True)]
    out = tmp_path / "sub" / "out"
    FORMATS[format_name].write(replace(given, images=tuple(images)), out, WriteOptions())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 4 and all(path.is_relative_to(out) for path in written)


DAMAGED = {
    "a folder.json": None,
    "binary.json": bytes(range(256)),
    "text.json": b'"shapes" "imagePath" "joints_vis" "keypoint_annotations"',
    "deep.json": b"[" * 100_000,
    "numbers.json": b"[1, 2, 3]",
    "nothing.json": b"null",
    "utf16.xml": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotations/>'.encode("utf-16"),
    "encoding.xml": b'<?xml version="1.0" encoding="nonsense"?><annotations/>',
    "frames.xml": b"<annotations><meta><original_size><width>4</width><height>3</height></original_size></meta>"
    b'<track label="a" id="x"><skeleton label="a" frame="x"/></track></annotations>',
    "empty.zip": b"PK\x05\x06" + bytes(18),
    "a.yaml": b"kpt_shape: [17, 3]\nnames: {x: y}\ntrain: 5\n",
    "b.yaml": b"kpt_shape: [1, 3]\nkpt_names: {0: 5}\n",
    "c.yaml": b"kpt_shape: " + b"[" * 20_000,
    "d.csv": b"scorer,\xff\n",
    "e.slp": b"no HDF5",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_in_a_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = DAMAGED[name]
    path.mkdir() if content is None else path.write_bytes(content)
    for format_name in (None, *READABLE):
        with pytest.raises((DataError, MissingExtra), match=f"{name}|needs sleap_io") as caught:
            read_dataset(path, format_name)
        assert "\n" not in str(caught.value)


def test_a_tool_tells_it_in_a_line(tmp_path: Path, run_tool) -> None:
    (tmp_path / "a.xml").write_bytes(DAMAGED["frames.xml"])
    status, _, error = run_tool("convert_annotations.py", tmp_path / "a.xml", tmp_path / "out.json")
    assert status == 2 and error.startswith(f"error: {tmp_path / 'a.xml'}: ")
    assert error.count("\n") == 1 and not (tmp_path / "out.json").exists()
