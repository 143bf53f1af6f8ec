"""Made BIDS trees: sessions, inheritance of sidecars, label maps of derivatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from helpers.tiny_data import write_image
from helpers.workspace import threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.labelled.bids import convert_bids
from nnunet_uhf.preprocessing.labelled.bids_files import field_strength, parse_name
from nnunet_uhf.preprocessing.labelled.scans import ConversionOptions

AFFINE = np.array([[0.0, 0, 2, -25], [-2, 0, 0, 20], [0, 2, 0, -30], [0, 0, 0, 1]])
SHAPE = (10, 9, 8)
PIPELINE = Path("derivatives", "manual")


def scan(path: Path, *, seed: int = 0) -> Path:
    write_image(path, np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16), AFFINE)
    return path


def labels(path: Path) -> Path:
    data = np.zeros(SHAPE, dtype=np.int16)
    data[2:5, 2:5, 2:5], data[5:8, 2:5, 2:5] = 17, 53
    write_image(path, data, AFFINE)
    return path


def anat(root: Path, subject: str, session: str | None) -> Path:
    return root / f"sub-{subject}" / (f"ses-{session}/anat" if session else "anat")


def name(subject: str, session: str | None, rest: str) -> str:
    return f"sub-{subject}" + (f"_ses-{session}" if session else "") + f"_{rest}"


def study(root: Path) -> Path:
    """sub-01 with sessions LF (64 mT) and HF (3 T), sub-02 without sessions (3 T); T1w and FLAIR."""
    for seed, (subject, session) in enumerate((("01", "LF"), ("01", "HF"), ("02", None))):
        for contrast in ("T1w", "FLAIR"):
            scan(anat(root, subject, session) / name(subject, session, f"{contrast}.nii.gz"), seed=seed)
        labels(anat(root / PIPELINE, subject, session) / name(subject, session, "desc-manual_dseg.nii.gz"))
    (root / "T1w.json").write_text(json.dumps({"MagneticFieldStrength": 3, "Manufacturer": "made"}))
    (root / "FLAIR.json").write_text(json.dumps({"MagneticFieldStrength": 3}))
    for contrast in ("T1w", "FLAIR"):
        path = anat(root, "01", "LF") / f"sub-01_ses-LF_{contrast}.json"
        path.write_text(json.dumps({"MagneticFieldStrength": 0.064}))
    (root / PIPELINE / "dseg.tsv").write_text(
        "index\tname\n0\tBackground\n17\tLeft hippocampus\n53\tRight hippocampus\n"
    )
    return root


def convert(root: Path, **options: Any) -> Any:
    return convert_bids(root / "study", root / "raw" / "Dataset114_Study", **options)


def test_sessions_become_cases_and_contrasts_channels(tmp_path: Path) -> None:
    study(tmp_path / "study")
    done = convert(tmp_path, contrasts=["T1w", "FLAIR"], options=ConversionOptions(test=["sub-02"]))
    with threaded_pools():
        verify_dataset_integrity(str(done.dataset), num_processes=1)
    description = json.loads((done.dataset / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "T1w", "1": "FLAIR"}
    assert description["labels"] == {"background": 0, "Left hippocampus": 1, "Right hippocampus": 2}
    assert sorted(path.name for path in (done.dataset / "imagesTr").iterdir()) == [
        f"sub-01_ses-{session}_000{channel}.nii.gz" for session in ("HF", "LF") for channel in (0, 1)
    ]
    assert (done.dataset / "imagesTs" / "sub-02_0001.nii.gz").is_file()
    written = nib.load(done.dataset / "labelsTr" / "sub-01_ses-HF.nii.gz")
    assert set(np.unique(written.dataobj)) == {0, 1, 2}
    np.testing.assert_allclose(written.affine, AFFINE)


def test_field_strengths_are_inherited_and_recorded_and_mixtures_told(tmp_path: Path) -> None:
    study(tmp_path / "study")
    done = convert(tmp_path)
    cases = json.loads((done.dataset / "conversion.json").read_text())["cases"]
    assert cases["sub-01_ses-LF"]["field_strength_T"] == {"T1w": 0.064}
    assert cases["sub-01_ses-HF"]["field_strength_T"] == {"T1w": 3.0}
    assert any("0.064, 3 T" in warning for warning in done.warnings)
    assert any("UHFTrainerNoMirroring" in warning for warning in done.warnings)


def test_one_field_strength_can_be_chosen(tmp_path: Path) -> None:
    study(tmp_path / "study")
    done = convert(tmp_path, field=3)
    names = sorted(path.name for path in (done.dataset / "labelsTr").iterdir())
    assert names == ["sub-01_ses-HF.nii.gz", "sub-02.nii.gz"]
    assert not any(" T: " in warning for warning in done.warnings)


def test_a_sidecar_speaks_only_for_scans_that_have_its_entities(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (tmp_path / "acq-low_T1w.json").write_text('{"MagneticFieldStrength": 0.1}')
    for acquisition, strength in (("low", 0.1), ("high", None)):
        file = parse_name(folder / f"sub-01_acq-{acquisition}_T1w.nii.gz")
        assert field_strength(file, root=tmp_path) == strength


def test_several_scans_of_a_session_need_a_choice(tmp_path: Path) -> None:
    root = study(tmp_path / "study")
    scan(root / "sub-02" / "anat" / "sub-02_run-2_T1w.nii.gz", seed=9)
    with pytest.raises(UHFError, match="both fit sub-02: choose one by --entity"):
        convert(tmp_path)
    labels(root / PIPELINE / "sub-02" / "anat" / "sub-02_desc-auto_dseg.nii.gz")
    with pytest.raises(UHFError, match="both fit sub-02: choose one by --label-entity"):
        convert(tmp_path, entities=["run-2"])
    with pytest.raises(UHFError, match=r"no T1w scan of sub-01_ses-HF .* \(--skip-incomplete\)"):
        convert(tmp_path, entities=["run-2"], label_entities=["desc-manual"])
    done = convert(
        tmp_path, entities=["run-2"], label_entities=["desc-manual"], options=ConversionOptions(skip_incomplete=True)
    )
    assert [path.name for path in (done.dataset / "labelsTr").iterdir()] == ["sub-02.nii.gz"]


def test_label_maps_of_another_space_are_not_taken(tmp_path: Path) -> None:
    root = study(tmp_path / "study")
    labels(root / PIPELINE / "sub-02" / "anat" / "sub-02_space-MNI152NLin2009cAsym_dseg.nii.gz")
    assert json.loads((convert(tmp_path).dataset / "dataset.json").read_text())["numTraining"] == 3


def test_a_mapping_stands_in_for_the_table_of_names(tmp_path: Path) -> None:
    root = study(tmp_path / "study")
    (root / PIPELINE / "dseg.tsv").unlink()
    with pytest.raises(UHFError, match=r"has no dseg\.tsv"):
        convert(tmp_path)
    mapping = tmp_path / "names.json"
    mapping.write_text('{"17": "hippocampus", "53": "hippocampus"}')
    done = convert(tmp_path, options=ConversionOptions(mapping=mapping))
    assert json.loads((done.dataset / "dataset.json").read_text())["labels"] == {"background": 0, "hippocampus": 1}
    assert not any("Mirroring" in warning for warning in done.warnings)


def missing_label(root: Path) -> None:
    (root / PIPELINE / "sub-01" / "ses-LF" / "anat" / "sub-01_ses-LF_desc-manual_dseg.nii.gz").unlink()


def missing_session(root: Path) -> None:
    for path in (root / "sub-01" / "ses-LF" / "anat").iterdir():
        path.unlink()


def missing_contrast(root: Path) -> None:
    (root / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()


def wrong_name(root: Path) -> None:
    path = root / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    path.rename(path.with_name("sub-03_T1w.nii.gz"))


def gauss(root: Path) -> None:
    (root / "T1w.json").write_text('{"MagneticFieldStrength": 30000}')


def damaged_json(root: Path) -> None:
    (root / "T1w.json").write_text('{"MagneticFieldStrength": ')


def other_grid(root: Path) -> None:
    write_image(root / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz", np.arange(24.0).reshape(2, 3, 4), AFFINE)


def unnamed_label(root: Path) -> None:
    (root / PIPELINE / "dseg.tsv").write_text("index\tname\n17\tLeft hippocampus\n")


def bad_table(root: Path) -> None:
    (root / PIPELINE / "dseg.tsv").write_text("index,name\n17,Left hippocampus\n")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (missing_label, r"sub-01_ses-LF_T1w\.nii\.gz has no label map"),
        (missing_session, "has no T1w scan of sub-01_ses-LF"),
        (missing_contrast, "has no FLAIR scan of sub-02"),
        (wrong_name, "sub-03_T1w.*names another subject"),
        (gauss, r"T1w\.json.*is 30000: give it in tesla"),
        (damaged_json, r"T1w\.json cannot be read as JSON"),
        (other_grid, "sub-02_FLAIR.*has shape"),
        (unnamed_label, "holds label 53, which the table does not know"),
        (bad_table, r"dseg\.tsv needs a whole number"),
    ],
)
def test_a_damaged_study_is_one_line_and_leaves_nothing(tmp_path: Path, damage: Any, reason: str) -> None:
    damage(study(tmp_path / "study"))
    with pytest.raises(UHFError, match=reason) as told:
        convert(tmp_path, contrasts=["T1w", "FLAIR"])
    assert "\n" not in str(told.value)
    assert not (tmp_path / "raw").exists() or not any((tmp_path / "raw").iterdir())


def test_an_impossible_request_is_one_line(tmp_path: Path) -> None:
    study(tmp_path / "study")
    for options, reason in (
        ({"contrasts": ["T2w"]}, "holds no T2w scan"),
        ({"field": 7}, "holds no T1w scan of 7 T"),
        ({"entities": ["acq"]}, "'acq' is no BIDS entity"),
        ({"derivatives": tmp_path / "none"}, "is not a folder"),
    ):
        with pytest.raises(UHFError, match=reason):
            convert(tmp_path, **options)


def fmriprep(root: Path) -> Path:
    """What fMRIPrep writes of the anatomical part, two subjects, beside the raw scans."""
    prep = root / "derivatives" / "fmriprep"
    for subject in ("01", "02"):
        scan(anat(root, subject, None) / f"sub-{subject}_T1w.nii.gz")
        folder = anat(prep, subject, None)
        for space in ("", "_space-MNI152NLin2009cAsym"):
            scan(folder / f"sub-{subject}{space}_desc-preproc_T1w.nii.gz")
            labels(folder / f"sub-{subject}{space}_dseg.nii.gz")
        for atlas in ("aseg", "aparcaseg"):
            labels(folder / f"sub-{subject}_desc-{atlas}_dseg.nii.gz")
    (prep / "dseg.tsv").write_text("index\tname\n17\tLeft hippocampus\n53\tRight hippocampus\n")
    return prep


def test_the_label_map_without_an_entity_can_be_chosen(tmp_path: Path) -> None:
    fmriprep(tmp_path / "study")
    with pytest.raises(UHFError, match=r"choose one by --label-entity KEY-VALUE, or KEY- for the one without it"):
        convert(tmp_path)
    done = convert(tmp_path, label_entities=["desc-"])
    record = json.loads((done.dataset / "conversion.json").read_text())
    assert record["cases"]["sub-01"]["labels"].endswith("fmriprep/sub-01/anat/sub-01_dseg.nii.gz")
    with pytest.raises(UHFError, match="no BIDS entity"):
        convert(tmp_path, label_entities=["desc"])


def test_scans_of_another_space_are_passed_over_unless_it_is_named(tmp_path: Path) -> None:
    prep = fmriprep(tmp_path / "study")
    for entities, name in ((["desc-preproc"], ""), (["desc-preproc", "space-MNI152NLin2009cAsym"], "_space-MNI")):
        done = convert_bids(
            prep,
            tmp_path / f"raw{len(entities)}" / "Dataset115_Prep",
            derivatives=prep,
            entities=entities,
            label_entities=["desc-", *entities[1:]],
        )
        image = json.loads((done.dataset / "conversion.json").read_text())["cases"]["sub-02"]["images"]["T1w"]
        assert Path(image).name.startswith(f"sub-02{name}")
        assert ("space" in Path(image).name) == bool(name)
