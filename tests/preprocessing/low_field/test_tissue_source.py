"""Tissue maps of `nnunet-uhf simulate` from FreeSurfer's labels and from the image itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from helpers.low_field import PRESET, simulated
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError

# background, CSF, GM, WM in FreeSurfer's numbers
FREESURFER = np.array([0, 24, 42, 41], np.int16)


def simulate(subjects: Path, output: str, **options: Any) -> dict[str, Any]:
    """Simulate the made subjects, with options of the source of tissues; returns the record."""
    labels, seed = options.pop("labels", subjects / "labels"), options.pop("seed", 0)
    record = simulated(subjects / "images", subjects / output, labels, tissues=options, seed=seed)
    return json.loads(record.read_text())


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_freesurfer_labels_simulate_the_same_scans_as_the_tissues_they_stand_for(subjects: Path, save: Any) -> None:
    simulate(subjects, "first")
    for path in sorted((subjects / "labels").iterdir()):
        save(path, FREESURFER[voxels(path).astype(int)])
    record = simulate(subjects, "again", kind="freesurfer")
    assert record["parameters"]["tissues"] == "freesurfer"
    assert "tissue_labels" not in record["parameters"]
    np.testing.assert_array_equal(voxels(subjects / "first/anna.nii.gz"), voxels(subjects / "again/anna.nii.gz"))


def test_scans_without_labels_are_simulated_by_the_mixture_in_nonzero_voxels_or_in_masks(
    subjects: Path, save: Any
) -> None:
    for path in sorted((subjects / "labels").iterdir()):
        save(subjects / "masks" / path.name, (voxels(path) > 0).astype(np.uint8))
    record = simulate(subjects, "nonzero", labels=None, kind="gmm", seed=4)
    expected = {"tissues": "gmm", "brain_mask": "nonzero voxels", "brightness": ["csf", "gm", "wm"], "tissue_seed": 4}
    assert record["parameters"].items() >= expected.items()
    masked = simulate(subjects, "masked", labels=None, kind="gmm", seed=4, masks=subjects / "masks")
    assert masked["parameters"]["brain_mask"] == "given"
    labelled = simulate(subjects, "labelled", seed=4)
    for case, drawn in labelled["cases"].items():
        np.testing.assert_array_equal(
            voxels(subjects / f"nonzero/{case}.nii.gz"), voxels(subjects / f"masked/{case}.nii.gz")
        )
        # the made tissues overlap little: the means by the mixture are those by the labels
        for tissue, mean in drawn["tissue_means"].items():
            assert record["cases"][case]["tissue_means"][tissue] == pytest.approx(mean, rel=0.05)


def test_the_command_takes_the_mixture_with_another_order_of_brightness(
    subjects: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["simulate", "-i", str(subjects / "images"), "--preset", PRESET, "--ratio", "3"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "-o", str(subjects / "out"), "--tissues", "gmm", "--brightness", "wm,gm,csf"])
    record = json.loads((subjects / "out" / "simulation.json").read_text())
    assert record["parameters"]["brightness"] == ["wm", "gm", "csf"]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main([*words, "-o", str(subjects / "more"), "--labels", str(subjects / "labels"), "--brightness", "gm,wm,csf"])
    assert capsys.readouterr().err.startswith("error: --brightness is used with --tissues gmm only")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": None}, "no folder of tissue label maps"),
        ({"kind": "gmm"}, "are not used with tissues gmm"),
        ({"kind": "gmm", "labels": None, "smoothing": 1.0}, "smoothing is for label maps"),
        ({"masks": Path("m")}, "with tissues gmm only"),
        ({"kind": "gmm", "labels": None, "masks": Path("absent")}, "absent is not a folder"),
        ({"kind": "spm"}, "tissues are 'spm'"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(subjects: Path, options: dict, reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        simulate(subjects, "out", **options)
    assert not (subjects / "out").exists()


def test_an_unknown_label_and_a_missing_mask_name_the_file(subjects: Path, save: Any) -> None:
    path = subjects / "labels" / "carl.nii.gz"
    save(path, np.where(voxels(path) == 1, 999, FREESURFER[voxels(path).astype(int)]).astype(np.int16))
    with pytest.raises(UHFError, match="label 1 is not in the table"):  # the first case still has 1, 2, 3
        simulate(subjects, "out", kind="freesurfer")
    for name in ("anna", "béla 2"):
        save(subjects / "labels" / f"{name}.nii.gz", FREESURFER[voxels(subjects / "labels" / f"{name}.nii.gz")])
    with pytest.raises(UHFError, match=r"carl\.nii\.gz: label 999 is not in the table"):
        simulate(subjects, "out", kind="freesurfer")
    (subjects / "masks").mkdir()
    with pytest.raises(UHFError, match="no brain mask anna"):
        simulate(subjects, "out", labels=None, kind="gmm", masks=subjects / "masks")
    assert not (subjects / "out").exists()


def test_labels_and_masks_whose_names_end_in_capitals_are_found(subjects: Path) -> None:
    for folder in ("images", "labels"):
        for path in sorted((subjects / folder).iterdir()):
            path.rename(path.with_name(path.name.replace("nii.gz", "NII.GZ")))
    assert set(simulate(subjects, "by_labels")["cases"]) == {"anna", "béla 2", "carl"}
    record = simulate(subjects, "by_masks", labels=None, kind="gmm", masks=subjects / "labels")
    assert record["parameters"]["brain_mask"] == "given"


@pytest.mark.parametrize("pattern", ["c{number}{case}", "p{number}{case}"])
def test_spm_s_maps_are_taken_by_their_numbers(subjects: Path, save: Any, pattern: str) -> None:
    """SPM's classes are 1 grey matter, 2 white matter, 3 cerebrospinal fluid."""
    simulate(subjects, "first")
    for path in sorted((subjects / "labels").iterdir()):
        case, labels = path.name.removesuffix(".nii.gz"), voxels(path)
        for number, value in ((1, 2), (2, 3), (3, 1)):
            save(subjects / "spm" / f"{pattern.format(number=number, case=case)}.nii", (labels == value) * 1.0)
    simulate(subjects, "again", labels=subjects / "spm")
    np.testing.assert_array_equal(voxels(subjects / "first/anna.nii.gz"), voxels(subjects / "again/anna.nii.gz"))
    missing = pattern.format(number=3, case="anna")
    (subjects / "spm" / f"{missing}.nii").unlink()
    with pytest.raises(UHFError, match=f"but no {missing}"):
        simulate(subjects, "third", labels=subjects / "spm")
