"""What is wrong with a command's arguments is said in one line."""

import ast
from pathlib import Path

import pytest

from pose.command_line import CommandParser, count
from pose.errors import command

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("given", [["--count", "x"], ["--cuont", "3"], ["surplus"], ["two\nlines"]])
def test_wrong_arguments_are_one_line_and_status_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> int:
        parser = CommandParser("Counts.", prog="counting.py")
        parser.add_argument("--count", type=count())
        parser.parse_args(given)
        return 0

    with pytest.raises(SystemExit) as left:
        main()
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert told.count("\n") == 1 and told.startswith("error: ") and told.endswith("; --help tells all arguments\n")
    assert " ".join(given[0].split()) in told


def test_help_keeps_the_lines_of_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        CommandParser("Counts.\n\n    counting.py 3\n").parse_args(["--help"])
    assert left.value.code == 0 and "\n    counting.py 3\n" in capsys.readouterr().out


def test_every_command_has_such_a_parser_and_such_an_end() -> None:
    """No other parser anywhere, and who has one is a function that ends in one line."""
    files = [*(ROOT / "tools").rglob("*.py"), *(ROOT / "pose" / "commands").rglob("*.py")]
    assert not [path for path in (ROOT / "pose").rglob("*.py") if "argparse.ArgumentParser(" in path.read_text("utf-8")]
    parsers = 0
    for path in files:
        text = path.read_text("utf-8")
        assert "argparse.ArgumentParser(" not in text, path
        if "CommandParser(" in text:
            parsers += 1
            mains = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "main"]
            names = {name.id for main in mains for name in main.decorator_list if isinstance(name, ast.Name)}
            assert "command" in names, path
    assert parsers > 40
