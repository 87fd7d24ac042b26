"""Imports go down only: the table of docs/architecture.md, read with the imports of every module."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "architecture.md"

FORMS = "pose.models.native.training.forms"
DYNAMIC_FORMS = "pose.models.native.training.dynamic_forms"
ITS_FORM = "a layer names its own form for native training, which is made of the layer: imported when it is asked for"
DYNAMIC = "pose.models.dynamic"
EXCEPTIONS = {
    ("pose", None): "the door: names of every room, imported when they are asked for",
    ("pose.models.layers", FORMS): ITS_FORM,
    ("pose.models.norm", FORMS): ITS_FORM,
    (f"{DYNAMIC}.attention", DYNAMIC_FORMS): ITS_FORM,
    (f"{DYNAMIC}.dcd", DYNAMIC_FORMS): ITS_FORM,
    (f"{DYNAMIC}.dcd_branch", DYNAMIC_FORMS): ITS_FORM,
    (f"{DYNAMIC}.dynamic_conv", DYNAMIC_FORMS): ITS_FORM,
}
"""Modules, or modules and what they import, that may look up or make a circle, each with the reason."""


def levels() -> dict[str, int]:
    """The row of each room and single module, by its name below ``pose``."""
    found = re.findall(r"^\| (\d+) \| ([^|]+) \|", TABLE.read_text(), flags=re.M)
    named = [(name, int(row)) for row, names in found for name in re.findall(r"`(\w+)`", names)]
    assert len(named) == len(dict(named)), "a room stands twice in the table"
    return dict(named)


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted((ROOT / "pose").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str | None:
    """The room or single module that a module belongs to; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


class NotForTypes(ast.NodeTransformer):
    """Takes the imports out that only a type checker sees."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def imports(for_types: bool = True) -> dict[str, set[str]]:
    """The modules of the package that each one imports, at its top or inside functions, and for types alone or not."""
    known = modules()
    found: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree if for_types else NotForTypes().visit(tree)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are written in full"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in known else node.module for name in names]
            found[module] |= {name for name in names if name.split(".")[0] == "pose"} - {module}
    return found


def test_every_room_is_in_the_table_and_every_name_of_the_table_is_a_room():
    found = imports()
    named = {room(module) for targets in found.values() for module in targets | found.keys()} - {None}
    assert named == set(levels())


def test_imports_go_down():
    rows = levels()
    wrong = []
    for module, targets in imports().items():
        for target in targets:
            own, other = room(module), room(target)
            if (module, None) in EXCEPTIONS or (module, target) in EXCEPTIONS or own == other:
                continue
            is_room = (ROOT / "pose" / own).is_dir() or (ROOT / "pose" / str(other)).is_dir()
            if other is None or rows[other] > rows[own] or (rows[other] == rows[own] and is_room):
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    left = {
        module: {target for target in targets if (module, target) not in EXCEPTIONS}
        for module, targets in imports(for_types=False).items()
        if (module, None) not in EXCEPTIONS
    }
    while free := [
        module
        for module, targets in left.items()
        if not targets & left.keys() or not any(module in others for others in left.values())
    ]:
        for module in free:
            del left[module]
    assert {module: sorted(targets & left.keys()) for module, targets in left.items()} == {}


def test_native_inference_and_native_training_do_not_know_each_other():
    inference, training = "pose.models.native.inference", "pose.models.native.training"
    mixed = [
        (module, target)
        for module, targets in imports().items()
        for target in targets
        for one, other in ((inference, training), (training, inference))
        if module.startswith(one) and target.startswith(other)
    ]
    assert mixed == []


def test_every_exception_is_needed():
    found = imports()
    assert [
        (module, target)
        for module, target in EXCEPTIONS
        if module not in found or (target is not None and target not in found[module])
    ] == []
