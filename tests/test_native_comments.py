"""Files that comments of the native sources and of what calls them name are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [ROOT / "pose" / "native", ROOT / "pose" / "models" / "native"]
SOURCES = [file for folder in FOLDERS for end in ("h", "cpp", "py") for file in sorted(folder.rglob(f"*.{end}"))]
NAMED = re.compile(r"(?<![\w/<-])[\w/-]+\.(?:h|cpp|py|md)\b")  # not <what the compiler brings>


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT)))
def test_files_that_comments_name_exist(source):
    names = set(NAMED.findall(source.read_text(encoding="utf-8")))
    missing = {name for name in names if not any((at / name).is_file() for at in (ROOT, FOLDERS[0], source.parent))}
    assert not missing


def test_a_name_that_has_no_file_is_found():
    assert NAMED.findall("see byte_products.h; pose/models/folded_dcd.py.") == [
        "byte_products.h",
        "pose/models/folded_dcd.py",
    ]
