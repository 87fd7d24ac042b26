"""How tools end: by signals, on a full disk, and where nobody reads what they say."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WRITES = """
import sys, time
from pathlib import Path
from pose.errors import command
from pose.files import replacing

@command
def main():
    with replacing({path!r}) as temporary:
        temporary.write_text("half")
        print("begun", flush=True)
        time.sleep(60)

main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_half_file(tmp_path: Path, number: signal.Signals) -> None:
    code = WRITES.format(path=str(tmp_path / "a.json"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip - nohup ignores one, and what it starts does as well
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (128 + number, "interrupted\n")
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    code = WRITES.format(path=str(tmp_path / "a.json")).replace("time.sleep(60)", "sys.stdin.read()")
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)  # as of a terminal that closes, under nohup
    process.communicate("", timeout=60)
    assert process.returncode == 0 and (tmp_path / "a.json").read_text() == "half"


def says(text: str, out: int | object) -> tuple[int, str]:
    code = f"from pose.errors import command\n@command\ndef main():\n    print({text!r})\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no such device")
def test_a_full_disk_that_takes_the_output_is_told() -> None:
    with open("/dev/full", "w") as full:
        status, error = says("figures", full)
    assert (status, error) == (2, "error: an output: cannot be written (No space left on device)\n")


def test_nobody_reads_any_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    status, error = says("figures" * 10_000, writing)
    os.close(writing)
    assert (status, error) == (128 + signal.SIGPIPE, "")
