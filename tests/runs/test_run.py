"""One command from a labelled dataset to the comparison: what it does, leaves out, goes on with, and prints."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_entrypoints as entry_points
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.run import run_training
from rich.console import Console

import nnunet_uhf.report.compare as comparing
import nnunet_uhf.stages
import nnunet_uhf.trainers.distillation.pretrain as pretraining
from helpers.support import only_line, tiny_keeper
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.runs.run import carry_out, commands
from nnunet_uhf.runs.settings import RunSettings
from nnunet_uhf.stages import find_command

TISSUES, PAIRS = "Dataset102_Tissues", "Dataset101_Pairs"
PLANS = {
    "plans_name": "nnUNetPlans",
    "configurations": {
        name: {"data_identifier": f"nnUNetPlans_{name}", "patch_size": [8] * dim}
        for name, dim in (("2d", 2), ("3d_fullres", 3))
    },
}


class FakeCommands:
    """In the place of the commands: what was called, and files such as these commands leave."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.called: list[tuple[tuple[str, ...], dict[str, str]]] = []
        self.fails: str | None = None

    def __call__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_epoch: Callable[[int], None],
        **_: Any,
    ) -> int:
        self.called.append((tuple(command), dict(environment)))
        if self.fails is not None and self.fails in " ".join(command):
            return 1
        options = list(command)
        if command[0] == "nnUNetv2_plan_and_preprocess":
            self.plan(TISSUES if options[options.index("-d") + 1] == "102" else PAIRS)
        elif command[0] == "nnUNetv2_preprocess":
            dataset = TISSUES if options[options.index("-d") + 1] == "102" else PAIRS
            self.preprocess(dataset, options[-1])
        elif command[0] == "nnUNetv2_train":
            self.train(f"{options[options.index('-tr') + 1]}__nnUNetPlans__{options[2]}", options[3])
        elif "-o" in options:
            target = Path(options[options.index("-o") + 1])
            if target.suffix:
                tiny_keeper(target.parent, 2, "T1w", name=target.name)
            else:
                target.mkdir(parents=True, exist_ok=True)
                (target / ("case.nii.gz" if command[0] == "nnUNetv2_predict" else "index.html")).touch()
        on_epoch(1)
        return 0

    def plan(self, dataset: str) -> None:
        folder = self.root / "pre" / dataset
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nnUNetPlans.json").write_text(json.dumps(PLANS))

    def preprocess(self, dataset: str, configuration: str) -> None:
        folder = self.root / "pre" / dataset / f"nnUNetPlans_{configuration}"
        folder.mkdir()
        for case in ("a", "b"):
            (folder / f"{case}.pkl").touch()

    def train(self, model: str, fold: str, *, finished: bool = True) -> None:
        folder = self.root / "res" / TISSUES / model / f"fold_{fold}"
        (folder / "validation").mkdir(parents=True, exist_ok=True)
        (folder / ("checkpoint_final.pth" if finished else "checkpoint_latest.pth")).touch()
        if finished:
            (folder / "validation" / "summary.json").touch()

    def names(self, command: str) -> list[str]:
        return [" ".join(called) for called, _ in self.called if called[0] == command]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCommands:
    for variable, name in (("nnUNet_raw", "raw"), ("nnUNet_preprocessed", "pre"), ("nnUNet_results", "res")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    for dataset in (TISSUES, PAIRS):
        folder = tmp_path / "raw" / dataset
        (folder / "imagesTr").mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps({"numTraining": 2, "file_ending": ".nii.gz"}))
    fake = FakeCommands(tmp_path)
    monkeypatch.setattr(nnunet_uhf.stages, "run_command", fake)
    return fake


def settings(**changes: Any) -> RunSettings:
    return RunSettings(**{"dataset": TISSUES, "configurations": ("2d",), "folds": (0, 1), "epochs": 5, **changes})


def go(asked: RunSettings, out: Path, **options: Any) -> tuple[list[Path], str]:
    console = Console(file=io.StringIO(), width=200)
    pages = carry_out(asked, out, device="cpu", console=console, **options)
    return pages, console.file.getvalue()


def test_pairs_become_a_keeper_two_models_and_a_page(fake: FakeCommands, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pages, _ = go(settings(pairs=PAIRS, keeper_epochs=3), out, gpus=2)
    assert pages == [out / "comparison_2d" / "index.html"]
    order = [called[0] if called[0].startswith("nnUNet") else called[1] for called, _ in fake.called]
    assert order == [
        *("nnUNetv2_plan_and_preprocess", "nnUNetv2_preprocess") * 2,
        "pretrain",
        *["nnUNetv2_train"] * 4,
        "compare",
    ]
    keeper = str(out / "keepers" / "keeper_2d.safetensors")
    assert f"pretrain -d 101 -c 2d -f 0 -o {keeper} -device cpu --epochs 3" in fake.names("nnunet-uhf")[0]
    trainings = [(called, environment) for called, environment in fake.called if called[0] == "nnUNetv2_train"]
    assert [called[called.index("-tr") + 1] for called, _ in trainings] == [
        "nnUNetTrainerSeeded_5epochs",
        "UHFTrainer_5epochs",
    ] * 2
    assert {environment["nnUNet_UHF_SEED"] for _, environment in trainings} == {"1"}  # paired
    assert trainings[1][1]["nnUNet_UHF_KKN"] == str(out / "keepers")
    assert all(called[called.index("-num_gpus") + 1] == "2" for called, _ in trainings)


def test_what_is_there_is_not_done_again_whoever_made_it(fake: FakeCommands, tmp_path: Path) -> None:
    keeper = str(tiny_keeper(tmp_path, 2, "T1w"))
    fake.plan(TISSUES)
    fake.preprocess(TISSUES, "2d")
    fake.train("nnUNetTrainerSeeded_5epochs__nnUNetPlans__2d", "0")
    fake.train("UHFTrainer_5epochs__nnUNetPlans__2d", "0", finished=False)
    _, text = go(settings(keeper=keeper), tmp_path / "out")
    assert "plain nnU-Net 2d, fold 0: done before" in text
    trainings = fake.names("nnUNetv2_train")
    assert len(trainings) == 3
    assert trainings[0].endswith("--c")  # the one that was begun goes on
    assert not any(line.endswith("--c") for line in trainings[1:])
    assert fake.called[0][0][0] == "nnUNetv2_train"
    before = len(fake.called)
    go(settings(keeper=keeper), tmp_path / "out")
    assert len(fake.called) == before


def test_a_failed_step_names_its_log_and_the_next_run_begins_with_it(fake: FakeCommands, tmp_path: Path) -> None:
    keeper, out = str(tiny_keeper(tmp_path, 2, "T1w")), tmp_path / "out"
    fake.fails = "102 2d 1 -tr UHFTrainer"
    with pytest.raises(UHFError, match=r"guided_2d_fold1\.log"):
        go(settings(keeper=keeper), out)
    fake.fails, done = None, len(fake.called)
    go(settings(keeper=keeper), out)
    assert [called[0] for called, _ in fake.called[done:]] == ["nnUNetv2_train", "nnunet-uhf"]


def test_a_changed_setting_is_told(fake: FakeCommands, tmp_path: Path) -> None:
    keeper, out = str(tiny_keeper(tmp_path, 2, "T1w")), tmp_path / "out"
    go(settings(keeper=keeper), out)
    with pytest.raises(UHFError, match=r"epochs was 5, is 9\)"):
        go(settings(keeper=keeper, epochs=9), out)


def test_further_images_are_segmented_by_both_and_compared_with_their_label_maps(
    fake: FakeCommands, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "case_0000.nii.gz").touch()
    given = {"images": str(tmp_path / "images"), "reference": "/labels"}
    asked = settings(keeper=str(tiny_keeper(tmp_path, 2, "T1w")), **given)
    pages, _ = go(asked, tmp_path / "out")
    assert [page.parent.name for page in pages] == ["comparison_2d", "comparison_2d_images"]
    assert [line.split()[2] for line in fake.names("nnUNetv2_predict")] == [given["images"]] * 2
    assert "-f 0 1" in fake.names("nnUNetv2_predict")[0]
    assert "-ref /labels" in fake.names("nnunet-uhf")[-1]
    before = len(fake.called)
    (tmp_path / "out" / "predictions" / "plain_2d" / "case.nii.gz").unlink()
    go(asked, tmp_path / "out")  # what was moved away is made again, and nothing else
    assert [called[0] for called, _ in fake.called[before:]] == ["nnUNetv2_predict"]


def test_printed_commands_are_what_is_left_and_its_trainings_need_no_order(fake: FakeCommands, tmp_path: Path) -> None:
    asked = settings(keeper=str(tiny_keeper(tmp_path, 2, "T1w")), configurations=("2d",))
    lines = commands(asked, tmp_path / "out", device="cuda")
    assert [line.split(":")[0] for line in lines if line.startswith("#")] == ["# prepare", "# train", "# finish"]
    typed = [shlex.split(line) for line in lines if not line.startswith("#")]
    for words in typed:
        find_command(next(word for word in words if "=" not in word))
    trainings = commands(asked, tmp_path / "out", device="cuda", parts=("train",))[1:]
    assert len(trainings) == len(set(trainings)) == 4
    assert all(line.startswith("nnUNet_UHF_SEED=1 ") for line in trainings)
    assert not (tmp_path / "out").exists()
    fake.train("UHFTrainer_5epochs__nnUNetPlans__2d", "1")
    assert len(commands(asked, tmp_path / "out", device="cuda", parts=("train",))[1:]) == 3
    for trainer, fold in (("UHFTrainer", "0"), ("nnUNetTrainerSeeded", "0"), ("nnUNetTrainerSeeded", "1")):
        fake.train(f"{trainer}_5epochs__nnUNetPlans__2d", fold)
    assert commands(asked, tmp_path / "out", device="cuda", parts=("train",)) == ["# train: nothing is left"]


def test_print_writes_one_command_a_line(
    fake: FakeCommands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = tiny_keeper(tmp_path / "a folder", 2, "T1w")
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("run", "-d", "102", "-c", "2d", "-f", "0", "1", "--keeper", str(keeper), "-o", str(tmp_path / "out")),
                *("--part", "train", "--print", "-device", "cpu"),
            ]
        )
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert f"nnUNet_UHF_KKN='{keeper}' nnUNetv2_train 102 2d 1 -tr UHFTrainer -p nnUNetPlans" in lines[4]


def test_a_configuration_without_a_keeper_is_refused_before_anything_runs(
    fake: FakeCommands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = tiny_keeper(tmp_path, 2, "T1w")
    line = only_line(
        capsys,
        lambda: main(["run", "-d", "102", "-c", "3d_fullres", "--keeper", str(keeper), "-o", "out", "-device", "cpu"]),
    )
    assert "-c 3d_fullres needs a keeper of 3 dimensions" in line
    assert fake.called == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"configurations": ("3d_cascade_fullres",)}, "no stages that wait"),
        ({"folds": (0, 0)}, "each once"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"keeper_epochs": 5}, "without --pairs"),
        ({"reference": "labels"}, "of which images"),
        ({"configurations": ()}, "a configuration"),
    ],
)
def test_settings_without_use_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UHFError, match=said):
        settings(**changes)


def understood(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """What a command hands to the function that would do its work."""
    program, work = {
        "nnUNetv2_plan_and_preprocess": (entry_points.plan_and_preprocess_entry, (entry_points, "plan_experiments")),
        "nnUNetv2_preprocess": (entry_points.preprocess_entry, (entry_points, "preprocess")),
        "nnUNetv2_train": (run_training.run_training_entry, (run_training, "run_training")),
        "nnUNetv2_predict": (predict_from_raw_data.predict_entry_point, (predict_from_raw_data, "nnUNetPredictor")),
        "pretrain": (lambda: main(words[1:]), (pretraining, "pretrain")),
        "compare": (lambda: main(words[1:]), (comparing, "compare")),
    }[words[1] if words[0] == "nnunet-uhf" else words[0]]
    done = mock.Mock()
    done.return_value = mock.MagicMock()
    monkeypatch.setattr(*work, done)
    monkeypatch.setattr(entry_points, "extract_fingerprints", mock.Mock())
    monkeypatch.setattr(torch, "set_num_threads", mock.Mock())
    monkeypatch.setattr(sys, "argv", list(words))
    with contextlib.suppress(SystemExit):  # an option that is refused ends before the work
        program()
    return done


def test_every_command_is_understood_by_its_program(
    fake: FakeCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.train("UHFTrainer_5epochs__nnUNetPlans__2d", "0", finished=False)
    images = {"images": str(tmp_path / "images"), "reference": str(tmp_path / "labels")}
    asked = settings(pairs=PAIRS, keeper_epochs=3, folds=(0,), **images)
    lines = commands(asked, tmp_path / "out", device="cpu", gpus=2)
    found = {}
    for line in lines:
        if not line.startswith("#"):
            words = [word for word in shlex.split(line) if not re.match(r"nnUNet_\w+=", word)]
            found[line] = understood(words, monkeypatch)
    assert all(done.called for done in found.values())
    guided = next(done for line, done in found.items() if "UHFTrainer" in line and "nnUNetv2_train" in line)
    assert guided.call_args.args[:5] == ("102", "2d", "0", "UHFTrainer_5epochs", "nnUNetPlans")
    assert guided.call_args.args[6:10] == (2, True, True, False)  # GPUs, npz, go on, validate alone
