"""Paths and names of modules that pages and docstrings mention are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from helpers.support import REPOSITORY

# in backticks: `networks/kinds.py` is below nnunet_uhf, as ARCHITECTURE and CONTRIBUTING say it
PATH = re.compile(r"`((?:[\w.]+/)+[\w.]*)(?: [^`]*)?`")
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?(nnunet_uhf[\w.]*)`")
MODULE = re.compile(r"\bnnunet_uhf(?:\.\w+)+")
FOLDERS = ("nnunet_uhf", "trainers", "preprocessing", "tests", "benchmarks", "docs", ".ci")
#: In a reader's folders, or made when the site is built; names of releases and placeholders are not of ours.
CODE = ("networks", "routes", "keepers", "guidance", "inference", "evaluation", "planes", "imageio", "nnunet", "report")


def pages() -> list[Path]:
    """All but the changelog, which tells of what was."""
    return [REPOSITORY / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")] + sorted(
        (REPOSITORY / "docs").rglob("*.md")
    )


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS[:3] for path in (REPOSITORY / folder).rglob("*.py"))


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def is_there(dotted: str) -> bool:
    """Whether a module, or a name in one, exists."""
    parts = dotted.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            if not hasattr(found, part) and part not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, part, None)
        return True
    return False


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_path_of_ours_that_a_page_names_is_there(page: Path) -> None:
    named = {path.rstrip("/.") for path in PATH.findall(page.read_text(encoding="utf-8"))}
    ours = {path for path in named if path.split("/")[0] in (*FOLDERS, *CODE)}
    missing = [
        path
        for path in sorted(ours)
        if not any((root / path).exists() for root in (REPOSITORY, REPOSITORY / "nnunet_uhf"))
    ]
    assert not missing


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    assert [name for name in MODULE.findall(page.read_text(encoding="utf-8")) if not is_there(name)] == []


def test_every_name_that_a_docstring_refers_to_is_there() -> None:
    missing = {
        f"{name_of(path)}: {name}"
        for path in sources()
        for name in ROLE.findall(path.read_text(encoding="utf-8"))
        if not is_there(name)
    }
    assert not missing
