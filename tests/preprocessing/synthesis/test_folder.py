"""Folders of label maps to folders of simulated images: files, geometry, seeds, what follows, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from helpers.low_field import simulated
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset
from nnunet_uhf.preprocessing.synthesis import Sequence
from nnunet_uhf.preprocessing.synthesis.folder import SynthesisOptions, synthesise_folder

SPGR = Sequence(kind="spgr", tr_ms=20, te_ms=4, flip_angle_deg=30)
# background, CSF, GM, WM in FreeSurfer's numbers
FREESURFER = np.array([0, 24, 42, 41], np.int16)


@pytest.fixture
def label_maps(subjects: Path, save: Any) -> Path:
    """The made subjects' tissues in FreeSurfer's numbers, with some skin around and a thalamus within."""
    for path in sorted((subjects / "labels").iterdir()):
        labels = FREESURFER[np.asarray(nib.load(path).dataobj).astype(int)]
        labels[:2] = 511
        labels[20:23, 16:19, 16:19] = 49
        save(subjects / "maps" / path.name, labels)
    return subjects / "maps"


def synthesise(label_maps: Path, output: str = "out", **options: Any) -> Path:
    """Synthesise into a folder beside the label maps; returns that folder."""
    options = {"fields_tesla": (0.36, 3.0, 7.0), "sequence": SPGR} | options
    return synthesise_folder(label_maps, label_maps.parent / output, **options).parent


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_every_field_strength_is_a_folder_of_images_in_the_label_maps_geometry(label_maps: Path) -> None:
    output = synthesise(label_maps)
    names = sorted(path.name for path in label_maps.iterdir())
    assert sorted(path.name for path in output.iterdir()) == [
        *("simulated_0.36T", "simulated_3T", "simulated_7T", "synthesis.json", "tissues"),
    ]
    for folder in ("simulated_0.36T", "simulated_3T", "simulated_7T", "tissues"):
        assert sorted(path.name for path in (output / folder).iterdir()) == names
        for name in names:
            image, source = nib.load(output / folder / name), nib.load(label_maps / name)
            assert image.shape == source.shape
            np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
            brain = np.isin(voxels(label_maps / name), (24, 42, 41, 49))
            np.testing.assert_array_equal(np.asarray(image.dataobj) > 0, brain)
    assert b"simulated 3 T spgr" in bytes(nib.load(output / "simulated_3T" / names[0]).header["descrip"])
    tissues = nib.load(output / "tissues" / names[0])
    assert tissues.get_data_dtype() == np.uint8
    assert np.unique(tissues.dataobj).tolist() == [0, 1, 2, 3]


def test_the_record_holds_every_parameter_source_and_draw(label_maps: Path) -> None:
    options = SynthesisOptions(variation=0.05, snr=30, bias=0.1)
    record = json.loads((synthesise(label_maps, options=options, seed=7) / "synthesis.json").read_text())
    assert record["what"].startswith("simulated")
    assert record["sequence"] == {"kind": "spgr", "tr_ms": 20, "te_ms": 4, "flip_angle_deg": 30, "ti_ms": None}
    assert record["options"]["bias"] == 0.1
    assert record["seed"] == 7
    assert record["fields"]["simulated_3T"]["wm"]["t1_s"] == pytest.approx(0.887, abs=1e-3)
    assert record["fields"]["simulated_3T"]["noise_sigma"] > 0
    assert "Rooney" in record["sources"]["t1"]
    case = record["cases"]["anna"]
    assert [structure["label"] for structure in case["structures"]] == [24, 41, 42, 49]
    assert len(case["signals"]["simulated_7T"]) == 4


def test_a_case_depends_on_seed_and_name_only(label_maps: Path) -> None:
    options = SynthesisOptions(snr=30, bias=0.1)
    first = voxels(synthesise(label_maps, "first", options=options, seed=3) / "simulated_3T" / "carl.nii.gz")
    (label_maps / "anna.nii.gz").unlink()
    again = synthesise(label_maps, "again", options=options, seed=3, fields_tesla=(3.0,))
    np.testing.assert_array_equal(voxels(again / "simulated_3T" / "carl.nii.gz"), first)
    other = synthesise(label_maps, "other", options=options, seed=4, fields_tesla=(3.0,))
    assert (voxels(other / "simulated_3T" / "carl.nii.gz") != first).any()


def test_cropped_images_lie_where_they_lay(label_maps: Path) -> None:
    whole, cropped = synthesise(label_maps, "whole"), synthesise(label_maps, "crop", options=SynthesisOptions(crop=1))
    for folder in ("simulated_7T", "tissues"):
        image, part = (nib.load(output / folder / "béla 2.nii.gz") for output in (whole, cropped))
        assert np.less(part.shape, image.shape).any()
        offset = np.rint(np.linalg.solve(image.affine, part.affine[:, 3]))[:3].astype(int)
        place = tuple(slice(start, start + size) for start, size in zip(offset, part.shape, strict=True))
        np.testing.assert_array_equal(np.asarray(part.dataobj), np.asarray(image.dataobj)[place])
        assert np.count_nonzero(part.dataobj) == np.count_nonzero(image.dataobj)


def test_the_images_go_on_to_low_field_simulation_and_to_a_paired_dataset(label_maps: Path, tmp_path: Path) -> None:
    output = synthesise(label_maps, options=SynthesisOptions(crop=2))
    simulated(output / "simulated_7T", tmp_path / "low", output / "tissues")
    dataset = write_paired_dataset(
        tmp_path / "raw" / "Dataset720_SyntheticPairs",
        sources=case_files(output / "simulated_0.36T"),
        targets=case_files(output / "simulated_7T"),
        labels=case_files(output / "tissues"),
        label_names={"background": 0, "CSF": 1, "GM": 2, "WM": 3},
        source_field_T=0.36,
        target_field_T=7.0,
        route="simulated",
    )
    assert len(list((dataset / "imagesTr").iterdir())) == 6


def test_the_command_writes_the_fields_named_in_a_row(label_maps: Path, capsys: pytest.CaptureFixture) -> None:
    output = label_maps.parent / "out"
    words = ["synthesise", "-i", str(label_maps), "-o", str(output), "--field", "1.5", "7", "--sequence", "se"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--te", "80", "--seed", "2", "--crop", "3", "--partial-volume", "0"])
    record = json.loads((output / "synthesis.json").read_text())
    assert list(record["fields"]) == ["simulated_1.5T", "simulated_7T"]
    expected = {"kind": "se", "tr_ms": 5000.0, "te_ms": 80.0, "flip_angle_deg": None, "ti_ms": None}
    assert record["sequence"] == expected
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(["synthesise", "-i", str(label_maps), "-o", str(output) + "2", "--field", "0.36", "--sequence", "se"])
    assert capsys.readouterr().err.startswith("error: field strength 0.36 T: published T2 values are offered from 1.5")


def put_in_an_unknown_label(label_maps: Path, save: Any) -> None:
    labels = voxels(label_maps / "carl.nii.gz").copy()
    labels[16, 16, 16] = 999
    save(label_maps / "carl.nii.gz", labels)


def cut_the_file(label_maps: Path, save: Any) -> None:
    path = label_maps / "carl.nii.gz"
    path.write_bytes(path.read_bytes()[:400])


def add_a_fourth_dimension(label_maps: Path, save: Any) -> None:
    save(label_maps / "carl.nii.gz", voxels(label_maps / "carl.nii.gz")[..., None].repeat(2, axis=3))


def occupy_the_output(label_maps: Path, save: Any) -> None:
    (label_maps.parent / "out").mkdir()
    (label_maps.parent / "out" / "mine.txt").write_text("keep me")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (put_in_an_unknown_label, "carl.*label 999 is not in the table"),
        (cut_the_file, "carl.*cannot be read"),
        (add_a_fourth_dimension, "carl.*3D volumes"),
        (occupy_the_output, "not empty"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file_and_leaves_nothing_half_written(
    label_maps: Path, save: Any, damage: Any, reason: str
) -> None:
    damage(label_maps, save)
    before = sorted(label_maps.parent.rglob("*"))
    with pytest.raises(UHFError, match=reason) as error:
        synthesise(label_maps)
    assert "\n" not in str(error.value)
    assert sorted(label_maps.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fields_tesla": ()}, "no field strength"),
        ({"fields_tesla": (3.0, 3.0)}, "name each once"),
        ({"fields_tesla": (0.064,)}, "0.1 to 7 T only"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_out_of_range_are_refused(label_maps: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        synthesise(label_maps, **options)
    assert not (label_maps.parent / "out").exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"partial_volume_mm": -1.0}, "partial volume"),
        ({"bias": 2.0}, "bias"),
        ({"snr": 0.0}, "SNR"),
        ({"crop": -1}, "crop"),
    ],
)
def test_extras_out_of_range_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        SynthesisOptions(**values)
