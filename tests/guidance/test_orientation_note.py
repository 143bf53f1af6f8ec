"""A guided dataset stored in another orientation than the keeper's scans is told so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batchgenerators.utilities.file_and_folder_operations import write_pickle

from helpers.keeper_samples import write
from helpers.made_plans import DATASET, make_plans
from nnunet_uhf.guidance.attach import orientation_note
from nnunet_uhf.guidance.plans import orientation_notes, write_plans
from nnunet_uhf.guidance.provenance import Provenance

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
LAS = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("learnt", "stored", "words"),
    [
        ("LAS", {"LAS": 5}, None),
        ("LAS", {}, None),
        (None, {"PIR": 5}, None),
        ("mixed", {"PIR": 5}, None),
        ("LAS", {"PIR": 5}, "learnt from images stored in LAS, this dataset's are stored in PIR (5 of 5 cases)"),
        ("LAS", {"LAS": 4, "RAS": 1}, "stored in LAS (4 of 5 cases), RAS (1 of 5 cases)"),
        ("mixed", {"LAS": 4, "RAS": 1}, "Store all in one"),
    ],
)
def test_only_what_differs_is_told(learnt: str | None, stored: dict[str, int], words: str | None) -> None:
    note = orientation_note(Provenance({"orientation": learnt}), stored)
    if words is None:
        assert note is None
    else:
        assert note is not None
        assert words in note
        assert "\n" not in note


def test_plans_are_written_with_a_note_for_each_guided_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    for variable in ("nnUNet_raw", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / DATASET
    plans = make_plans()
    for key, directions in (("2d", (LAS, LAS)), ("3d_fullres", (LAS, LPS))):
        data = folder / plans["configurations"][key]["data_identifier"]
        data.mkdir(parents=True)
        for number, direction in enumerate(directions):
            write_pickle({"sitk_stuff": {"direction": direction}}, str(data / f"case_{number}.pkl"))
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1w"}, "labels": {"background": 0}}))
    keepers = [write(tmp_path / f"{dim}.safetensors", dim, seed=dim, orientation="LAS") for dim in (2, 3)]
    path = write_plans(DATASET, ["2d", "3d_fullres"], keepers)
    (note,) = orientation_notes(path)
    assert note.startswith("3d_fullres, 3d_cascade_fullres: WARNING: the keeper learnt from images stored in LAS")
    assert "LAS (1 of 2 cases), LPS (1 of 2 cases)" in note
