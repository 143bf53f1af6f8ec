"""`nnunet-uhf doctor`: is everything there that guided training needs, and does it fit together?

Each check tries the real thing rather than comparing version numbers, and gives rows; a failed row says the
remedy. Nothing is changed on disk.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nnunet_uhf import __version__
from nnunet_uhf.errors import UHFError, first_line
from nnunet_uhf.installation.trainer_path import (
    OPT_OUT_VARIABLE,
    PATHS_VARIABLE,
    is_registered,
    opted_out,
    trainer_path,
)

RowState = Literal["ok", "note", "failed"]

STYLES: dict[RowState, str] = {"ok": "green", "note": "yellow", "failed": "bold red"}
NNUNET_VERSIONS = ((2, 8, 1), (3,))
STARTUP_MODULE = "_nnunet_uhf_startup"
KEEPERS_VARIABLE = "nnUNet_UHF_KKN"
COMPILE_VARIABLE = "nnUNet_compile"
WAIT_VARIABLE = "OMP_WAIT_POLICY"
DEMO = "_demo"
EXPORT_LINE = f'export {PATHS_VARIABLE}="$(nnunet-uhf trainer-path)"'
REINSTALL_NNUNET = 'pip install "nnunetv2>=2.8.1,<3"'
REINSTALL_TORCHVISION = (
    "torch and torchvision must come from the same index and fit each other, or nnU-Net finds no trainer but its "
    "own: pip install --force-reinstall torch torchvision"
)


@dataclass(frozen=True)
class Row:
    """One line of the report; a note is worth reading but no fault."""

    name: str
    state: RowState
    found: str
    remedy: str = ""


def run(console: Console) -> int:
    """Print the report; return 0 when nothing failed, else 1."""
    rows = [row for check in CHECKS for row in _attempt(check)]
    table = Table(title=f"nnunet-uhf {__version__}", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for row in rows:
        found = Text(row.found)
        if row.remedy:
            found.append(f"\n-> {row.remedy}", style=STYLES[row.state])
        table.add_row(row.name, Text(row.state, style=STYLES[row.state]), found)
    console.print(table)
    failed = [row.name for row in rows if row.state == "failed"]
    console.print(f"failed: {', '.join(failed)}" if failed else "everything needed is in place")
    return 1 if failed else 0


def _attempt(check: Callable[[], Iterator[Row]]) -> list[Row]:
    """Rows of one check; a check that breaks is itself a finding, and the others still run."""
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 - a broken installation can raise anything
        name = check.__name__.removeprefix("check_").replace("_", " ")
        return [Row(name, "failed", first_line(error), "reinstall: pip install --force-reinstall nnunet-uhf")]


def check_python() -> Iterator[Row]:
    """Which Python runs this, and from where nnunet-uhf comes."""
    yield Row("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Row("nnunet-uhf", "ok", f"{__version__} at {Path(__file__).parent}")


def check_nnunet() -> Iterator[Row]:
    """Nnunetv2 imports and has a version this package was made for."""
    try:
        module = importlib.import_module("nnunetv2")
        version = importlib.metadata.version("nnunetv2")
    except ImportError as error:  # PackageNotFoundError is one
        yield Row("nnunetv2", "failed", first_line(error), REINSTALL_NNUNET)
        return
    found = f"{version} at {Path(module.__path__[0])}"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    fits = NNUNET_VERSIONS[0] <= numbers < NNUNET_VERSIONS[1]
    yield Row("nnunetv2", "ok" if fits else "failed", found, "" if fits else REINSTALL_NNUNET)


def check_torch() -> Iterator[Row]:
    """Torch imports; torchvision's compiled operators belong to this torch."""
    torch = importlib.import_module("torch")
    device = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "no CUDA device"
    yield Row("torch", "ok", f"{torch.__version__} at {Path(torch.__path__[0])}, {device}")
    try:
        torchvision = importlib.import_module("torchvision")
        boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), torch.tensor([0.5, 0.9])
        kept = torchvision.ops.nms(boxes, scores, 0.5).tolist()
    except Exception as error:  # noqa: BLE001 - a mismatch shows as RuntimeError, ImportError, OSError, AttributeError
        yield Row("torchvision", "failed", first_line(error), REINSTALL_TORCHVISION)
        return
    found = f"{torchvision.__version__} at {Path(torchvision.__path__[0])}"
    fits = kept == [1]
    yield Row("torchvision", "ok" if fits else "failed", found, "" if fits else REINSTALL_TORCHVISION)


def check_compilation() -> Iterator[Row]:
    """Whether nnU-Net will compile networks here, and what to expect of it."""
    torch = importlib.import_module("torch")
    wish = os.environ.get(COMPILE_VARIABLE)
    wished = wish is None or wish.lower() in ("true", "1", "t")
    if os.name == "nt" or not torch.cuda.is_available():
        yield Row("torch.compile", "ok", "off: nnU-Net compiles on CUDA alone, and not on Windows")
    elif not wished:
        yield Row("torch.compile", "ok", f"off by {COMPILE_VARIABLE}={wish}")
    elif importlib.util.find_spec("triton") is None:
        remedy = f"install triton, or export {COMPILE_VARIABLE}=f"
        yield Row("torch.compile", "failed", "on, but its compiler for CUDA (triton) is not installed", remedy)
    else:
        found = (
            "on: in guided trainings keeper and network are compiled apart; the first epoch and the first prediction "
            "take longer; several trainings that start at once on one machine wait for each other's compilers"
        )
        yield Row("torch.compile", "ok", found, f"for short trainings: export {COMPILE_VARIABLE}=f")


def check_threads() -> Iterator[Row]:
    """Whether trainings side by side on this CPU would wait for each other by spinning."""
    torch = importlib.import_module("torch")
    running = running_trainings()
    policy = os.environ.get(WAIT_VARIABLE, "")
    if torch.cuda.is_available() and running < 2:
        return
    if policy.upper() == "PASSIVE":
        yield Row(WAIT_VARIABLE, "ok", "PASSIVE: trainings side by side on the CPU share it")
        return
    now = f"{running} trainings run on this machine now: " if running > 1 else ""
    found = f"{now}threads that spin while they wait make trainings side by side on a CPU ten times slower and more"
    yield Row(WAIT_VARIABLE, "note", found, f"before each of several trainings: export {WAIT_VARIABLE}=PASSIVE")


def running_trainings(processes: Path = Path("/proc")) -> int:
    """How many trainings of nnU-Net run on this machine; 0 where it does not tell (no Linux)."""
    found = 0
    for path in processes.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended, or is another user's
            continue
        found += any(Path(os.fsdecode(word)).name == "nnUNetv2_train" for word in words[:2])
    return found


def check_registration() -> Iterator[Row]:
    """The trainer folder is in nnUNet_extTrainer, by the start-up file or by the user."""
    installed = importlib.util.find_spec(STARTUP_MODULE) is not None
    registered = is_registered(os.environ)
    if opted_out(os.environ):
        found = f"switched off by {OPT_OUT_VARIABLE}"
        yield Row("start-up file", "note", found, "" if registered else _export_line())
    elif installed:
        yield Row("start-up file", "ok", "registers the trainers whenever Python starts")
    else:
        remedy = f"install with pip into a site-packages folder, or: {_export_line()}"
        yield Row("start-up file", "note" if registered else "failed", "not installed", remedy)
    for folder in filter(None, os.environ.get(PATHS_VARIABLE, "").split(os.pathsep)):
        exists = Path(folder).is_dir()
        remedy = "" if exists else f"nnU-Net skips it: correct {PATHS_VARIABLE}"
        yield Row(PATHS_VARIABLE, "ok" if exists else "note", folder, remedy)


def check_trainers() -> Iterator[Row]:
    """NnU-Net itself finds every trainer class, and finds ours."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from nnunet_uhf import trainers

    found: list[str] = []
    hidden: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for name in trainers.__all__:
        own = getattr(trainers, name)
        if not (isinstance(own, type) and issubclass(own, nnUNetTrainer)):
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                seen = recursive_find_trainer_class_by_name(name)
        except Exception as error:  # noqa: BLE001 - the search imports every trainer there is
            plug_in = _plug_in_of(error)
            if plug_in is None:
                yield Row(name, "failed", first_line(error), f"nnU-Net does not find it: {_export_line()}")
            else:
                hidden.setdefault(plug_in, (first_line(error), []))[1].append(name)
            continue
        if seen is own:
            found.append(name)
        else:
            remedy = "another trainer of that name is found first: rename it"
            yield Row(name, "failed", f"{seen.__module__}.{seen.__qualname__}", remedy)
    for (folder, file), (problem, names) in hidden.items():
        remedy = (
            f"nnU-Net gets no further than this file of another plug-in, and does not find {len(names)} trainers of "
            f"nnunet-uhf behind it: mend the file, take {folder} out of {PATHS_VARIABLE}, or have ours searched first: "
            f'export {PATHS_VARIABLE}="$(nnunet-uhf trainer-path){os.pathsep}{folder}"'
        )
        yield Row(PATHS_VARIABLE, "failed", f"{file} does not import: {problem}", remedy)
    for_people = [name for name in found if "Trainer" in name and not name.endswith(DEMO)]
    if for_people:
        rest = len(found) - len(for_people)
        beside = f"; beside them {rest} mixins and trainers of the demo" if rest else ""
        found_text = f"nnU-Net finds {len(for_people)}: {', '.join(for_people)}{beside}"
        yield Row("trainers", "ok", found_text)


def _plug_in_of(error: Exception) -> tuple[str, str] | None:
    """Folder and file of another plug-in in nnUNet_extTrainer whose import raised an error; None if it was none."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    files = [*frames, str(error.filename)] if isinstance(error, SyntaxError) else frames
    for folder in filter(None, os.environ.get(PATHS_VARIABLE, "").split(os.pathsep)):
        if Path(folder).resolve() == Path(trainer_path()).resolve():
            continue
        inside = [file for file in files if Path(file).resolve().is_relative_to(Path(folder).resolve())]
        if inside:
            return folder, inside[-1]
    return None


def _export_line() -> str:
    """The line that puts our trainers into nnUNet_extTrainer and keeps what is there."""
    if not os.environ.get(PATHS_VARIABLE):
        return EXPORT_LINE
    return f'export {PATHS_VARIABLE}="${PATHS_VARIABLE}{os.pathsep}$(nnunet-uhf trainer-path)"'


def check_folders() -> Iterator[Row]:
    """NnU-Net's three folders; one that is unset is no fault, since not every command needs all."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        value = os.environ.get(name)
        if not value:
            yield Row(name, "note", "not set", f"export {name}=FOLDER, before planning, training or predicting")
        elif not Path(value).is_dir():
            yield Row(name, "failed", f"{value} is no folder", f"make the folder or correct {name}")
        elif os.access(value, os.W_OK):
            yield Row(name, "ok", value)
        elif name == "nnUNet_raw":
            yield Row(name, "note", f"{value} (read only)")
        else:
            yield Row(name, "failed", f"{value} is not writable", "change its permissions or choose another folder")


def check_keepers() -> Iterator[Row]:
    """Every keeper file nnUNet_UHF_KKN names reads, and its weights have their hash."""
    from nnunet_uhf.guidance.keeper_files import KeeperFiles
    from nnunet_uhf.keepers.packaged import builtin_keepers, builtin_name

    value = os.environ.get(KEEPERS_VARIABLE)
    if not value:
        packaged = ", ".join(map(builtin_name, builtin_keepers()))
        found = f"not set; the package's own keepers guide: {packaged}" if packaged else "not set"
        remedy = f"export {KEEPERS_VARIABLE}=FILE, unless your plans carry a keeper (nnunet-uhf plan)"
        yield Row(KEEPERS_VARIABLE, "note", found, remedy)
        return
    try:
        files = KeeperFiles.of_environment()
    except UHFError as error:
        yield Row(KEEPERS_VARIABLE, "failed", str(error), f"correct {KEEPERS_VARIABLE}")
        return
    for file in files:
        try:
            header = file.content.header
        except UHFError as error:
            yield Row("keeper", "failed", str(error), "export it again, or fetch an undamaged copy")
            continue
        spacing = " x ".join(f"{step:g}" for step in header.spacing_mm)
        found = f"{file.path}: {header.dim}D, {header.channel}, {spacing} mm, sha256 {header.sha256[:8]} verified"
        yield Row("keeper", "ok", found)


CHECKS: tuple[Callable[[], Iterator[Row]], ...] = (
    check_python,
    check_nnunet,
    check_torch,
    check_compilation,
    check_threads,
    check_registration,
    check_trainers,
    check_folders,
    check_keepers,
)
