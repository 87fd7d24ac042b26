"""The documents and the code name only what exists: rows of the protocol, links, files."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = ROOT / "docs" / "protocol.md"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "data" / "README.md",
    ROOT / "data" / "weights" / "README.md",
]
CITATION = re.compile(r"docs/protocol\.md(?:#([\w-]+))?")
FOLDERS = ("pose", "tools", "configs", "docs", "data", "tests")
MADE = ("data/coco", "data/lsp", "data/people", "configs/mine")
"""What a reader makes, which no clone has."""


def headings(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings have."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def rows() -> dict[str, list[str]]:
    """The rows of the protocol and the files of the code that they name."""
    parts = re.split(r"^### (.+)$", PROTOCOL.read_text(), flags=re.M)[1:]
    return {
        name: re.findall(r"`([^`]+)`", re.search(r"^\* \*\*Code\*\*: (.+)$", text, flags=re.M).group(1))
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def sources() -> dict[str, str]:
    """The text of every Python file, by its path in the project."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths if path != Path(__file__)}


def test_every_cited_row_of_the_protocol_exists():
    known = headings(PROTOCOL)
    cited = {(path, row) for path, text in sources().items() for row in CITATION.findall(text) if row}
    assert cited, "nothing cites the protocol"
    assert {(path, row) for path, row in cited if row not in known} == set()


def test_the_code_that_a_row_names_cites_it():
    texts = sources()
    silent = [
        (row, path)
        for row, paths in rows().items()
        for path in paths
        if row not in CITATION.findall(texts.get(path, ""))
    ]
    assert silent == []
    assert all(rows().values()) and len(rows()) > 20


def test_a_row_of_the_protocol_is_cited_in_one_way():
    loose = re.compile(r"\(protocol, '|protocol's (?:rows?|tables?)|test table|the protocol (?:has|does|stores) it")
    assert [path for path, text in sources().items() if loose.search(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    """Paths from the project's root, in prose and in commands, braces and stars spread out as a shell does."""
    named = re.findall(rf"(?<![\w/.{{-])(?:{'|'.join(FOLDERS)})/[\w./{{}},*-]+", page.read_text())
    absent = []
    for name in {name.rstrip(".,") for name in named}:
        if name.startswith(MADE):
            continue
        choices = re.search(r"\{(.+)\}", name)
        spread = [name.replace(choices[0], choice) for choice in choices[1].split(",")] if choices else [name]
        absent += [path for path in spread if not list(ROOT.glob(path.rstrip("/")))]
    assert absent == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md") if path.name != "README.md"]
    assert [str(path) for path in pages if f"({path})" not in index] == []


def test_every_tool_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    tools = sorted(path for path in (ROOT / "tools").iterdir() if path.suffix in (".py", ".sh"))
    assert len(tools) > 20
    assert [path.name for path in tools if f"`tools/{path.name}`" not in index] == []


def test_options_that_are_named_exist():
    known = {option for text in sources().values() for option in re.findall(r"\"(--[a-z][a-z0-9-]+)\"", text)}
    wrong = []
    for page in PAGES:
        for command in re.findall(r"tools/\w+\.py(?:[^`\n]|\\\n)*", page.read_text()):
            wrong += [
                (page.name, name) for name in re.findall(r"(?<=\s)--[a-z][a-z0-9-]+", command) if name not in known
            ]
    assert wrong == []


def test_shipped_weights_are_named_with_their_own_configuration():
    known = json.loads((ROOT / "data" / "weights" / "index.json").read_text())
    own = {
        f"data/weights/{each['file']}": each["config"]
        for kind in ("weights", "detectors")
        for each in known[kind].values()
    }
    pairs = {
        (page.name, config, file)
        for page in PAGES
        for config, file in re.findall(r"(configs/[\w./-]+\.py)[\s\\]+(data/weights/\w+\.pth)", page.read_text())
    }
    assert len(pairs) > 4
    assert [pair for pair in sorted(pairs) if own[pair[2]] != pair[1]] == []


def test_modules_that_are_named_exist():
    """``pose.models.deploy.folding`` and what it has: the longest part that is a module has the rest as a name."""
    wrong = []
    for page in PAGES:
        for name in set(re.findall(r"`(pose(?:\.[A-Za-z_]\w*)+)", page.read_text())):
            parts = name.split(".")
            for length in range(len(parts), 0, -1):
                path = ROOT.joinpath(*parts[:length])
                module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                if module.is_file():
                    break
            rest = parts[length:]
            if rest and not re.search(rf"\b{rest[0]}\b", module.read_text()):
                wrong.append((str(page.relative_to(ROOT)), name))
    assert wrong == []


def test_generated_pages_name_their_command_and_nothing_else_is_among_them():
    for page in sorted((ROOT / "docs" / "tables").iterdir()):
        first, *_ = page.read_text().splitlines()
        assert first.startswith("<!-- ") and "replaces the" in first, page.name
        assert f"--write docs/tables/{page.name}\n" in page.read_text(), page.name


def test_tests_that_are_named_exist():
    named = {found for page in PAGES for found in re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())}
    assert len(named) > 30
    texts = sources()
    assert {each for each in named if f"\ndef {each[1]}(" not in texts.get(each[0], "")} == set()
