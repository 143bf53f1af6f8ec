"""The plan of the house (ARCHITECTURE.md) as far as it can be counted; its arrows are import-linter's contracts."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.support import REPOSITORY

PACKAGE = ("nnunet_uhf", "trainers", "preprocessing")
MOST_FLAT_MODULES = 8
MOST_LINES = 400
LONGEST_SHARED_RUN = 12
# entries of the uhf block in plans, guided or of a keeper's training, that bear no other meaning
BLOCK_ENTRIES = {"role", "guide_channel", "spacing_ratio", "source_plans", "same_field", "planned", "keeper", "control"}
BLOCK_MODULES = (
    "nnunet_uhf/guidance/block.py",
    "nnunet_uhf/guidance/entries.py",
    "nnunet_uhf/guidance/stated.py",
    "nnunet_uhf/keepers/training_block.py",
    "nnunet_uhf/nnunet/plans_block.py",
)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def test_few_modules_lie_flat_in_the_package() -> None:
    flat = [path.name for path in (REPOSITORY / "nnunet_uhf").glob("*.py") if path.name != "__init__.py"]
    assert len(flat) <= MOST_FLAT_MODULES, flat


def test_no_file_of_the_package_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*PACKAGE)}
    assert lengths
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("folder", sorted({path.parent for path in sources(*PACKAGE)}), ids=lambda path: path.name)
def test_every_room_says_what_lives_there(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


def looked_up(path: Path) -> Iterator[str]:
    """Strings that a module looks up in some mapping: `x["name"]` or `x.get("name")`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript):
            key = node.slice
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            key = node.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def test_only_the_modules_of_the_blocks_look_into_a_block() -> None:
    found = {}
    for path in sources(*PACKAGE):
        name = path.relative_to(REPOSITORY).as_posix()
        if name not in BLOCK_MODULES and (keys := BLOCK_ENTRIES.intersection(looked_up(path))):
            found[name] = keys
    assert found == {}
    for name in BLOCK_MODULES:
        assert BLOCK_ENTRIES.intersection(looked_up(REPOSITORY / name)), f"{name} need not be excepted"


def public_names(path: Path) -> Iterator[str]:
    """Classes, functions and aliases of types that a module defines; constants in capitals are its own affair."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_no_name_of_the_package_means_two_things() -> None:
    """Verbs bear the name of what they run."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sources(*PACKAGE):
        if path.parent.name != "cli":
            for name in public_names(path):
                homes[name].append(str(path.relative_to(REPOSITORY)))
    several = {name: found for name, found in homes.items() if len(found) > 1}
    assert {name: found for name, found in several.items() if not name.startswith("_") and not name.isupper()} == {}


def code_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines of code: no blank lines, no imports."""
    text = path.read_text(encoding="utf-8")
    imports = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip() and number not in imports]


def shared_runs(paths: list[Path], *, length: int) -> Iterator[str]:
    """Places of runs of so many lines of code that stand in several files."""
    places: dict[tuple[str, ...], set[Path]] = defaultdict(set)
    for path in paths:
        lines = code_lines(path)
        for start in range(len(lines) - length + 1):
            places[tuple(line for _, line in lines[start : start + length])].add(path)
    for run, found in places.items():
        if len(found) > 1:
            yield f"{', '.join(map(str, sorted(found)))}: {run[0]}"


def test_no_long_run_of_lines_stands_in_two_files() -> None:
    paths = sources(*PACKAGE, "tests", "benchmarks", "docs")
    assert list(shared_runs(paths, length=LONGEST_SHARED_RUN + 1)) == []


def test_a_shared_run_would_be_found(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("import os\n\n" + "\n".join(f"x{number} = {number}" for number in range(13)))
    assert len(list(shared_runs([tmp_path / "one.py", tmp_path / "two.py"], length=13))) == 1
    assert list(shared_runs([tmp_path / "one.py", tmp_path / "two.py"], length=14)) == []
