from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from helpers.low_field import PRESET, simulated
from helpers.support import shared_data
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field import LowFieldSimulator, find_preset, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.folder import simulate_folder
from nnunet_uhf.preprocessing.low_field.tissue_source import TissueSource
from nnunet_uhf.seeds import case_generator


def simulate(subjects: Path, output: str = "out", **options: Any) -> Path:
    """Simulate the made subjects into a folder beside them; returns that folder."""
    labels = options.pop("labels", subjects / "labels")
    return simulated(subjects / "images", subjects / output, labels, **options).parent


def voxels(path: Path) -> np.ndarray:
    return nib.load(path).get_fdata()


def test_regrid_writes_every_case_on_the_grid_of_its_image(subjects: Path) -> None:
    out = simulate(subjects)
    for path in (subjects / "images").iterdir():
        image, low_field = nib.load(path), nib.load(out / path.name)
        assert low_field.shape == image.shape
        np.testing.assert_allclose(low_field.affine, image.affine)
        assert low_field.get_data_dtype() == np.float32
        assert not np.array_equal(low_field.get_fdata(), image.get_fdata())


def test_native_writes_thick_axial_slices_and_the_world_place_of_an_impulse_is_kept(subjects: Path, save: Any) -> None:
    # the second array axis runs superior; a bright voxel at k * r must be the brightest of slice k, same world place
    path = subjects / "images" / "anna.nii.gz"
    image = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    impulse = (16, 15, 17)
    data[impulse] = 30000
    save(path, data)
    out = simulate(subjects, grid="native")
    low_field = nib.load(out / "anna.nii.gz")
    assert low_field.shape == (32, 34 // 3, 33)
    found = np.unravel_index(low_field.get_fdata().argmax(), low_field.shape)
    assert found == (16, 15 // 3, 17)
    np.testing.assert_allclose(
        nib.affines.apply_affine(low_field.affine, found),
        nib.affines.apply_affine(image.affine, impulse),
        atol=1e-4,
    )


def test_targets_are_the_brain_of_the_image_and_cover_what_the_slices_cover(subjects: Path) -> None:
    for mode, size in (("regrid", 34), ("native", 33)):
        simulate(subjects, mode, grid=mode, targets=subjects / f"{mode}_targets")
        for path in (subjects / "images").iterdir():
            target = nib.load(subjects / f"{mode}_targets" / path.name)
            labels = voxels(subjects / "labels" / path.name)
            expected = (voxels(path) * (labels > 0))[:, :size]
            np.testing.assert_allclose(target.get_fdata(), expected)
            np.testing.assert_allclose(target.affine, nib.load(path).affine)


def test_a_case_depends_on_the_seed_and_its_name_and_on_no_other_case(subjects: Path) -> None:
    first = simulate(subjects, "first", seed=4)
    other_seed = simulate(subjects, "other", seed=5)
    for folder in ("images", "labels"):
        (subjects / folder / "anna.nii.gz").unlink()
    alone = simulate(subjects, "alone", seed=4)
    np.testing.assert_array_equal(voxels(alone / "carl.nii.gz"), voxels(first / "carl.nii.gz"))
    assert not np.array_equal(voxels(other_seed / "carl.nii.gz"), voxels(first / "carl.nii.gz"))
    assert case_generator(4, "carl").random() != case_generator(4, "béla 2").random()


def test_the_record_holds_every_parameter_and_draw(subjects: Path) -> None:
    out = simulate(subjects, noise="rician", noise_scale=2.5, axis="sagittal", reject_outliers=True, seed=9)
    record = json.loads((out / "simulation.json").read_text())
    assert record["preset"]["name"] == PRESET
    assert "Lin et al." in record["preset"]["source"]
    assert record["seed"] == 9
    expected = {"thickness": 2, "gap": 1, "ratio": 3, "axis": "sagittal", "noise": "rician", "noise_scale": 2.5}
    assert expected.items() <= record["parameters"].items()
    assert sorted(record["cases"]) == ["anna", "béla 2", "carl"]
    draws = [case["draw"] for case in record["cases"].values()]
    assert {draw["axis"] for draw in draws} == {2}  # right runs along the last array axis here
    assert len({(draw["snr_wm"], draw["snr_gm"], draw["noise_seed"]) for draw in draws}) == 3
    for case in record["cases"].values():
        expected_sigma = 2.5 * case["tissue_means"]["gm"] / case["draw"]["snr_gm"]
        assert case["noise_sigma"] == pytest.approx(expected_sigma)


def test_probability_maps_give_what_one_hot_label_maps_give(subjects: Path, save: Any) -> None:
    by_labels = simulate(subjects, "by_labels")
    for path in sorted((subjects / "labels").iterdir()):
        name = path.name.removesuffix(".nii.gz")
        labels = voxels(path)
        for value, tissue in enumerate(("csf", "gm", "wm"), start=1):
            save(subjects / "maps" / f"{name}_{tissue}.nii", (labels == value).astype(np.float32))
    by_maps = simulate(subjects, "by_maps", labels=subjects / "maps")
    np.testing.assert_array_equal(voxels(by_maps / "anna.nii.gz"), voxels(by_labels / "anna.nii.gz"))
    (subjects / "maps" / "carl_gm.nii").unlink()
    with pytest.raises(UHFError, match="no carl_gm"):
        simulate(subjects, "incomplete", labels=subjects / "maps")


def test_images_with_a_channel_suffix_find_their_labels(subjects: Path) -> None:
    for path in list((subjects / "images").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    assert (simulate(subjects) / "anna_0000.nii.gz").is_file()


def test_other_label_numbers_are_named_by_the_user(subjects: Path, save: Any) -> None:
    first = simulate(subjects, "first")
    for path in sorted((subjects / "labels").iterdir()):
        save(path, np.array([0, 24, 3, 41], np.uint8)[voxels(path).astype(int)])
    again = simulate(subjects, "again", tissues={"numbers": {"csf": (4, 24), "gm": (3, 42), "wm": (2, 41)}})
    np.testing.assert_array_equal(voxels(again / "anna.nii.gz"), voxels(first / "anna.nii.gz"))


def test_the_command_simulates_with_label_numbers_of_the_user(subjects: Path, capsys: pytest.CaptureFixture) -> None:
    folders = ["-i", str(subjects / "images"), "--labels", str(subjects / "labels"), "-o", str(subjects / "out")]
    options = ["--preset", PRESET, "--ratio", "3", "--fixed", "wm", "--tissue-smoothing", "0.5", "--reject-outliers"]
    with pytest.raises(SystemExit, match="0"):
        main(["simulate", *folders, *options, "--tissues", "csf=1,gm=2+4,wm=3"])
    record = json.loads((subjects / "out" / "simulation.json").read_text())
    expected = {"fixed": "wm", "tissue_labels": {"csf": [1], "gm": [2, 4], "wm": [3]}, "tissue_smoothing": 0.5}
    assert expected.items() <= record["parameters"].items()
    with pytest.raises(SystemExit, match="2"):
        main(["simulate", *folders, *options])
    assert capsys.readouterr().err.endswith("name another output folder or remove it\n")


def test_a_progress_bar_counts_the_cases(subjects: Path) -> None:
    text = StringIO()
    simulate(subjects, console=Console(file=text, force_terminal=True))
    assert "simulating low field" in text.getvalue()
    assert "100%" in text.getvalue()


def remove_label(subjects: Path, save: Any) -> None:
    (subjects / "labels" / "carl.nii.gz").unlink()


def shift_label(subjects: Path, save: Any) -> None:
    path = subjects / "labels" / "carl.nii.gz"
    save(path, voxels(path).astype(np.uint8), affine=np.diag([2.0, 2, 2, 1]))


def thin_the_white_matter(subjects: Path, save: Any) -> None:
    path = subjects / "labels" / "carl.nii.gz"
    labels = voxels(path).astype(np.uint8)
    labels[labels == 3] = 2
    labels[16, 16, 16] = 3
    save(path, labels)


def drop_the_white_matter(subjects: Path, save: Any) -> None:
    path = subjects / "labels" / "carl.nii.gz"
    save(path, np.minimum(voxels(path), 2).astype(np.uint8))


def put_in_nan(subjects: Path, save: Any) -> None:
    path = subjects / "images" / "carl.nii.gz"
    save(path, np.where(voxels(path) > 0, np.nan, 0).astype(np.float32))


def number_as_freesurfer(subjects: Path, save: Any) -> None:
    path = subjects / "labels" / "carl.nii.gz"
    labels = voxels(path).astype(np.uint8)
    labels[:, :, :16][labels[:, :, :16] == 3] = 41
    save(path, labels)


def store_the_label_twice(subjects: Path, save: Any) -> None:
    save(subjects / "labels" / "carl.nii", np.zeros((32, 34, 33), np.uint8))


def z_score(subjects: Path, save: Any) -> None:
    path = subjects / "images" / "carl.nii.gz"
    image = voxels(path)
    save(path, ((image - image.mean()) / image.std() + 0.2).astype(np.float32))


def flatten(subjects: Path, save: Any) -> None:
    save(subjects / "images" / "carl.nii.gz", np.full((32, 34, 33), 7, np.int16))


def occupy_the_output(subjects: Path, save: Any) -> None:
    (subjects / "out").mkdir()
    (subjects / "out" / "mine.txt").write_text("keep me")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_label, "holds no tissue labels carl"),
        (shift_label, "carl.*mm off"),
        (thin_the_white_matter, "carl.*no voxel has white matter probability"),
        (drop_the_white_matter, r"carl.*no voxel has label 3 \(wm\)"),
        (put_in_nan, "carl.*NaN"),
        (number_as_freesurfer, "carl.*41 or 42.*--tissues freesurfer"),
        (store_the_label_twice, r"carl\.nii\.gz and carl\.nii: remove one"),
        (z_score, "carl.*below 0 in .* % of its voxels: the simulator needs raw intensities"),
        (flatten, "carl.*same intensity everywhere"),
        (occupy_the_output, "not empty"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file_and_leaves_nothing_half_written(
    subjects: Path, save: Any, damage: Any, reason: str
) -> None:
    damage(subjects, save)
    before = sorted(subjects.rglob("*"))
    with pytest.raises(UHFError, match=reason) as error:
        simulate(subjects, targets=subjects / "targets")
    assert "\n" not in str(error.value)
    assert sorted(subjects.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"axis": "oblique"}, "slice axis is 'oblique'"),
        ({"axis": "3"}, "slice axis is '3'"),
        ({"ratio": 5}, "no slice profile for ratio 5"),
        ({"ratio": None}, "not described"),
        ({"thickness": 2.0}, "belong together"),
        ({"thickness": 30.0, "gap": 10.0}, "need two"),
        ({"preset": "t1w_64mT"}, "no preset"),
        ({"seed": -1}, "seed"),
        ({"noise_scale": -1.0}, "noise scale"),
        ({"tissues": {"smoothing": float("nan")}}, "tissue smoothing is nan"),
        ({"grid": "both"}, "mode is 'both'"),
        ({"labels": Path("absent")}, "not a folder"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_written(
    subjects: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UHFError, match=reason):
        simulate(subjects, **options)
    assert not (subjects / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"snr": find_preset("flair_0.36T").snr},
        {"profiles": (profile_for_ratio(2), profile_for_ratio(3))},
        {"noise_scale": (1.0, 2.0)},
    ],
)
def test_a_simulator_that_the_record_could_not_describe_is_no_simulator_of_a_folder(
    subjects: Path, changes: dict[str, Any]
) -> None:
    preset = find_preset(PRESET)
    simulator = LowFieldSimulator(**{"snr": preset.snr, "profiles": (profile_for_ratio(3),), **changes})
    tissues = TissueSource(folder=subjects / "labels")
    with pytest.raises(ValueError, match="SNR of its preset, one slice profile and one noise scale"):
        simulate_folder(subjects / "images", subjects / "out", simulator, tissues, preset=preset)
    assert not (subjects / "out").exists()


def test_real_scans_become_thicker_and_noisier_and_keep_the_drawn_snr(tmp_path: Path) -> None:
    data = shared_data() / "ixi_hh_2mm"
    names = sorted(path.name for path in (data / "images").iterdir())[:2]
    (tmp_path / "images").mkdir()
    for name in names:
        shutil.copyfile(data / "images" / name, tmp_path / "images" / name)
    simulated(tmp_path / "images", tmp_path / "out", data / "labels_tissue", grid="native")
    record = json.loads((tmp_path / "out" / "simulation.json").read_text())
    for name in names:
        case = record["cases"][name.removesuffix(".nii.gz")]
        low_field = nib.load(tmp_path / "out" / name)
        np.testing.assert_allclose(nib.affines.voxel_sizes(low_field.affine), [2, 6, 2], rtol=1e-5)
        air = low_field.get_fdata()[:8, :, :8]
        assert air.std() == pytest.approx(case["noise_sigma"], rel=0.05)  # 2560 voxels: standard error 1.4 %
        slices, labels = low_field.get_fdata(), voxels(data / "labels_tissue" / name)
        ratio = case["draw"]["snr_wm"] / case["draw"]["snr_gm"]
        # voxels whose neighbours along the slice axis share the label are nearly pure
        means = [slices[pure_slices(labels, value)].mean() for value in (2, 3)]
        assert means[1] / means[0] == pytest.approx(ratio, rel=0.03)


def pure_slices(labels: np.ndarray, value: int) -> np.ndarray:
    """Slices at k * 3 along axis 1 whose two neighbours on each side carry the label too."""
    same = labels == value
    pure = np.logical_and.reduce([np.roll(same, shift, axis=1) for shift in (-2, -1, 0, 1, 2)])
    return pure[:, ::3]
