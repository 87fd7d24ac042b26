"""Markdown tables, and pages that a tool writes."""

import pytest

from pose.errors import OutputError
from pose.tables import GENERATED, Page, table_lines


def test_a_table_is_aligned_as_asked_and_its_bars_are_escaped():
    assert table_lines(["name", "a", "b"], [["x|y", 1, 2.5]], numbers_from=1) == [
        "| name | a | b |",
        "| --- | ---: | ---: |",
        "| x\\|y | 1 | 2.5 |",
    ]
    assert table_lines(["name"], []) == ["| name |", "| --- |"]


def test_a_page_is_printed_as_it_grows_and_replaces_the_one_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["/somewhere/tools/measure.py", "--rounds", "2", "a b"])
    path = tmp_path / "tables" / "page.md"
    path.parent.mkdir()
    path.write_text("old")
    page = Page("Title", "machine")
    page.add("one", "two")
    assert capsys.readouterr().out == "machine\n\none\ntwo\n"
    page.write(None)
    assert path.read_text() == "old"
    page.write(path)
    command = "    python tools/measure.py --rounds 2 'a b'"
    assert path.read_text() == f"{GENERATED}\n\n# Title\n\n{command}\n\nmachine\n\none\ntwo\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["page.md"]


def test_a_page_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Page("Title", "machine").write(tmp_path / "file" / "page.md")
