"""What is compared: model folders as nnU-Net leaves them, and folders of predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers.report_samples import (
    CASES,
    DATASET,
    dataset_json,
    keeper_block,
    truth,
    write_labels,
    write_model,
    write_raw,
)
from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.report.entries import Entry, baseline_first, name_entries, read_model, read_predictions
from nnunet_uhf.report.provenance import keeper_facts, overlap_warning
from nnunet_uhf.report.trainings import cost_of, read_trainings
from nnunet_uhf.report.truth import ImageFinder, find_references, find_task

LABELS = {case: truth(case) for case in CASES[:4]}


def test_a_model_folder_gives_the_validation_of_its_folds(tmp_path: Path) -> None:
    entry = read_model(write_model(tmp_path, "nnUNetTrainer", LABELS))
    assert sorted(entry.files) == list(CASES[:4])
    assert entry.folds == {CASES[0]: "0", CASES[1]: "1", CASES[2]: "0", CASES[3]: "1"}
    assert (entry.trainer, entry.configuration, entry.warnings, entry.blocks) == ("nnUNetTrainer", "2d", (), {})


def test_fold_all_is_never_taken_for_held_out(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "nnUNetTrainer", LABELS)
    shutil.copytree(folder / "fold_0", folder / "fold_all")
    entry = read_model(folder)
    assert sorted(entry.fold_folders) == ["0", "1"]
    assert "fold_all is left out" in entry.warnings[0]
    for fold in ("fold_0", "fold_1"):
        shutil.rmtree(folder / fold)
    alone = read_model(folder)
    assert sorted(alone.fold_folders) == ["all"]
    assert "IT WAS TRAINED ON" in alone.warnings[0]


def test_an_unfinished_fold_is_left_out_with_a_warning(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "nnUNetTrainer", LABELS)
    (folder / "fold_1" / "validation" / "summary.json").unlink()
    entry = read_model(folder)
    assert sorted(entry.files) == [CASES[0], CASES[2]]
    assert "fold 1 is left out" in entry.warnings[0]
    (folder / "fold_0" / "validation" / "summary.json").unlink()
    with pytest.raises(UHFError, match="no fold with a finished validation"):
        read_model(folder)


def test_a_case_in_two_folds_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "nnUNetTrainer", LABELS)
    shutil.copy(folder / f"fold_0/validation/{CASES[0]}.nii.gz", folder / "fold_1/validation")
    with pytest.raises(UHFError, match=f"case {CASES[0]}, and so does fold 0"):
        read_model(folder)


def test_names_are_what_tells_the_folders_apart(tmp_path: Path) -> None:
    entries = [read_model(write_model(tmp_path, name, LABELS)) for name in ("nnUNetTrainer", "UHFTrainer")]
    assert [entry.name for entry in name_entries(entries, None)] == ["nnUNetTrainer", "UHFTrainer"]
    named = name_entries(entries, ["plain", "guided"])
    assert [entry.name for entry in baseline_first(named, "guided")] == ["guided", "plain"]
    assert baseline_first(named, str(entries[1].folder))[0].name == "guided"
    for names in (["one"], ["same", "same"], ["a", " "]):
        with pytest.raises(UHFError, match="name"):
            name_entries(entries, names)
    with pytest.raises(UHFError, match="choose one of plain, guided"):
        baseline_first(named, "neither")


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    write_labels(tmp_path / "made", LABELS)
    with pytest.raises(UHFError, match="made is no model folder"):
        read_model(tmp_path / "made")


@pytest.mark.parametrize("role", ["teacher", "keeper"])
def test_a_model_that_makes_images_is_refused_with_what_measures_them(tmp_path: Path, role: str) -> None:
    folder = write_model(tmp_path, "PTATrainer", LABELS)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d"]["uhf"] = {"role": role}
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(UHFError, match=r"evaluate-images.*--unpaired"):
        read_model(folder)


def test_parameters_that_share_memory_are_counted_once_and_buffers_not_at_all(tmp_path: Path) -> None:
    entry = read_model(write_model(tmp_path, "UHFTrainer", LABELS))
    cost = cost_of(entry, read_trainings(entry))
    assert (cost.parameters, cost.keeper_parameters) == (13, 3)


def test_epoch_time_leaves_out_the_first_epoch_of_each_training(tmp_path: Path) -> None:
    entry = read_model(write_model(tmp_path, "UHFTrainer", LABELS))
    trainings = read_trainings(entry)
    cost = cost_of(entry, trainings)
    assert (cost.epochs, cost.epoch_seconds, cost.device) == (3, 2.0, "cpu")
    assert cost.training_hours == pytest.approx(2 * 14 / 3600)
    assert trainings[0].curves["train_losses"] == pytest.approx([1, 1 / 2, 1 / 3])
    one = read_model(write_model(tmp_path / "one", "UHFTrainer", LABELS, epochs=1))
    assert cost_of(one, read_trainings(one)).epoch_seconds == 10.0


def test_a_damaged_checkpoint_costs_the_curves_and_is_told(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "UHFTrainer", LABELS, folds=1)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"nothing")
    entry = read_model(folder)
    (training,) = read_trainings(entry)
    assert "checkpoint_final.pth" in str(training.problem)
    assert (cost_of(entry, [training]).parameters, cost_of(entry, [training]).training_hours) == (None, None)


def test_predictions_have_no_training_and_say_so(tmp_path: Path) -> None:
    entry = read_predictions(write_labels(tmp_path / "made", LABELS))
    assert (entry.is_model, read_trainings(entry), cost_of(entry, []).parameters) == (False, [], None)


def test_subjects_of_the_keepers_training_raise_the_alarm(tmp_path: Path) -> None:
    block = keeper_block([CASES[1].upper(), "someone"])
    entry = read_model(write_model(tmp_path, "UHFTrainer", LABELS, block=block))
    (facts,) = keeper_facts(entry, CASES[:4])
    assert facts.overlap == (CASES[1],)
    assert "WAS TRAINED ON 1 OF THE 4" in str(overlap_warning(facts, 4))
    rows = dict(facts.rows)
    assert rows["trained on"] == "Dataset505_TinyPairs, 2d, fold 0"
    assert rows["field"] == "0.36 T → 3 T, route: paired"
    (clean,) = keeper_facts(entry, CASES[2:4])
    assert overlap_warning(clean, 2) is None


def test_a_control_is_called_one(tmp_path: Path) -> None:
    block = keeper_block([], control="random")
    entry = read_model(write_model(tmp_path, "UHFTrainerRandomKeeper", LABELS, block=block))
    (facts,) = keeper_facts(entry, CASES)
    assert facts.rows[0][0] == "CONTROL"


def test_the_truth_is_what_nnunet_validates_against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = read_model(write_model(tmp_path, "UHFTrainer", LABELS))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    with pytest.raises(UHFError, match="add -ref FOLDER"):
        find_references([entry], None)
    raw = write_raw(tmp_path)
    assert find_references([entry], None)[0] == raw / "labelsTr"
    preprocessed = write_labels(tmp_path / "preprocessed" / DATASET / "gt_segmentations", LABELS)
    assert find_references([entry], None)[0] == preprocessed
    with pytest.raises(UHFError, match="add -ref FOLDER"):
        find_references([read_predictions(preprocessed)], None)


def test_images_are_found_where_nnunet_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path, cases=CASES[:1])
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    wanted = raw / "imagesTr" / f"{CASES[0]}_0000.nii.gz"
    model = read_model(write_model(tmp_path, "UHFTrainer", LABELS))
    made = write_labels(tmp_path / "made", LABELS)
    assert ImageFinder([model], tmp_path, None)(CASES[0]) == wanted
    capitals = tmp_path / "capitals" / f"{CASES[0]}.NII.GZ"
    capitals.parent.mkdir()
    capitals.touch()
    assert ImageFinder([model], tmp_path, capitals.parent)(CASES[0]) == capitals
    assert ImageFinder([read_predictions(made)], tmp_path, None)(CASES[0]) is None
    assert ImageFinder([read_predictions(made)], raw / "labelsTr", None)(CASES[0]) == wanted
    (made / "predict_from_raw_data_args.json").write_text(
        json.dumps({"list_of_lists_or_source_folder": str(raw / "imagesTr")})
    )
    assert ImageFinder([read_predictions(made)], tmp_path, None)(CASES[0]) == wanted
    assert ImageFinder([read_predictions(made)], tmp_path, tmp_path / "raw")(CASES[0]) is None
    with pytest.raises(UHFError, match="-i"):
        ImageFinder([], tmp_path, tmp_path / "nowhere")


def test_predictions_in_a_validation_folder_have_their_description_beside_the_folds(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "UHFTrainer", LABELS, block=keeper_block([]))
    entry = read_predictions(folder / "fold_0" / "validation")
    assert entry.dataset_json == dataset_json()
    assert list(entry.blocks) == ["2d"]


def test_predictions_of_one_of_several_guided_configurations_are_held_against_all_of_their_keepers(
    tmp_path: Path,
) -> None:
    folder = write_labels(tmp_path / "made", LABELS)
    blocks = {"2d": keeper_block([]), "3d_fullres": keeper_block([CASES[1]])}
    configurations = {name: {"spacing": [1.0], "architecture": {}, "uhf": block} for name, block in blocks.items()}
    (folder / "plans.json").write_text(json.dumps({"plans_name": "made", "configurations": configurations}))
    facts = keeper_facts(read_predictions(folder), CASES)
    assert [each.overlap for each in facts] == [(), (CASES[1],)]
    assert [each.rows[0][1].split(",")[0] for each in facts] == ["2d", "3d_fullres"]
    (folder / "plans.json").write_text(json.dumps({"plans_name": "made", "configurations": {"2d": {}, "3d": 1}}))
    with pytest.raises(UHFError, match=r"plans\.json: its configurations are not as nnU-Net writes them"):
        keeper_facts(read_predictions(folder), CASES)


def test_a_label_named_as_the_mean_of_all_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "Mean": 1}}')
    with pytest.raises(UHFError, match=r"dataset\.json calls a label 'mean', which the report uses"):
        find_task([], tmp_path / "labelsTr", {}, odd=Odd())


def test_settings_of_any_plans_are_those_they_state_with_inheritance_by_hand(tmp_path: Path) -> None:
    plans = {
        "configurations": {
            "3d": {"patch_size": [8], "batch_size": 2},
            "cascade": {"inherits_from": "3d", "batch_size": 1},
        }
    }
    entry = Entry("made", tmp_path, {}, plans=plans, trainer="UHFTrainer", configuration="cascade")
    assert (entry.settings["patch_size"], entry.settings["batch_size"]) == ([8], 1)
    assert entry.blocks == {}
    plans["configurations"]["3d"]["inherits_from"] = "cascade"
    with pytest.raises(UHFError, match="not as nnU-Net writes them"):
        _ = entry.settings
