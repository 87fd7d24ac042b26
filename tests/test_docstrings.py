"""Docstrings name the arguments and fields that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^    (Args|Attributes):\n((?:        .*\n|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^        (\*{0,2}\w+(?:, \*{0,2}\w+)*):", re.MULTILINE)


def documented(node, sections):
    """Names under these sections of a function's or class's docstring."""
    text = ast.get_docstring(node, clean=True) or ""
    text = "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())
    return {
        name.strip("* ")
        for section, entries in SECTION.findall(text)
        if section in sections
        for names in ENTRY.findall(entries)
        for name in names.split(",")
    }


def arguments(function):
    every = function.args
    found = [*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg]
    return {argument.arg for argument in found if argument}


def members(node):
    """What a class has: fields, arguments of its constructor, properties, and attributes set on self."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.AnnAssign | ast.Assign):
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        found.add(part.id)
                    elif isinstance(part, ast.Attribute):
                        found.add(part.attr)
        elif isinstance(each, ast.FunctionDef):
            found |= {each.name} | (
                arguments(each) if each.name in ("__init__", "__new__", "__call__", "forward") else set()
            )
    return found


@pytest.mark.parametrize("folder", ["pose", "tools"])
def test_documented_names_exist(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    trees = {path: ast.parse(path.read_text()) for path in paths}
    everywhere = {
        node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    wrong = []
    for path, tree in trees.items():
        classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        known = {**everywhere, **classes}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                there, sections = arguments(node), ("Args",)
            elif isinstance(node, ast.ClassDef):
                names = [base.id for base in node.bases if isinstance(base, ast.Name)]
                own = any(isinstance(each, ast.FunctionDef) and each.name == "__init__" for each in node.body)
                if names and not own and not node.decorator_list and not set(names) <= {"NamedTuple"} | set(classes):
                    continue  # its constructor is another file's
                there = set().union(members(node), *(members(known[name]) for name in names if name in known))
                # a module's attributes may be buffers or those of the layer that it is mixed into
                sections = ("Args", "Attributes") if set(names) <= {"NamedTuple"} and node.decorator_list else ("Args",)
            else:
                continue
            absent = sorted(documented(node, sections) - there)
            wrong += [f"{path.relative_to(ROOT)}: {node.name} has no {name}" for name in absent]
    assert not wrong, "\n".join(wrong)


FRAGMENT = re.compile(r"(Of|As of|Those of|Who|Whom|Whose|Told|From|By)\b")
"""Beginnings of what is no sentence: ``seed: Of the shuffle.`` or ``persons: Who.``"""


@pytest.mark.parametrize("folder", ["pose", "tools"])
def test_descriptions_are_no_fragments(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
            if isinstance(text, str):
                entries = re.findall(r"^ +[a-z][\w, *]*: (.*)", text, re.MULTILINE)
                lines = [line for line in [text, *entries] if FRAGMENT.match(line)]
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {line}" for line in lines]
    assert not wrong, "\n".join(wrong)
