"""What is wrong with a command's arguments is said in one line."""

import pytest

from pose.command_line import CommandParser, count


@pytest.mark.parametrize("given", [["--count", "x"], ["--cuont", "3"], ["a", "b"]])
def test_wrong_arguments_are_one_line_and_status_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser("Counts.", prog="counting.py")
    parser.add_argument("--count", type=count())
    with pytest.raises(SystemExit) as left:
        parser.parse_args(given)
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert told.count("\n") == 1 and told.startswith("error: ") and given[0] in told and "counting.py --help" in told


def test_help_keeps_the_lines_of_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        CommandParser("Counts.\n\n    counting.py 3\n").parse_args(["--help"])
    assert left.value.code == 0 and "\n    counting.py 3\n" in capsys.readouterr().out
