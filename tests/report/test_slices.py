"""Pictures show what they say: subjects, slices, sides and colours, on made volumes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from helpers.report_samples import dataset_json
from helpers.tiny_data import REGIONS, write_image
from nnunet_uhf.imageio.planes import Slice
from nnunet_uhf.nnunet.labels import read_structures
from nnunet_uhf.report.pictures import BASELINE, MODEL, TRUTH, PicturePanel, draw_subject
from nnunet_uhf.report.slices import (
    BOTH_WRONG,
    DIMMED,
    ONLY_BASELINE_WRONG,
    ONLY_MODEL_WRONG,
    OVERLAY,
    PALETTE,
    choose_slices,
    classes_of,
    error_map,
    overlay,
    palette,
    subjects_to_show,
)

TASK = read_structures(dataset_json(), where=Path("dataset.json"))


def empty() -> np.ndarray:
    return np.zeros((20, 24, 16), np.int32)


def test_the_best_the_median_and_the_worst_subject_are_shown() -> None:
    gains = {"a": 0.1, "b": -0.3, "c": float("nan"), "d": 0.4, "e": 0.0}
    assert subjects_to_show(gains) == [("best", "d"), ("median", "a"), ("worst", "b")]
    assert subjects_to_show({"a": 0.1, "b": 0.2}) == [("best", "b"), ("worst", "a")]
    assert subjects_to_show({"a": 0.1}) == [("the only subject", "a")]
    assert subjects_to_show({"a": float("nan")}) == []


def test_the_slices_are_those_with_most_voxels_that_one_model_alone_has_right() -> None:
    truth, baseline, model = empty(), empty(), empty()
    truth[5:15, 5:15, 4:12] = 1
    baseline[:], model[:] = truth, truth
    baseline[5:9, 5:9, 6] = model[5:9, 5:9, 6] = 0  # both are wrong: no difference, however large
    model[6:9, 7, 9] = 0  # axial slice 9 of this, coronal slice 7
    baseline[12, 7, 10] = 2
    assert choose_slices(truth, baseline, model) == [Slice("axial", 9), Slice("coronal", 7)]


def test_equal_predictions_show_their_most_errors_and_perfect_ones_most_of_the_truth() -> None:
    truth, wrong = empty(), empty()
    truth[5:15, 5:15, 4:8] = 1
    truth[2:18, 5:15, 11] = 1
    wrong[:] = truth
    wrong[5:8, 9, 5] = 0
    assert choose_slices(truth, wrong, wrong) == [Slice("axial", 5), Slice("coronal", 9)]
    assert choose_slices(truth, truth, truth)[0] == Slice("axial", 11)
    assert [each.plane for each in choose_slices(empty(), empty(), empty())] == ["axial", "coronal"]


def test_a_stack_of_few_slices_is_shown_across_its_thin_axis() -> None:
    assert [each.plane for each in choose_slices(*np.zeros((3, 20, 24, 3), np.int32))] == ["axial"]
    assert [each.plane for each in choose_slices(*np.zeros((3, 3, 24, 20), np.int32))] == ["sagittal"]


def test_the_error_map_says_who_is_wrong() -> None:
    truth = np.array([[1, 1], [1, 1]])
    baseline, model = np.array([[1, 2], [1, 0]]), np.array([[1, 1], [3, 2]])
    picture = error_map(np.ones((2, 2)), truth, baseline, model)
    right = (round(255 * DIMMED),) * 3
    assert [[tuple(pixel) for pixel in row] for row in picture.tolist()] == [
        [right, ONLY_BASELINE_WRONG],
        [ONLY_MODEL_WRONG, BOTH_WRONG],
    ]


def test_no_structure_has_a_colour_near_one_of_the_errors() -> None:
    colours = np.array([ONLY_BASELINE_WRONG, ONLY_MODEL_WRONG, BOTH_WRONG], float)
    structures = np.array(PALETTE, float)
    apart = np.linalg.norm(colours[:, None] - structures[None], axis=-1)
    assert apart[:2].min() > 95  # of blue and orange it was 31
    assert np.linalg.norm(colours[0] - colours[1]) > 200


def test_structures_keep_their_colour_whatever_a_case_holds() -> None:
    labels = empty()
    labels[3, 3, 3] = 3
    classes = classes_of({TRUTH: labels}, TASK, truth=TRUTH)
    code = int(classes.maps[TRUTH][3, 3, 3])
    assert (classes.names[code], classes.colours[code]) == ("WM", PALETTE[2])
    picture = overlay(np.zeros((20, 24)), classes.maps[TRUTH][:, :, 3], classes.colours)
    assert picture[3, 3].tolist() == [round(OVERLAY * value) for value in PALETTE[2]]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_of_regions_the_smallest_gives_the_colour() -> None:
    task = read_structures(dataset_json(REGIONS), where=Path("dataset.json"))
    labels = empty()
    labels[0, 0, :4] = range(4)
    classes = classes_of({TRUTH: labels}, task, truth=TRUTH)
    codes = classes.maps[TRUTH][0, 0, :4]
    assert codes[0] == 0
    assert [classes.names[int(code)] for code in codes[1:]] == ["brain", "matter", "WM"]


def test_what_the_truth_does_not_annotate_is_no_error() -> None:
    task = read_structures(dataset_json({"background": 0, "a": 1, "ignore": 2}), where=Path("dataset.json"))
    truth, model = empty(), empty()
    truth[:4] = 2
    model[:6] = 1
    maps = classes_of({TRUTH: truth, MODEL: model}, task, truth=TRUTH).maps
    assert (maps[TRUTH] != maps[MODEL]).sum() == 2 * 24 * 16


def test_many_structures_have_different_colours() -> None:
    assert len(set(palette(134))) == 134


def panel(row_panels: tuple[PicturePanel, ...], title: str) -> np.ndarray:
    (found,) = [each for each in row_panels if each.title == title]
    data = base64.b64decode(found.uri.removeprefix("data:image/png;base64,"))
    return np.rint(255 * imread(io.BytesIO(data), format="png")[..., :3]).astype(int)


@pytest.mark.parametrize("flip", [1, -1])
def test_the_patients_right_is_on_the_left_side_however_the_file_is_stored(tmp_path: Path, flip: int) -> None:
    """The model alone misses a block in the patient's right half, in front: top left of the axial picture."""
    truth, shape = empty(), (20, 24, 16)
    truth[2:18, 2:22, 2:14] = 1
    model = truth.copy()
    model[13:16, 16:20, 6:10] = 0
    affine = np.diag([2.0, 1.0, 1.0, 1.0])  # x grows to the right, y to the front
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    if flip < 0:
        affine[0] = [-2.0, 0, 0, 2.0 * (shape[0] - 1)]
    files = {}
    for name, values in ((TRUTH, truth), (BASELINE, truth), (MODEL, model), ("image", image)):
        files[name] = tmp_path / f"{name}.nii.gz"
        stored = values[::flip].astype(np.float32 if name == "image" else np.uint8)
        write_image(files[name], stored, affine)
    found = draw_subject("a", "best", files, files.pop("image"), TASK, names=("plain", "guided"))
    assert found.note is None
    axial = found.rows[0]
    assert (axial.plane, axial.marks) == ("axial", ("R", "L", "A", "P"))
    assert [each.title for each in axial.panels] == ["image", "truth", "plain", "guided", "errors"]
    errors = panel(axial.panels, "errors")
    wrong = (errors == ONLY_MODEL_WRONG).all(axis=-1)
    rows, columns = np.nonzero(wrong)
    height, width = wrong.shape
    assert rows.max() < height / 2
    assert columns.max() < width / 2
    # voxels of 2 x 1 mm are shown with square pixels: 3 of 2 mm across, 4 of 1 mm down
    size = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
    assert size == pytest.approx(6 / 4, rel=0.05)
    grey = panel(axial.panels, "image")
    assert np.array_equal(grey[..., 0], grey[..., 1])
    painted = panel(axial.panels, "truth")
    assert not np.array_equal(painted[..., 0], painted[..., 2])
    assert found.legend[0] == ("#56b4e9", "CSF")


def test_without_an_image_the_label_maps_are_shown_and_the_reason_is_told(tmp_path: Path) -> None:
    truth = empty()
    truth[2:18, 2:22, 2:14] = 1
    for name, shape in (("truth", truth.shape), ("other", (5, 5, 5))):
        write_image(tmp_path / f"{name}.nii.gz", np.resize(truth, shape).astype(np.uint8), np.eye(4))
    files = dict.fromkeys((TRUTH, BASELINE, MODEL), tmp_path / "truth.nii.gz")
    for image, reason in ((None, "not found"), (tmp_path / "other.nii.gz", "has shape")):
        found = draw_subject("a", "best", files, image, TASK, names=("plain", "guided"))
        assert reason in str(found.note)
        assert [each.title for each in found.rows[0].panels] == ["truth", "plain", "guided", "errors"]
