"""`check-input`: is an image like those a keeper was trained on?"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from helpers.known_keepers import SHAPE, knowing, save, scan
from helpers.support import tiny_keeper
from helpers.workspace import Workspace
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.input_check import check_inputs, checks_table
from nnunet_uhf.keepers.file import read_header, read_keeper


@pytest.fixture(scope="module")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    torch.set_num_threads(1)
    return {dim: knowing(tmp_path_factory.mktemp(f"keeper_{dim}"), dim) for dim in (2, 3)}


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize("dim", [2, 3])
def test_unseen_scans_of_the_kind_are_mostly_within_and_others_beyond(
    tmp_path: Path, keepers: dict[int, Path], dim: int
) -> None:
    for seed in range(20, 28):
        image = scan(seed)
        save(tmp_path / "same" / f"{seed}.nii.gz", image)
        save(tmp_path / "inverted" / f"{seed}.nii.gz", image.max() - image)
    same, inverted = (
        [check.verdict for check in check_inputs(tmp_path / name, keepers[dim]).values()]
        for name in ("same", "inverted")
    )
    assert same.count("within") >= 6
    assert "far beyond" not in same
    assert "within" not in inverted


def test_noise_is_far_beyond(tmp_path: Path, keepers: dict[int, Path]) -> None:
    noise = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    for name, image in (("noisy", scan(20) + 80 * noise), ("alone", np.abs(noise))):
        save(tmp_path / "in" / f"{name}.nii.gz", image)
    assert {check.verdict for check in check_inputs(tmp_path / "in", keepers[3]).values()} == {"far beyond"}


def test_air_around_the_head_and_the_unit_of_intensity_do_not_matter(tmp_path: Path, keepers: dict[int, Path]) -> None:
    image = scan(30)
    wider = np.pad(image, ((9, 4), (3, 12), (8, 8)))
    for name, one in (("a", image), ("b", wider), ("c", 7 * image)):
        save(tmp_path / "in" / f"{name}.nii.gz", one)
    checks = check_inputs(tmp_path / "in", keepers[3])
    for name in "bc":
        assert checks[f"{name}.nii.gz"].overall.distance == pytest.approx(checks["a.nii.gz"].overall.distance, rel=1e-3)


def test_long_names_are_not_cut_in_a_narrow_table(tmp_path: Path, keepers: dict[int, Path]) -> None:
    names = [f"sub-0123456789_ses-01_acq-iso_run-{run}_T1w.nii.gz" for run in (1, 2)]
    for name in names:
        save(tmp_path / "in" / name, scan(20))
    file = io.StringIO()
    Console(width=80, file=file).print(checks_table(check_inputs(tmp_path / "in", keepers[3])))
    shown = file.getvalue()
    assert "…" not in shown
    assert "verdict" in shown
    cells = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert all(name in "".join(cells) for name in names)


def test_the_report_has_a_line_for_every_level_and_one_for_all(tmp_path: Path, keepers: dict[int, Path]) -> None:
    path = save(tmp_path / "in" / "x.nii.gz", scan(31))
    checks = check_inputs(path, keepers[2], output=tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["level"] for line in lines] == ["1", "2", "3", "4", "5", "all"]
    check = checks["x.nii.gz"]
    for line, level in zip(lines, (*check.levels, check.overall), strict=True):
        assert line["image"] == "x.nii.gz"
        assert float(line["distance"]) == pytest.approx(level.distance, abs=1e-3)
        assert line["verdict"] == level.verdict
    statistics = read_header(keepers[2]).feature_statistics
    assert statistics is not None
    assert float(lines[-1]["usual_p95"]) == statistics["distances"]["p95"]


def test_only_strict_turns_a_verdict_into_an_exit_status(
    tmp_path: Path, keepers: dict[int, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    inverted = save(tmp_path / "inverted.nii.gz", scan(32).max() - scan(32))
    usual = tmp_path / "usual.nii.gz"
    usual.write_bytes((keepers[3].parent / "scans" / "3.nii.gz").read_bytes())
    assert run("check-input", "-i", inverted, "-m", keepers[3]) == 0
    assert "far beyond" in capsys.readouterr().out
    assert run("check-input", "-i", inverted, "-m", keepers[3], "--strict", "-o", tmp_path / "r.csv") == 1
    assert (tmp_path / "r.csv").exists()
    assert run("check-input", "-i", usual, "-m", keepers[3], "--strict") == 0


def test_a_report_that_is_there_is_replaced_only_when_asked(
    tmp_path: Path, keepers: dict[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = save(tmp_path / "in" / "x.nii.gz", scan(31)), tmp_path / "report.csv"
    report.write_text("mine")
    words = ("check-input", "-i", path, "-m", keepers[2], "-o", report)
    assert run(*words) == 2
    assert "is there already" in capsys.readouterr().err
    assert report.read_text() == "mine"
    assert run(*words, "--overwrite") == 0
    assert report.read_text().startswith("image,")


def test_a_keeper_without_statistics_is_said_to_know_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, keeper = save(tmp_path / "x.nii.gz", scan(33)), tiny_keeper(tmp_path, 2)
    assert run("check-input", "-i", path, "-m", keeper) == 2
    message = capsys.readouterr().err.splitlines()[-1]  # behind the line that names the device
    assert message.startswith("error: ")
    assert "holds no feature statistics" in message
    assert "export-keeper" in message


def test_what_cannot_be_checked_is_refused_in_one_line(tmp_path: Path, keepers: dict[int, Path]) -> None:
    path = save(tmp_path / "x.nii.gz", scan(34))
    box = np.zeros(SHAPE, np.float32)
    box[4:20, 5:25, 6:24] = 3
    flat = save(tmp_path / "flat.nii.gz", box)
    (tmp_path / "empty").mkdir()
    for message, arguments, options in (
        ("must end in", (path, keepers[2]), {"output": tmp_path / "report.txt"}),
        ("does not exist", (tmp_path / "no", keepers[2]), {}),
        ("holds no", (tmp_path / "empty", keepers[2]), {}),
        ("no model folder", (path, tmp_path / "empty"), {}),
        ("one intensity", (flat, keepers[3]), {}),
        ("does not exist", (path, tmp_path / "no.safetensors"), {}),
    ):
        with pytest.raises(UHFError, match=message) as error:
            check_inputs(*arguments, **options)
        assert "\n" not in str(error.value)


def test_an_odd_scan_is_a_row_of_its_own_and_the_others_get_their_verdict(
    tmp_path: Path, keepers: dict[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in" / "a.nii.gz", scan(20))
    hole = scan(21)
    hole[0, 0, 0] = np.nan
    save(tmp_path / "in" / "b.nii.gz", hole)
    save(tmp_path / "in" / "c.nii.gz", scan(22))
    report = tmp_path / "report.csv"
    assert run("check-input", "-i", tmp_path / "in", "-m", keepers[3], "-o", report) == 1
    told = capsys.readouterr()
    assert "not checked" in told.out
    assert "1 case was left out, the others are done" in told.err
    with report.open(newline="") as file:
        verdicts = {row["image"]: row["verdict"] for row in csv.DictReader(file) if row["level"] == "all"}
    assert verdicts.pop("b.nii.gz") == "not checked"
    assert sorted(verdicts) == ["a.nii.gz", "c.nii.gz"]


def guided_model(workspace: Workspace, keeper: Path, folder: Path, **block: Any) -> Path:
    """A model folder as far as the keeper in it goes."""
    dataset, file = workspace.dataset("single"), read_keeper(keeper)
    plans = dataset.plans()
    plans["configurations"]["2d"]["uhf"] = attach(plans, "2d", dataset.dataset_json(), file.header).as_json() | block
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    weights = {f"keeper.{name}": value for name, value in file.keeper_state.items()}
    content = {
        "network_weights": {**weights, "encoder.weight": torch.zeros(2)},
        "init_args": {"configuration": "2d"},
        "trainer_name": "UHFTrainer",
    }
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def test_the_keeper_in_a_guided_model_checks_like_its_file(
    tmp_path: Path, keepers: dict[int, Path], nnunet: Workspace
) -> None:
    spacing = tuple(nnunet.dataset("single").plans()["configurations"]["2d"]["spacing"])
    keeper = knowing(tmp_path / "keeper", 2, spacing_mm=spacing)
    model = guided_model(nnunet, keeper, tmp_path / "model")
    for number in range(2):
        save(tmp_path / "in" / f"case_0000_{number:04d}.nii.gz", scan(40 + number))
    checks = check_inputs(tmp_path / "in", model)
    assert list(checks) == ["case_0000_0000.nii.gz"], "the guide channel alone"
    assert checks == check_inputs(tmp_path / "in" / "case_0000_0000.nii.gz", keeper)
    (tmp_path / "in" / "case_0000_0000.nii.gz").unlink()
    with pytest.raises(UHFError, match=r"CASE_0000\.nii\.gz"):
        check_inputs(tmp_path / "in", model)


def test_a_model_that_is_not_guided_or_holds_another_keeper_is_refused(
    tmp_path: Path, keepers: dict[int, Path], nnunet: Workspace
) -> None:
    path = save(tmp_path / "x.nii.gz", scan(35))
    trained = guided_model(nnunet, keepers[2], tmp_path / "keeper", role="keeper")
    with pytest.raises(UHFError, match="not the model of a guided training"):
        check_inputs(path, trained)
    control = guided_model(nnunet, keepers[2], tmp_path / "control", control="unfrozen")
    with pytest.raises(UHFError, match=r"is a control \(the pretrained keeper is trained along\)"):
        check_inputs(path, control)
    model = guided_model(nnunet, keepers[2], tmp_path / "model")
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    next(iter(checkpoint["network_weights"].values())).add_(1)
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(UHFError, match="another keeper"):
        check_inputs(path, model)
    plain = guided_model(nnunet, tiny_keeper(tmp_path / "plain", 2), tmp_path / "without")
    with pytest.raises(UHFError, match="holds no feature statistics"):
        check_inputs(path, plain)


def test_enhance_warns_of_an_image_that_is_unlike_its_training_and_writes_it_down(
    tmp_path: Path, keepers: dict[int, Path]
) -> None:
    save(tmp_path / "in" / "inverted.nii.gz", scan(36).max() - scan(36))
    (tmp_path / "in" / "usual.nii.gz").write_bytes((keepers[3].parent / "scans" / "3.nii.gz").read_bytes())
    told = Console(file=io.StringIO(), width=250)
    enhance(tmp_path / "in", tmp_path / "out", keepers[3], device="cpu", console=told)
    text = told.file.getvalue()  # type: ignore[attr-defined]
    assert "warning: inverted.nii.gz is far beyond what the keeper was trained on" in text
    assert "usual.nii.gz is" not in text
    checks = check_inputs(tmp_path / "in", keepers[3])
    for name, check in checks.items():
        note = json.loads((tmp_path / "out" / name.replace(".nii.gz", ".json")).read_text())
        assert note["input_check"] == json.loads(json.dumps(check.note()))
        assert len(note["input_check"]["levels"]) == 5


def test_enhance_says_once_when_it_cannot_check_its_inputs(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "in" / f"{name}.nii.gz", scan(37))
    told = Console(file=io.StringIO(), width=400)
    enhance(tmp_path / "in", tmp_path / "out", tiny_keeper(tmp_path, 2), device="cpu", console=told)
    text = told.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("inputs are not checked: keeper") == 1
    assert json.loads((tmp_path / "out" / "a.json").read_text())["input_check"] is None
