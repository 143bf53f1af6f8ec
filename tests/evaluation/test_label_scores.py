"""Scores of a case: nnU-Net's Dice, and what is agreed for empty structures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from helpers.report_samples import CASES, SPACING, dataset_json, spoiled, truth, write_labels
from helpers.tiny_data import LABELS, REGIONS
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.label_scores import MEAN, case_scores
from nnunet_uhf.evaluation.surface import surface_distances
from nnunet_uhf.nnunet.labels import Labels, Structure, read_structures, structures_of_values

TASK = read_structures(dataset_json(), where=Path("dataset.json"))
EITHER = Labels((Structure("one", (1,)), Structure("two", (2,))))


def scores(true: np.ndarray, predicted: np.ndarray, task: Labels = EITHER) -> dict[str, dict[str, float]]:
    return case_scores(true, predicted, task, spacing_mm=(1.0, 2.0, 2.0), tolerance_mm=1.0)


@pytest.mark.parametrize("labels", [LABELS, REGIONS, {**LABELS, "ignore": 4}])
def test_dice_is_nnunets_for_labels_regions_and_an_ignore_label(labels: dict[str, object], tmp_path: Path) -> None:
    true, predicted = truth(CASES[0]), spoiled(CASES[0], 0.3)
    if "ignore" in labels:
        true[:6] = 4
    task = read_structures(dataset_json(labels), where=tmp_path)
    files = [
        write_labels(tmp_path / name, {"a": values}) / "a.nii.gz" for name, values in (("t", true), ("p", predicted))
    ]
    wanted = [each.values if len(each.values) > 1 else each.values[0] for each in task.structures]
    theirs = compute_metrics(*map(str, files), SimpleITKIO(), wanted, task.ignore)["metrics"]
    ours = case_scores(true, predicted, task, spacing_mm=SPACING, tolerance_mm=1.0)
    for structure, key in zip(task.structures, wanted, strict=True):
        assert ours[structure.name]["dice"] == theirs[key]["Dice"]
        assert ours[structure.name]["predicted_volume_mm3"] == pytest.approx(theirs[key]["n_pred"] * math.prod(SPACING))
    assert ours[MEAN]["dice"] == pytest.approx(np.mean([ours[each.name]["dice"] for each in task.structures]))


def test_cropping_to_a_structure_changes_no_distance() -> None:
    true, predicted = truth(CASES[1]), spoiled(CASES[1], 0.2)
    ours = case_scores(true, predicted, TASK, spacing_mm=SPACING, tolerance_mm=1.0)
    for structure in TASK.structures:
        whole = surface_distances(structure.mask(true), structure.mask(predicted), SPACING)
        assert (ours[structure.name]["hd95_mm"], ours[structure.name]["nsd"]) == (whole.hd95, whole.nsd(1.0))


def test_a_line_of_voxels_keeps_its_surface_when_it_is_cropped() -> None:
    true = np.zeros((9, 9, 9), int)
    true[4, 4, 1:8] = 1
    found = scores(true, np.roll(true, 1, axis=2))["one"]
    whole = surface_distances(true == 1, np.roll(true, 1, axis=2) == 1, (1.0, 2.0, 2.0))
    assert (found["hd95_mm"], found["nsd"]) == (whole.hd95, whole.nsd(1.0))


def test_a_structure_that_neither_has_is_undefined_and_left_out_of_the_mean() -> None:
    true = np.zeros((4, 4, 4), int)
    true[1:3, 1:3, 1:3] = 1
    found = scores(true, true)
    assert all(math.isnan(found["two"][key]) for key in ("dice", "hd95_mm", "nsd", "volume_error_percent"))
    assert found["two"]["volume_error_mm3"] == 0
    assert (found[MEAN]["dice"], found[MEAN]["hd95_mm"], found[MEAN]["nsd"]) == (1.0, 0.0, 1.0)


def test_a_structure_that_only_one_has_gets_the_worst_scores() -> None:
    empty, full = np.zeros((4, 4, 4), int), np.zeros((4, 4, 4), int)
    full[0, 0, :3] = 2
    diagonal = math.sqrt(4**2 + 8**2 + 8**2)
    missing, invented = scores(full, empty)["two"], scores(empty, full)["two"]
    for found in (missing, invented):
        assert (found["dice"], found["nsd"], found["hd95_mm"], found["volume_error_mm3"]) == (0, 0, diagonal, 12)
    assert missing["volume_error_percent"] == 100
    assert math.isnan(invented["volume_error_percent"])


def test_without_a_description_every_value_is_a_structure() -> None:
    assert [each.values for each in structures_of_values([0, 3, 1, 3]).structures] == [(1,), (3,)]
    with pytest.raises(UHFError, match="-ref"):
        structures_of_values([0])


@pytest.mark.parametrize("labels", [{"CSF": 1}, {"background": 0}, {"background": 0, "a": "b"}])
def test_labels_that_cannot_be_compared_are_named_with_their_file(labels: dict[str, object]) -> None:
    with pytest.raises(UHFError, match=r"^here/dataset\.json"):
        read_structures({"labels": labels}, where=Path("here/dataset.json"))
