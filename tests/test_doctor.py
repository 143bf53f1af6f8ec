"""The doctor finds what is wrong by trying it, and says the remedy."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from helpers.support import tiny_keeper
from nnunet_uhf import doctor, trainers
from nnunet_uhf.doctor import Row
from nnunet_uhf.installation.trainer_path import OPT_OUT_VARIABLE, PATHS_VARIABLE, trainer_path

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@pytest.fixture(autouse=True)
def registered_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in which nothing is set but what the start-up file sets."""
    for name in (*NNUNET_FOLDERS, doctor.KEEPERS_VARIABLE, OPT_OUT_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(PATHS_VARIABLE, trainer_path())


@pytest.fixture
def few_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three names to look for: nnU-Net goes through all of its folders for each."""
    monkeypatch.setattr(trainers, "__all__", ["UHFKeeperTrainer", "UHFTeacherTrainer", "UHFTrainer"])


def failures(rows: list[Row]) -> list[Row]:
    """Failed rows; each must say its remedy."""
    failed = [row for row in rows if row.state == "failed"]
    assert all(row.remedy for row in failed)
    return failed


def examine() -> tuple[int, str]:
    """Exit status and text of the whole report."""
    text = io.StringIO()
    return doctor.run(Console(file=text, width=300)), text.getvalue()


def test_a_whole_installation_passes_and_every_trainer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NNUNET_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv(doctor.KEEPERS_VARIABLE, str(tiny_keeper(tmp_path / "keepers", 3)))
    status, text = examine()
    assert status == 0
    assert "failed" not in text
    for name in ("UHFTrainer,", "UHFKeeperTrainer,", "UHFTeacherTrainer,", "verified", str(sys.executable)):
        assert name in text


def test_unset_folders_are_worth_a_note_but_no_fault() -> None:
    rows = list(doctor.check_folders())
    assert [row.state for row in rows] == ["note"] * 3


def test_a_torchvision_of_another_torch_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    def nms(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore of it")

    broken = SimpleNamespace(__version__="0.1", __path__=["/lib/torchvision"], ops=SimpleNamespace(nms=nms))
    monkeypatch.setitem(sys.modules, "torchvision", broken)
    (row,) = failures(list(doctor.check_torch()))
    assert row.found == "RuntimeError: operator torchvision::nms does not exist"
    assert "pip install --force-reinstall torch torchvision" in row.remedy


def test_a_torchvision_that_does_not_import_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (row,) = failures(list(doctor.check_torch()))
    assert row.name == "torchvision"


@pytest.mark.parametrize(("version", "state"), [("2.8.0", "failed"), ("2.8.1", "ok"), ("2.9", "ok"), ("3.0", "failed")])
def test_nnunet_must_have_a_version_this_package_was_made_for(
    version: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda _: version)
    (row,) = doctor.check_nnunet()
    assert row.state == state


@pytest.mark.usefixtures("few_trainers")
def test_trainers_nnunet_does_not_find_fail_with_the_line_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_OUT_VARIABLE, "0")
    monkeypatch.delenv(PATHS_VARIABLE)
    assert doctor.EXPORT_LINE in next(iter(doctor.check_registration())).remedy
    rows = failures(list(doctor.check_trainers()))
    assert "UHFTrainer" in {row.name for row in rows}
    assert all(doctor.EXPORT_LINE in row.remedy for row in rows)


@pytest.mark.usefixtures("few_trainers")
def test_a_trainer_of_the_same_name_that_is_found_first_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class UHFTrainer(nnUNetTrainer):\n    pass\n"
    )
    monkeypatch.setenv(PATHS_VARIABLE, str(tmp_path) + os.pathsep + trainer_path())
    (row,) = failures(list(doctor.check_trainers()))
    assert (row.name, row.found) == ("UHFTrainer", "mine.UHFTrainer")


@pytest.mark.usefixtures("few_trainers")
@pytest.mark.parametrize("content", ["import a_package_that_is_not_installed\n", "class Unfinished(\n"])
def test_another_plug_in_that_does_not_import_is_named_and_ours_are_not_blamed(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "their_trainer.py"
    theirs.write_text(content)
    monkeypatch.setenv(PATHS_VARIABLE, str(tmp_path) + os.pathsep + trainer_path())
    (row,) = failures(list(doctor.check_trainers()))
    assert row.name == PATHS_VARIABLE
    assert row.found.startswith(f"{theirs} does not import: ")
    assert f'export {PATHS_VARIABLE}="$(nnunet-uhf trainer-path){os.pathsep}{tmp_path}"' in row.remedy
    monkeypatch.setenv(PATHS_VARIABLE, trainer_path() + os.pathsep + str(tmp_path))  # the remedy
    assert not [row for row in doctor.check_trainers() if row.state == "failed"]


@pytest.mark.usefixtures("few_trainers")
def test_the_line_to_export_keeps_the_folders_of_other_plug_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPT_OUT_VARIABLE, "0")
    monkeypatch.setenv(PATHS_VARIABLE, str(tmp_path))
    row = failures(list(doctor.check_trainers()))[0]
    assert f'export {PATHS_VARIABLE}="${PATHS_VARIABLE}{os.pathsep}$(nnunet-uhf trainer-path)"' in row.remedy


def test_a_folder_that_is_gone_or_read_only_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "gone"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)  # a superuser may write everywhere
    raw, preprocessed, results = doctor.check_folders()
    assert (raw.state, preprocessed.state, results.state) == ("note", "failed", "failed")
    failures([raw, preprocessed, results])


def test_a_damaged_keeper_fails_beside_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_keeper(tmp_path, 3, name="whole.safetensors")
    damaged = tiny_keeper(tmp_path, 3, name="damaged.safetensors")
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setenv(doctor.KEEPERS_VARIABLE, str(tmp_path))
    rows = list(doctor.check_keepers())
    (failed,) = failures(rows)
    assert "damaged.safetensors" in failed.found
    assert [row.state for row in rows].count("ok") == 1


def test_a_keeper_path_that_does_not_exist_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(doctor.KEEPERS_VARIABLE, str(tmp_path / "none.safetensors"))
    (row,) = failures(list(doctor.check_keepers()))
    assert "none.safetensors" in row.found


def test_one_broken_check_does_not_hide_the_others_and_gives_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_something_odd() -> None:
        raise ValueError("odd\nsecond line")

    monkeypatch.setattr(doctor, "CHECKS", (check_something_odd, doctor.check_python))
    status, text = examine()
    assert status == 1
    assert "ValueError: odd" in text
    assert "second line" not in text
    assert "failed: something odd" in text
    assert "python" in text


@pytest.mark.parametrize(
    ("cuda", "wish", "triton", "found"),
    [
        (False, None, True, "off: nnU-Net compiles on CUDA alone"),
        (True, None, True, "on: in guided trainings keeper and network are compiled apart"),
        (True, "f", True, "off by nnUNet_compile=f"),
        (True, None, False, "on, but its compiler"),
    ],
)
def test_the_report_says_whether_networks_are_compiled_and_what_to_expect(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, wish: str | None, triton: bool, found: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: object() if triton else None)
    monkeypatch.delenv("nnUNet_compile", raising=False)
    if wish is not None:
        monkeypatch.setenv("nnUNet_compile", wish)
    (row,) = doctor.check_compilation()
    assert row.found.startswith(found)
    assert row.state == ("failed" if cuda and not triton else "ok")


def test_mixins_and_trainers_of_the_demo_are_counted_and_not_listed() -> None:
    (row,) = doctor.check_trainers()
    listed = row.found.partition(": ")[2].partition(";")[0].split(", ")
    assert {"UHFTrainer", "UHFTrainerRandomKeeper", "UHFTrainerWeightedLoss"} <= set(listed)
    assert {"SeededTraining", "WeightedLoss", "StartFromBaseline", "UHFGuidance"}.isdisjoint(listed)
    assert not any(name.endswith("_demo") for name in listed)
    assert "mixins" in row.found


def test_trainings_side_by_side_on_a_cpu_are_told_not_to_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = ("/venv/bin/python\0/venv/bin/nnUNetv2_train\0007", "/venv/bin/python\0/venv/bin/nnUNetv2_train", "vi")
    for number, command in enumerate(commands):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_text(command)
    assert doctor.running_trainings(tmp_path) == 2
    monkeypatch.setattr(doctor, "running_trainings", lambda: 2)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    (row,) = doctor.check_threads()
    assert (row.state, row.found[:11]) == ("note", "2 trainings")
    assert "OMP_WAIT_POLICY=PASSIVE" in row.remedy
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert [row.state for row in doctor.check_threads()] == ["ok"]
