"""Trainers are found after installation alone, and leaving is as clean as coming."""

from __future__ import annotations

import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.support import REPOSITORY, run_command
from nnunet_uhf.installation.trainer_path import (
    OPT_OUT_VARIABLE,
    PATHS_VARIABLE,
    add_trainers,
    is_registered,
    trainer_path,
)

STARTUP_FILES = {"_nnunet_uhf_startup.pth", "_nnunet_uhf_startup.py"}
SOURCES = ("nnunet_uhf", "trainers", "preprocessing", "pyproject.toml", "setup.py", "README.md", "LICENSE")


def python(code: str, *, executable: Path | str = sys.executable, folder: Path | None = None, **env: str) -> str:
    """What `code` writes to stdout in a Python of its own; anything on stderr fails the test."""
    inherited = {name: value for name, value in os.environ.items() if name != PATHS_VARIABLE}
    done = subprocess.run(
        [str(executable), "-c", code],
        env={**inherited, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def files_of(folder: Path) -> set[Path]:
    """All files below a folder, symbolic links included."""
    return {path for path in folder.rglob("*") if not path.is_dir()}


SHOW = f"import os; print(os.environ.get({PATHS_VARIABLE!r}))"


def test_the_folder_nnunet_searches_holds_the_shim_alone() -> None:
    assert [module.name for module in pkgutil.iter_modules([trainer_path()])] == ["uhf_trainers"]


def test_a_fresh_python_anywhere_has_the_folder_registered(tmp_path: Path) -> None:
    assert python(SHOW, folder=tmp_path) == trainer_path()


def test_the_folders_of_the_user_stay_in_front(tmp_path: Path) -> None:
    own = str(tmp_path)
    assert python(SHOW, nnUNet_extTrainer=own) == own + os.pathsep + trainer_path()


def test_registering_twice_changes_nothing() -> None:
    environ = {PATHS_VARIABLE: f"/somewhere{os.pathsep}{trainer_path()}{os.sep}"}
    before = dict(environ)
    add_trainers(environ)
    assert environ == before
    assert is_registered(environ)


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_as_good_as_none(value: str) -> None:
    environ = {PATHS_VARIABLE: value}
    add_trainers(environ)
    assert environ[PATHS_VARIABLE] == trainer_path()


@pytest.mark.parametrize("value", ["0", "false", "No", "OFF"])
def test_the_user_can_opt_out(value: str) -> None:
    environ = {OPT_OUT_VARIABLE: value}
    add_trainers(environ)
    assert not is_registered(environ)


def test_opting_out_holds_for_a_fresh_python(tmp_path: Path) -> None:
    assert python(SHOW, folder=tmp_path, nnUNet_UHF_AUTOREGISTER="0") == "None"


def test_the_start_of_python_does_not_import_torch_or_nnunet(tmp_path: Path) -> None:
    loaded = python("import sys; print(sorted({n.split('.')[0] for n in sys.modules}))", folder=tmp_path)
    assert "nnunet_uhf" in loaded
    assert not any(name in loaded for name in ("'torch'", "'nnunetv2'", "'numpy'", "'typer'"))


def test_python_starts_silently_when_the_package_is_broken_or_gone(tmp_path: Path) -> None:
    startup = (REPOSITORY / "nnunet_uhf" / "installation" / "startup.py").read_text()
    broken = tmp_path / "nnunet_uhf"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('broken')")
    forget = "import sys; [sys.modules.pop(n) for n in list(sys.modules) if n.startswith('nnunet_uhf')]\n"
    for path in ([str(tmp_path), *sys.path], []):
        assert python(f"{forget}sys.meta_path.reverse(); sys.path[:] = {path!r}\n{startup}\nprint('up')") == "up"


def test_the_start_up_files_belong_to_the_installed_distribution(tmp_path: Path) -> None:
    # elsewhere, because the clone may hold an egg-info folder that building left there
    code = "import importlib.metadata as m; print(*m.files('nnunet-uhf'), sep='\\n')"
    assert set(python(code, folder=tmp_path).splitlines()) >= STARTUP_FILES


@pytest.mark.parametrize("build", ["build_wheel", "build_editable"])
def test_installing_registers_and_uninstalling_leaves_nothing(tmp_path: Path, build: str) -> None:
    source, wheels, environment = tmp_path / "source", tmp_path / "wheels", tmp_path / "environment"
    for name in SOURCES:
        path = REPOSITORY / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(path, source / name)
    wheels.mkdir()
    python(
        "import sys, io, contextlib\n"
        "from setuptools import build_meta\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    build_meta.{build}({str(wheels)!r})",
        folder=source,
    )
    (wheel,) = wheels.glob("*.whl")
    assert set(zipfile.ZipFile(wheel).namelist()) >= STARTUP_FILES

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (scripts,) = (folder for folder in (environment / "bin", environment / "Scripts") if folder.is_dir())
    interpreter = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(interpreter)]
    fresh = files_of(environment)
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    home = source if build == "build_editable" else environment
    found = Path(python(SHOW, executable=interpreter, folder=tmp_path))
    assert found.is_dir()
    assert home in found.parents

    subprocess.run([*pip, "uninstall", "-y", "nnunet-uhf"], check=True)
    assert files_of(environment) == fresh
    assert python(SHOW, executable=interpreter, folder=tmp_path) == "None"


def test_the_trainers_are_found_by_nnunet_with_no_variable_set(tmp_path: Path) -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import contextlib, io\n"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    first, second = find('UHFTrainer'), find('UHFTrainer')\n"
        "print(first is second, first.__module__)"
    )
    assert python(code, folder=tmp_path, PYTHONWARNINGS="ignore") == "True nnunet_uhf.trainers.guided.guidance"


def test_trainer_path_prints_what_the_export_line_needs() -> None:
    assert run_command(["nnunet-uhf", "trainer-path"]).stdout == trainer_path() + "\n"
