"""The experiment's plan of work and its statistics, without a training."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helpers.support import REPOSITORY, tiny_trainer
from helpers.tiny_data import write_image
from helpers.workspace import Workspace
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.presets import profile_for_ratio
from nnunet_uhf.stages import State


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    names = (
        "run", "chain", "runs", "conditions", "settings", "data", "pairs", "tables", "gates", "controls", "drift",
    )  # fmt: skip
    return SimpleNamespace(**{name: importlib.import_module(f"experiment.{name}") for name in names})


def settings(benchmark: SimpleNamespace, **changed: Any) -> Any:
    severity = benchmark.settings.Severity
    fields = {
        "task": "tissue",
        "keeper_subjects": 4,
        "pool": 5,
        "test_subjects": 3,
        "labels": (2, 4),
        "trained": severity(3, 4),
        "tests": (severity(3, 4), severity(4, 8)),
        "draws": 2,
        "epochs": 2,
        "iterations": 10,
        "learning_rate": 0.0,
        "pretraining_epochs": 1,
        "batch": 2,
        "features": (4, 8, 16),
        "keeper_features": 4,
        "keeper": "",
        "same_field_keeper": "",
        **changed,
    }
    return benchmark.settings.Settings(**fields)


@pytest.fixture
def places(benchmark: SimpleNamespace, tmp_path: Path) -> Any:
    """Thirteen subjects of 4^3 voxels with three tissues."""
    data = tmp_path / "data"
    rng = np.random.default_rng(0)
    for number in range(13):
        labels = rng.integers(0, 4, (4, 4, 4)).astype(np.uint8)
        write_image(data / "images" / f"case_{number:02d}.nii.gz", labels.astype(np.float32), np.eye(4))
        write_image(data / "labels_tissue" / f"case_{number:02d}.nii.gz", labels, np.eye(4))
    (data / "labels.json").write_text(json.dumps({"tissue": {"background": 0, "CSF": 1, "GM": 2, "WM": 3}}))
    return benchmark.settings.Places(data, tmp_path / "out")


@pytest.fixture
def task(benchmark: SimpleNamespace, places: Any) -> Any:
    return benchmark.settings.find_task("tissue", places.data)


def chain(benchmark: SimpleNamespace, chosen: Any, task: Any, places: Any, conditions: list[str]) -> list[Any]:
    return benchmark.chain.chain(chosen, task, places, conditions=conditions, seeds=[0, 1], device="cpu")


def test_keeper_labelled_and_test_subjects_are_disjoint(benchmark: SimpleNamespace, task: Any, places: Any) -> None:
    groups = benchmark.data.subjects(settings(benchmark), task, places)
    assert [len(groups[name]) for name in ("keeper", "pool", "held_out", "test")] == [4, 5, 1, 3]
    everybody = [case for group in groups.values() for case in group]
    assert len(set(everybody)) == len(everybody)


def test_a_keeper_is_probed_on_subjects_that_it_has_not_seen(
    benchmark: SimpleNamespace, task: Any, places: Any
) -> None:
    chosen = settings(benchmark)
    benchmark.data.copy_images(chosen, task, places)
    dataset = places.out / "raw" / "Dataset301_Probed"
    options = {"data": places.data, "experiment": places.out, "out": dataset, "severity": "high"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    probed = importlib.import_module("experiment.probed")
    assert CliRunner().invoke(probed.app, words, catch_exceptions=False).exit_code == 0
    groups = benchmark.data.subjects(chosen, task, places)
    for part, group in (("Tr", "pool"), ("Ts", "test")):
        for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
            files = sorted(path.name for path in (dataset / f"{kind}{part}").iterdir())
            assert files == [f"{case}{ending}" for case in groups[group]]
    with pytest.raises(UHFError, match="finished run"):
        CliRunner().invoke(probed.app, [*words[:-1], "3:4"], catch_exceptions=False)


def test_the_gate_of_all_labels_has_those_of_the_keepers_subjects(
    benchmark: SimpleNamespace, task: Any, places: Any
) -> None:
    chosen, conditions = settings(benchmark), benchmark.conditions.CONDITIONS
    low, both = benchmark.conditions.LOW, benchmark.conditions.BOTH
    for dataset in (low, benchmark.conditions.HIGH, both):
        (places.out / "nnUNet_preprocessed" / dataset).mkdir(parents=True)
    benchmark.data.write_splits(chosen, task, places)
    folds = {
        dataset: json.loads((places.out / "nnUNet_preprocessed" / dataset / "splits_final.json").read_text())
        for dataset in (low, both)
    }
    groups = benchmark.data.subjects(chosen, task, places)
    few = folds[low][chosen.fold(conditions["plain"], 2, 3)]["train"]
    everybody = folds[low][chosen.fold(conditions["low_all"], 2, 3)]["train"]
    assert sorted([*few, *groups["keeper"]]) == everybody
    assert folds[both][chosen.fold(conditions["true_guides"], 2, 3)]["train"] == few
    assert ("keeper", chosen.trained, 0) in benchmark.data.simulations(settings(benchmark, keeper="given"))


@pytest.mark.parametrize(
    ("gains", "time", "told"),
    [
        ((3.0, 3.5, 2.5), None, "something could be shown"),
        ((3.0, 3.5, 2.5), 1.9, "something could be shown"),
        ((3.0, 3.5, 2.5), 2.1, "too short: plain still learns"),
        ((1.9, 1.8, 1.9), None, "nothing can be shown here"),  # no room
        ((9.0, -3.0, 3.0), None, "nothing can be shown here"),  # seeds spread wider than it
        ((5.0,), None, "not known"),
        ((5.0,), 5.0, "too short: plain still learns"),
    ],
)
def test_the_headroom_says_what_can_be_shown(
    benchmark: SimpleNamespace,
    gains: tuple[float, ...],
    time: float | None,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.console import Console

    score = benchmark.tables.Score
    found = [
        score(name, 2, seed, severity, f"case_{case}", "CSF", 50 + case + above)
        for seed, gain in enumerate(gains)
        for case in range(3)
        for name, severity, above in (
            ("plain", "r3n4", 0), ("low_all", "r3n4", gain), ("high_plain", "high", 9), ("high_plain", "r3n4", -4),
            *([] if time is None else [("plain_longer", "r3n4", time)]),
        )
    ]  # fmt: skip
    (line,) = benchmark.gates.headroom(settings(benchmark), found)
    assert line["verdict"] == told
    assert line["above_plain"]["low_all"]["by_seed"] == pytest.approx(gains)
    assert line["above_plain"]["true_guides"] is None
    assert line["plain"] == pytest.approx(51)
    benchmark.gates.print_headroom([line], Console(width=200))
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "expected", "values", "mirrored"),
    [
        ("deep_grey", ["Left-Thalamus", "Right-Thalamus"], [0, 0, 1, 2], False),
        ("structure", ["cortex", "thalamus"], [0, 1, 2, 2], True),
    ],
)
def test_tasks_made_of_regions(
    benchmark: SimpleNamespace, places: Any, name: str, expected: list[str], values: list[int], mirrored: bool
) -> None:
    names = {"background": 0, "Cortex": 1, "Left-Thalamus": 2, "Right-Thalamus": 3}
    (places.data / "labels.json").write_text(json.dumps({"region": names}))
    (places.data / "labels_tissue").rename(places.data / "labels_region")
    task = benchmark.settings.find_task(name, places.data)
    assert task.names == {"background": 0, **{each: number for number, each in enumerate(expected, start=1)}}
    assert task.mirrored == mirrored
    places.out.mkdir()
    benchmark.data.copy_images(settings(benchmark), task, places)
    stored = np.asarray(nibabel.load(places.data / "labels_region" / "case_00.nii.gz").dataobj)
    written = np.asarray(nibabel.load(places.labels(task) / "case_00.nii.gz").dataobj)
    assert np.array_equal(written, np.array(values)[stored])


def test_more_subjects_than_there_are_is_refused(benchmark: SimpleNamespace, task: Any, places: Any) -> None:
    with pytest.raises(UHFError, match="has 13 subjects"):
        benchmark.data.subjects(settings(benchmark, test_subjects=9), task, places)


def test_few_labelled_subjects_are_among_the_many_of_the_same_seed(benchmark: SimpleNamespace) -> None:
    pool = [f"case_{number}" for number in range(20)]
    few, many = (set(benchmark.data.training_cases(pool, labels, 3)) for labels in (3, 10))
    assert len(few) == 3
    assert few < many
    assert few != set(benchmark.data.training_cases(pool, 3, 4))


def test_every_fold_holds_the_subjects_it_says(benchmark: SimpleNamespace, task: Any, places: Any) -> None:
    chosen, conditions = settings(benchmark), benchmark.conditions.CONDITIONS
    low, high = benchmark.conditions.LOW, benchmark.conditions.HIGH
    for dataset in (low, high, benchmark.conditions.BOTH):
        (places.out / "nnUNet_preprocessed" / dataset).mkdir(parents=True)
    benchmark.data.write_splits(chosen, task, places)
    folds = {
        dataset: json.loads((places.out / "nnUNet_preprocessed" / dataset / "splits_final.json").read_text())
        for dataset in (low, high)
    }
    groups = benchmark.data.subjects(chosen, task, places)
    for labels in (2, 4):
        plain = folds[low][chosen.fold(conditions["plain"], labels, 7)]
        images = folds[high][chosen.fold(conditions["high_plain"], labels, 7)]
        draws = folds[high][chosen.fold(conditions["high_simulated"], labels, 7)]
        assert plain == images
        assert len(plain["train"]) == labels
        assert set(plain["train"]) <= set(groups["pool"])
        assert draws["train"] == [f"{case}_draw{draw}" for case in plain["train"] for draw in range(2)]
        assert plain["val"] == draws["val"] == groups["held_out"]


def test_every_condition_is_trained_and_predicted_for_every_label_count_and_seed(
    benchmark: SimpleNamespace, task: Any, places: Any
) -> None:
    conditions = list(benchmark.conditions.CONDITIONS)
    stages = chain(benchmark, settings(benchmark), task, places, conditions)
    keys = [stage.key for stage in stages]
    assert len(set(keys)) == len(keys)
    runs = [key for key in keys if key.startswith("run_")]
    expected = {f"run_{name}_{labels}_{seed}" for seed in (0, 1) for labels in (2, 4) for name in conditions}
    assert set(runs) == expected
    assert [key[-1] for key in runs] == sorted(key[-1] for key in runs)  # whole seeds
    for name, one in benchmark.conditions.CONDITIONS.items():
        for other in one.needs:
            assert keys.index(f"run_{other}_2_0") < keys.index(f"run_{name}_2_0")
    for name in ("pseudo_labels", "self_labels"):
        assert keys.index(f"labels_{name}_2_0") == keys.index(f"run_{name}_2_0") - 1
    after = {stage.key: set(stage.after or ()) for stage in stages}
    shared = {key for key in keys if not key.startswith(("run_", "labels_"))}
    assert after["run_guided_2_0"] == shared
    assert after["run_from_baseline_4_1"] == {*shared, "run_plain_4_1"}
    assert after["labels_pseudo_labels_2_1"] == {*shared, "run_high_plain_2_1"}
    assert after["run_pseudo_labels_2_1"] == {*shared, "run_high_plain_2_1", "labels_pseudo_labels_2_1"}


def test_trainings_side_by_side_run_in_processes_of_their_own(benchmark: SimpleNamespace, tmp_path: Path) -> None:
    workers = importlib.import_module("experiment.workers").workers
    here = Path.cwd()
    with workers(1) as work:
        work(os.chdir, tmp_path)
    assert Path.cwd() == tmp_path
    os.chdir(here)
    with workers(2) as work:
        work(os.chdir, tmp_path)
        assert Path.cwd() == here
        with pytest.raises(FileExistsError):  # what goes wrong there is told here
            work(os.mkdir, tmp_path)


def test_a_killed_run_leaves_no_training_behind(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import os, sys, threading, time
sys.path.insert(0, {str(REPOSITORY / "benchmarks")!r})
from experiment.workers import workers

def train(file):
    with open(file, "w") as stream:
        stream.write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    with workers(2) as work:
        work(train, {str(tmp_path / "pid")!r})
"""
    )
    run = subprocess.Popen([sys.executable, str(script)])
    until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    worker = int((tmp_path / "pid").read_text())
    run.kill()
    run.wait()
    until(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2])


def until(true: Callable[[], Any], *, at_most_s: float = 60.0) -> None:
    end = time.monotonic() + at_most_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_preparing_ends_with_the_keepers(
    benchmark: SimpleNamespace, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    monkeypatch.setattr(benchmark.run, "run_stages", lambda stages, **_: keys.extend(stage.key for stage in stages))
    words = [
        "--data", str(places.data), "--out", str(places.out), "--prepare", "--labels", "2", "--pool", "5",
        "--keeper-subjects", "4", "--test-subjects", "3", "--conditions", "guided,same_field",
    ]  # fmt: skip
    assert CliRunner().invoke(benchmark.run.app, words, catch_exceptions=False).exit_code == 0
    assert [key for key in keys if key.startswith("file_")] == ["file_high_field", "file_same_field"]
    assert keys[-1] == "file_same_field"


def test_every_trainer_of_the_chain_exists(
    benchmark: SimpleNamespace, task: Any, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "experiment" / "trainers"))
    trainers = importlib.import_module("experiment_trainers")
    stages = chain(benchmark, settings(benchmark), task, places, list(benchmark.conditions.CONDITIONS))
    commands = [stage.command for stage in stages if "-tr" in stage.command]
    names = {command[command.index("-tr") + 1] for command in commands}
    names |= {condition.trainer for condition in benchmark.conditions.CONDITIONS.values()}
    datasets = {command[1] for command in commands if command[0] == "nnUNetv2_train"}
    assert datasets == {"201", "202", "205", "206"}
    assert names == set(trainers.__all__)
    assert all(getattr(trainers, name).__name__ == name for name in names)


def test_trainings_of_one_process_have_each_its_own_seed_and_length(
    nnunet: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "experiment" / "trainers"))
    trainers, dataset = importlib.import_module("experiment_trainers"), nnunet.dataset("single")
    for seed, epochs in (("2", "3"), ("4", "5")):
        for name, value in (("SEED", seed), ("EPOCHS", epochs), ("ITERATIONS", "7"), ("LANE", "resident")):
            monkeypatch.setenv(f"UHF_EXPERIMENT_{name}", value)
        assert trainers.UHFTrainerRandomKeeper_experiment.keeper_seed == int(seed)
        plans = {**dataset.plans(), "continue_training": False}
        trainer = trainers.nnUNetTrainer_experiment(plans, "2d", 0, dataset.dataset_json(), torch.device("cpu"))
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (int(epochs), 7)
        assert trainer.resident


def test_a_run_has_its_own_seed_keeper_and_model_folder(
    benchmark: SimpleNamespace, task: Any, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(benchmark.runs, "train_and_predict", lambda **_: seen.append(dict(os.environ)))
    before = dict(os.environ)
    stages = {s.key: s for s in chain(benchmark, settings(benchmark), task, places, ["plain", "guided", "efficient"])}
    for key in ("run_plain_2_0", "run_guided_4_1", "run_efficient_2_0"):
        stages[key].function()
    plain, guided, _ = seen
    assert dict(os.environ) == before
    assert plain["nnUNet_UHF_KKN"] == ""
    assert guided["nnUNet_UHF_KKN"].endswith("high_field.safetensors")
    assert [one["UHF_EXPERIMENT_SEED"] for one in seen] == ["0", "1", "0"]
    assert [one["nnUNet_UHF_PRESET"] for one in seen] == ["reference", "reference", "efficient"]
    assert len({one["nnUNet_results"] for one in seen}) == 3
    assert (places.out / "logs" / "run_guided_4_1.log").is_file()


@pytest.mark.parametrize(
    ("names", "mirrored"), [(("CSF", "GM"), "1"), (("Left-Thalamus", "Right-Thalamus"), "0"), (("anterior",), "1")]
)
def test_labels_that_tell_sides_apart_are_not_mirrored(
    benchmark: SimpleNamespace,
    task: Any,
    places: Any,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    mirrored: str,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        benchmark.runs, "train_and_predict", lambda **_: seen.append(os.environ["UHF_EXPERIMENT_MIRRORING"])
    )
    numbered = {"background": 0, **{name: value for value, name in enumerate(names, start=1)}}
    chain(benchmark, settings(benchmark), replace(task, names=numbered), places, ["plain"])[-1].function()
    assert seen == [mirrored]


@pytest.mark.parametrize("mirroring", [True, False])
def test_the_trainers_mirror_only_where_they_may(
    nnunet: Workspace, monkeypatch: pytest.MonkeyPatch, mirroring: bool
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "experiment" / "trainers"))
    trainers = importlib.import_module("experiment_trainers")
    monkeypatch.setenv("UHF_EXPERIMENT_MIRRORING", str(int(mirroring)))
    trainer = tiny_trainer(trainers.nnUNetTrainer_experiment, nnunet.dataset("single"), "2d")
    *_, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes == trainer.inference_allowed_mirroring_axes == ((0, 1) if mirroring else None)


def test_a_given_keeper_is_taken_and_no_pairs_are_made(
    benchmark: SimpleNamespace, task: Any, places: Any, tmp_path: Path
) -> None:
    given = tmp_path / "keeper.safetensors"
    given.write_bytes(b"a keeper")
    stages = chain(benchmark, settings(benchmark, keeper=str(given)), task, places, ["plain", "guided"])
    keys = [stage.key for stage in stages]
    assert not any(key.startswith("teacher_") for key in keys)
    take = next(stage for stage in stages if stage.key == "file_high_field")
    places.out.mkdir()
    take.function()
    assert places.keeper("high_field").read_bytes() == b"a keeper"


def test_only_models_of_high_field_labels_are_tested_at_high_field(benchmark: SimpleNamespace) -> None:
    chosen = settings(benchmark)
    assert chosen.tested(benchmark.conditions.LOW) == ["r3n4", "r4n8"]
    assert chosen.tested(benchmark.conditions.HIGH) == ["r3n4", "r4n8", "high"]


@pytest.mark.parametrize(("text", "values"), [("3,10", [3, 10]), ("0", [0])])
def test_lists_of_numbers_are_read(benchmark: SimpleNamespace, text: str, values: list[int]) -> None:
    assert benchmark.run.numbers(text, "--labels") == values


@pytest.mark.parametrize("text", ["", "3;10", "3,3", "-1"])
def test_other_lists_are_refused(benchmark: SimpleNamespace, text: str) -> None:
    with pytest.raises(UHFError, match="--labels"):
        benchmark.run.numbers(text, "--labels")


def test_a_network_of_two_stages_is_refused_before_anything_is_written(
    benchmark: SimpleNamespace, tmp_path: Path
) -> None:
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--features", "8,16"]
    with pytest.raises(UHFError, match="3 stages or more"):
        CliRunner().invoke(benchmark.run.app, words, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_privileged_guides_of_a_keeper_without_its_teachers_sizes_are_refused_before_anything_is_written(
    benchmark: SimpleNamespace, tmp_path: Path
) -> None:
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--conditions", "plain,privileged"]
    with pytest.raises(UHFError, match="--keeper-preset reference"):
        CliRunner().invoke(benchmark.run.app, [*words, "--keeper-preset", "efficient"], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_severities_are_read_and_odd_ones_refused(benchmark: SimpleNamespace) -> None:
    parse = benchmark.settings.Severity.parse
    assert parse("3:4").name == "r3n4"
    assert parse("6:12:0.3:0.5").name == "r6n12b0.3c0.5"
    assert parse("6:12:0:0.5").options[-2:] == ("--kspace-crop", "0.5")
    for odd in ("three", "3", "3:4:0:0:0", "3:x"):
        with pytest.raises(UHFError, match="RATIO:NOISE"):
            parse(odd)


def test_dice_is_that_of_two_hand_counted_maps(benchmark: SimpleNamespace) -> None:
    truth, predicted = np.array([1, 1, 1, 0, 2]), np.array([1, 1, 0, 1, 0])
    assert benchmark.tables.dice(truth, predicted, 1) == pytest.approx(100 * 2 * 2 / 6)
    assert benchmark.tables.dice(truth, predicted, 2) == 0
    assert np.isnan(benchmark.tables.dice(truth, predicted, 3))


def made_scores(benchmark: SimpleNamespace, shift: float) -> list[Any]:
    """Two seeds, three subjects, two structures; guided is plain plus a shift."""
    return [
        benchmark.tables.Score(
            name, 2, seed, "r3n4", f"case_{case}", structure, 50 + 7 * seed + 3 * case + 11 * k + gain
        )
        for name, gain in (("plain", 0.0), ("guided", shift))
        for seed in (0, 1)
        for case in range(3)
        for k, structure in enumerate(("CSF", "GM"))
    ]


def test_a_known_shift_is_found_and_no_shift_is_none(benchmark: SimpleNamespace) -> None:
    for shift in (0.0, 2.5):
        line = benchmark.tables.row(made_scores(benchmark, shift), "guided", "plain")
        found = line["difference"]
        assert found["mean"] == pytest.approx(shift)
        assert found["ci"] == pytest.approx((shift, shift))
        assert found["ci_subjects"] == pytest.approx((shift, shift))
        assert found["by_seed"] == pytest.approx([shift, shift])
        assert line["mean"] == pytest.approx(50 + 3.5 + 3 + 5.5 + shift)
        assert line["sd_seeds"] == pytest.approx(7 / np.sqrt(2))
        assert line["structures"]["GM"] == pytest.approx(50 + 3.5 + 3 + 11 + shift)


def test_guided_is_held_against_every_control(benchmark: SimpleNamespace) -> None:
    found = made_scores(benchmark, 2.0)
    for name, gain in (("random", 0.0), ("same_field", 3.0)):
        plain = [vars(score) for score in found if score.condition == "plain"]
        found += [benchmark.tables.Score(**{**s, "condition": name, "dice": s["dice"] + gain}) for s in plain]
    lines = benchmark.controls.against_controls(settings(benchmark), found)
    assert [(line["condition"], line["control"]) for line in lines] == [("guided", "same_field"), ("guided", "random")]
    assert [line["minus"]["mean"] for line in lines] == pytest.approx([-1, 2])
    assert [line["verdict"] for line in lines] == ["worse", "better"]
    one_seed = [score for score in found if score.seed == 0]
    assert benchmark.controls.against_controls(settings(benchmark), one_seed)[0]["verdict"] == "one seed: not known"
    assert benchmark.controls.verdict({"ci": (-1.0, 1.0)}) == "not told apart"


def test_every_hypothesis_has_its_control_and_every_control_is_a_condition(benchmark: SimpleNamespace) -> None:
    conditions, controls = benchmark.conditions.CONDITIONS, benchmark.conditions.CONTROLS
    assert {name for pair in controls.items() for name in (pair[0], *pair[1])} <= set(conditions)
    assert {"segmented", "from_baseline", "frozen_baseline", "one_target", "privileged"} <= set(controls)
    guided = {name for name, one in conditions.items() if one.keeper and name not in controls}
    assert guided - {"true_guides"} <= {name for names in controls.values() for name in names}
    for name in ("from_baseline", "frozen_baseline_same_field", "from_baseline_random"):
        assert benchmark.conditions.BASELINES[name] == "plain_longer"


def test_only_seeds_of_both_conditions_are_compared(benchmark: SimpleNamespace) -> None:
    found = [score for score in made_scores(benchmark, 1.0) if score.condition == "plain" or score.seed == 1]
    line = benchmark.tables.row(found, "guided", "plain")
    assert line["seeds"] == line["difference"]["seeds"] == [1]
    assert line["sd_seeds"] is line["difference"]["ci"] is None
    assert benchmark.tables.difference(found, "guided", "random") is None


def test_trainings_that_disagree_widen_the_interval_though_the_subjects_agree(benchmark: SimpleNamespace) -> None:
    gains = np.repeat([[1.0], [-1.0], [3.0]], 8, axis=1)
    low, high = benchmark.tables.interval(gains)
    assert low <= -1 + 1e-9
    assert high > 2


def test_the_report_reads_what_is_finished(
    benchmark: SimpleNamespace, task: Any, places: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    chosen = settings(benchmark)
    state = State(places.out / "stages.json", {}, {"run_plain_2_0": 1.0, "run_guided_2_0": 1.0})
    for name in ("plain", "guided"):
        for case in benchmark.data.subjects(chosen, task, places)["test"]:
            for severity in chosen.tested(benchmark.conditions.LOW):
                truth = places.data / "labels_tissue" / f"{case}.nii.gz"
                target = places.prediction(name, 2, 0) / f"{case}_{severity}.nii.gz"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(truth.read_bytes())
    found = benchmark.tables.scores(chosen, task, places, state)
    benchmark.tables.report(chosen, found, {"headroom": []}, places, state, console=Console(width=160))
    assert "+0.00" in capsys.readouterr().out
    written = json.loads((places.out / "results.json").read_text())
    assert written["headroom"] == []
    assert [line["condition"] for line in written["tables"]["2 labels, tested at r4n8"]] == ["plain", "guided"]
    assert written["tables"]["2 labels, tested at r3n4"][1]["mean"] == 100
    assert len((places.out / "results.csv").read_text().splitlines()) == 1 + 2 * 3 * 2 * 3


def test_the_severities_of_one_clean_target_reach_from_mild_to_severe(benchmark: SimpleNamespace) -> None:
    found = benchmark.pairs.wide_severities(settings(benchmark, wide_draws=24))
    assert {severity.ratio for severity in found} == {1, 2, 3, 4, 6}
    assert all(profile_for_ratio(severity.ratio) for severity in found)
    for name, most in (("noise", 12), ("bias", 0.5), ("crop", 0.5)):
        values = np.sort([getattr(severity, name) for severity in found])
        assert np.abs(values - most * (np.arange(24) + 0.5) / 24).max() <= most / 48 + 0.006  # one in each 24th
    assert len({severity.name for severity in found}) == 24


def test_pairs_of_one_clean_target_have_every_severity_and_the_same_target(
    benchmark: SimpleNamespace, task: Any, places: Any
) -> None:
    chosen = settings(benchmark)
    (places.out / "nnUNet_raw").mkdir(parents=True)
    benchmark.data.copy_images(chosen, task, places)
    for group, severity, seed in benchmark.pairs.wide_simulations(chosen):
        for path in (places.images("high") / group).glob("*.nii.gz"):
            image = nibabel.load(path)
            file = benchmark.data.simulated_folder(places, group, severity, seed) / path.name
            write_image(file, image.get_fdata(dtype=np.float32) + severity.noise, image.affine)
    benchmark.pairs.write_wide_pairs(chosen, task, places)
    dataset = benchmark.conditions.WIDE_PAIRS
    raw, ready = places.out / "nnUNet_raw" / dataset, places.out / "nnUNet_preprocessed" / dataset
    ready.mkdir(parents=True)
    benchmark.pairs.write_wide_split(chosen, task, places)
    (fold,) = json.loads((ready / "splits_final.json").read_text())
    assert len(fold["train"]) == 3 * chosen.wide_draws
    assert not {name.split("_wide")[0] for name in fold["train"]} & {name.split("_wide")[0] for name in fold["val"]}
    noise = [severity.noise for severity in benchmark.pairs.wide_severities(chosen)]
    for index, expected in enumerate(noise):
        low, high = (nibabel.load(raw / "imagesTr" / f"case_00_wide{index}_000{n}.nii.gz").get_fdata() for n in (0, 1))
        np.testing.assert_allclose(low - high, expected, atol=1e-5)
    assert json.loads((raw / "dataset.json").read_text())["uhf"]["route"] == "simulated"


def test_only_what_is_needed_is_made_before_the_seeds(benchmark: SimpleNamespace, task: Any, places: Any) -> None:
    def keys(*conditions: str) -> list[str]:
        made = [stage.key for stage in chain(benchmark, settings(benchmark), task, places, list(conditions))]
        return [key for key in made[made.index("splits") + 1 :] if not key.startswith("run_")]

    assert keys("plain", "plain_longer") == []
    assert keys("masked") == ["keeper_fold", "masked"]
    assert keys("privileged")[-1] == "privileged"
    assert keys("one_target")[-3:] == ["teacher_wide", "keeper_wide", "file_wide"]
    assert [key for key in keys("one_target") if key.startswith("simulate_wide_")]
    assert keys("from_baseline") == keys("guided")
    assert keys("direct") == ["keeper_direct", "file_direct"]


def test_a_keeper_without_a_teacher_is_trained_as_long_as_both(
    benchmark: SimpleNamespace, task: Any, places: Any
) -> None:
    chosen = settings(benchmark, pretraining_epochs=3, keeper_seed=4)
    stages = chain(benchmark, chosen, task, places, ["guided", "direct"])
    epochs = {stage.key: stage.epochs for stage in stages}
    assert epochs["teacher_high_field"] + epochs["keeper_high_field"] == epochs["keeper_direct"] == 6
    seeds = {
        stage.environment["UHF_EXPERIMENT_SEED"] for stage in stages if stage.key.startswith(("teacher", "keeper"))
    }
    assert seeds == {"4"}


def test_a_keeper_that_is_given_brings_no_pairs_for_others(benchmark: SimpleNamespace) -> None:
    needing = {name for name in benchmark.conditions.CONDITIONS if benchmark.run.needs_pairs(name)}
    pretrained = {"segmented", "labels_only", "linear_segmented", "linear_labels_only", "direct", "direct_same_field"}
    assert needing == {"true_guides", "privileged", *pretrained}


def test_a_start_is_the_model_of_the_same_seed_and_labels(benchmark: SimpleNamespace, task: Any, places: Any) -> None:
    def variables(name: str) -> dict[str, str]:
        return benchmark.runs.variables(settings(benchmark), task, places, name, 4, 1)

    start = Path(variables("from_baseline")["UHF_EXPERIMENT_START"])
    assert start.is_relative_to(places.results("plain", 1))
    assert start.name.startswith("nnUNetTrainer_experiment__")
    masked = variables("masked")
    assert Path(masked["UHF_EXPERIMENT_START"]) == places.masked
    assert masked["UHF_EXPERIMENT_MASKED_FOLD"] == str(2 * benchmark.settings.SEEDS * 2)
    assert variables("plain")["UHF_EXPERIMENT_START"] == ""
    pseudo = variables("pseudo_labels")
    assert Path(pseudo["nnUNet_preprocessed"]).is_relative_to(places.pseudo("high_plain", 4, 1))
    assert Path(pseudo["nnUNet_results"]) == places.results("pseudo_labels", 1)
    fold = settings(benchmark).fold
    conditions = benchmark.conditions.CONDITIONS
    assert fold(conditions["pseudo_labels"], 4, 1) == fold(conditions["low_all"], 4, 1)


def test_the_fold_of_pretraining_has_the_keepers_subjects_alone(
    benchmark: SimpleNamespace, task: Any, places: Any
) -> None:
    chosen, low = settings(benchmark), benchmark.conditions.LOW
    for dataset in (low, benchmark.conditions.HIGH, benchmark.conditions.BOTH):
        (places.out / "nnUNet_preprocessed" / dataset).mkdir(parents=True)
    benchmark.data.write_splits(chosen, task, places)
    for _ in range(2):
        benchmark.data.write_keeper_fold(chosen, task, places)
        folds = json.loads((places.out / "nnUNet_preprocessed" / low / "splits_final.json").read_text())
        assert len(folds) == chosen.keeper_fold + 1
        assert folds[-1]["train"] == benchmark.data.subjects(chosen, task, places)["keeper"]


def test_folders_of_runs_before_a_setting_was_known_go_on(benchmark: SimpleNamespace) -> None:
    stored = settings(benchmark).stored()
    assert not {"wide_draws", "keeper_seed"} & set(stored)
    assert settings(benchmark, keeper_seed=2).stored()["keeper_seed"] == 2
    assert stored["trained"] == {"ratio": 3, "noise": 4}
    assert settings(benchmark, wide_draws=9).stored()["wide_draws"] == 9
    severity = benchmark.settings.Severity(2, 3, 0.4)
    assert settings(benchmark, tests=(severity,)).stored()["tests"] == ({"ratio": 2, "noise": 3, "bias": 0.4},)


def test_drift_is_nothing_for_the_same_maps_and_the_root_of_two_for_unrelated_ones(benchmark: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(5, 3, (20000, 4)).astype(np.float32) for _ in range(2))
    drift = benchmark.drift.drift
    assert drift(first, first) == 0
    assert drift(first, second) == pytest.approx(np.sqrt(2), abs=0.03)
    assert drift(first, first + 3) == pytest.approx(1, abs=0.02)
    first[:, 0] = 1  # a dead map
    assert drift(first, second) == pytest.approx(np.sqrt(2), abs=0.03)
