"""The import law: a package imports from its own storey and from those below it, never upwards."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import rlcondense

ROOT = Path(rlcondense.__file__).parent
# From the ground up. What stands on one line may import each other's lines below, not each other.
STOREYS = (
    "types errors text findings moved places",
    "limits",
    "protocol json_schema",
    "files scaling",
    "config",
    "runtime catalogue",
    "validation terminal citations",
    "tasks networks",
    "cloning",
    "policies policy_gradient",
    "datasets",
    "rollout experts",
    "evaluation evolution",
    "learners",
    "integrations",
    "methods",
    "make references",
    "statistics",
    "records",
    "comparison exchange training",
    "running",
    "reporting",
    "submissions",
    "checks template",
    "console",
    "cli",
    "__main__ __init__",
)
HEIGHTS = {name: height for height, names in enumerate(STOREYS) for name in names.split()}


def imports(path: Path) -> Iterator[str]:
    """The packages and modules of ours that a file imports when it runs, wherever it does."""
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlcondense."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "rlcondense":
            yield from (alias.name for alias in node.names if alias.name in HEIGHTS)


def _without_type_checking(tree: ast.Module) -> ast.Module:
    is_for_types = [
        isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test) for n in tree.body
    ]
    tree.body = [n for n, skip in zip(tree.body, is_for_types, strict=True) if not skip]
    return tree


def storey(path: Path) -> str:
    """The package of a file, or the module that it is at the top."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_package_has_a_storey() -> None:
    found = {storey(path) for path in ROOT.rglob("*.py") if "_catalogue" not in path.parts}
    assert found == HEIGHTS.keys()


def test_no_arrow_points_upwards() -> None:
    arrows = [
        f"{path.relative_to(ROOT)} imports {package}"
        for path in sorted(ROOT.rglob("*.py"))
        for package in imports(path)
        if package != storey(path) and HEIGHTS[package] >= HEIGHTS[storey(path)]
    ]
    assert arrows == []


def test_nothing_below_the_command_line_prints() -> None:
    printing = [
        f"{path.relative_to(ROOT)}, line {node.lineno}"
        for path in sorted(ROOT.rglob("*.py"))
        if HEIGHTS[storey(path)] < HEIGHTS["running"]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "click.echo", "echo", "sys.stdout.write")
    ]
    assert printing == []
