"""The first import of mmengine on a machine, beside another process that is still writing yapf's file."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is set by XDG_CACHE_HOME")

IMPORT = "from pose.config_files import import_mmengine; import_mmengine(); print('imported')"


def first_import(cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", IMPORT], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def written(tmp_path: Path) -> list[Path]:
    """Files of yapf's grammars, of which a first import wrote them and another process would have a half."""
    process = first_import(tmp_path)
    assert process.communicate()[0] == "imported\n"
    files = [*tmp_path.rglob("*.pickle")]
    assert files, "yapf keeps no grammar any more: this can go"
    return files


def test_a_half_written_grammar_is_waited_for(tmp_path: Path, written: list[Path]) -> None:
    whole = {file: file.read_bytes() for file in written}
    for file in written:
        file.write_bytes(b"")

    def finish() -> None:
        time.sleep(2)
        for file, content in whole.items():
            file.write_bytes(content)

    writer = threading.Thread(target=finish)
    writer.start()
    output, errors = first_import(tmp_path).communicate()
    writer.join()
    assert output == "imported\n", errors


def test_a_grammar_that_stays_damaged_is_named(tmp_path: Path, written: list[Path]) -> None:
    for file in written:
        file.write_bytes(b"")
    _, errors = first_import(tmp_path).communicate()
    assert errors.splitlines()[-1].startswith("pose.options.OptionError")
    assert str(tmp_path) in errors.splitlines()[-1]
