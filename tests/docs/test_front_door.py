"""`from nnunet_uhf import ...`: complete, lazy, and every example in its docstrings runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import nnunet_uhf

NAMES = sorted(set(nnunet_uhf.__all__) - {"__version__"})
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _typed_names() -> dict[str, str]:
    """What the block for type checkers imports: name and module."""
    tree = ast.parse(Path(nnunet_uhf.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    return {alias.name: str(node.module) for node in imports for alias in node.names if node.module != "importlib"}


def _after_import(code: str) -> str:
    """What a fresh Python, without the start-up file, prints for `code`."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_has_an_example(name: str) -> None:
    documentation = inspect.getdoc(getattr(nnunet_uhf, name))
    assert documentation is not None
    assert ">>> " in documentation


@pytest.mark.parametrize("name", NAMES)
def test_every_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    thing = getattr(nnunet_uhf, name)
    found = doctest.DocTestFinder(recurse=False).find(thing, name, module=False, globs={})
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in found:
            runner.run(test, out=report.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(report)


def test_type_checkers_see_the_names_that_python_finds() -> None:
    homes = {name: f"nnunet_uhf.{home}" for name, home in nnunet_uhf._HOMES.items()}
    assert _typed_names() == homes
    assert sorted(homes) == NAMES
    assert sorted(nnunet_uhf.__all__, key=str) == sorted(nnunet_uhf.__all__)


def test_each_name_comes_from_where_it_is_defined() -> None:
    for name, home in nnunet_uhf._HOMES.items():
        assert getattr(nnunet_uhf, name).__module__ == f"nnunet_uhf.{home}"


def test_dir_lists_every_public_name() -> None:
    assert set(NAMES) <= set(dir(nnunet_uhf))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nnunet_uhf' has no attribute 'keepr'"):
        nnunet_uhf.keepr  # noqa: B018 - asking is the test


def test_an_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="cannot import name 'keepr'"):
        exec("from nnunet_uhf import keepr")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, nnunet_uhf; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    loaded = set(_after_import(code).split())
    assert not loaded & {"torch", "numpy", "nibabel", "nnunetv2", "SimpleITK", "scipy", "typer", "rich"}


def test_importing_the_package_imports_no_module_of_its_own_but_those_of_the_start() -> None:
    code = "import sys, nnunet_uhf; print(*(name for name in sys.modules if name.startswith('nnunet_uhf.')))"
    assert set(_after_import(code).split()) <= {"nnunet_uhf.installation", "nnunet_uhf.installation.trainer_path"}
