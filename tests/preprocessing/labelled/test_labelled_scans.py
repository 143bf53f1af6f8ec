"""Made IBSR and MICCAI 2012 trees: what arrives in the dataset, for any orientation, and what damaged trees say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from helpers.workspace import threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.labelled.ibsr import convert_ibsr
from nnunet_uhf.preprocessing.labelled.malc import convert_malc
from nnunet_uhf.preprocessing.labelled.scans import ConversionOptions

# right, anterior, superior; anisotropic, off-centre and turned by 11 degrees, as scans are
TURN = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
AFFINE = np.eye(4)
AFFINE[:3, :3], AFFINE[:3, 3] = TURN @ np.diag([1.0, 1.5, 2.0]), (-9.0, 12.5, 3.0)
SHAPE = (12, 10, 8)
AXCODES = ("RAS", "LAS", "PSR", "AIL", "SPL", "IRP")

Array = np.ndarray[Any, np.dtype[Any]]


def blocks(numbers: tuple[int, ...]) -> Array:
    """A label map in which every number fills a slab of its own, the smaller the more to the right."""
    labels = np.zeros(SHAPE, dtype=np.int16)
    for index, number in enumerate(numbers):
        labels[SHAPE[0] - 2 - index % 10, 1 + 4 * (index // 30) : 9, 1 + 2 * ((index // 10) % 3) :] = number
    return labels


def image_of(labels: Array) -> Array:
    return (labels * 7 + np.arange(labels.size).reshape(labels.shape) % 5).astype(np.int16)


def save(path: Path, array: Array, *, axcodes: str = "RAS", affine: Array = AFFINE, four: bool = False) -> Path:
    """Write an array that is given in right, anterior, superior order with its axes in another order."""
    image = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes))
    image = image.as_reoriented(turn)
    if four:
        image = nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine, image.header)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def ibsr_tree(root: Path, *, ending: str = ".nii.gz") -> Path:
    """Three subjects of the IBSR18 layout, 4D with one volume, in three orientations."""
    for index, axcodes in ((1, "RAS"), (2, "PSR"), (10, "AIL")):
        case = f"IBSR_{index:02d}"
        labels = blocks((1, 2, 3)).astype(np.uint8)
        save(root / case / f"{case}_ana_strip{ending}", image_of(labels), axcodes=axcodes, four=True)
        save(root / case / f"{case}_segTRI_ana{ending}", labels, axcodes=axcodes, four=True)
    return root


def malc_tree(root: Path) -> Path:
    """Two training cases and a test case in the folders of the MICCAI 2012 release."""
    numbers = (4, 11, 35, 44, 45, 49, 50, 51, 52, 59, 60, 71, 100, 101, 206, 207, 46, 38, 39)
    for case, part in (("1000_3", "training"), ("1001_3", "training"), ("1003_3", "testing")):
        labels = blocks(numbers)
        save(root / f"{part}-images" / f"{case}.nii.gz", image_of(labels), axcodes="LAS")
        save(root / f"{part}-labels" / f"{case}_glm.nii.gz", labels, axcodes="LAS")
    return root


def verify(dataset: Path) -> None:
    with threaded_pools():
        verify_dataset_integrity(str(dataset), num_processes=1)


def canonical(path: Path) -> tuple[Array, Array]:
    """Array and affine in right, anterior, superior order."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj), image.affine


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ibsr_becomes_a_valid_dataset_with_test_cases_and_a_record(tmp_path: Path) -> None:
    source = ibsr_tree(tmp_path / "IBSR nifti strippéd")
    before = contents(source)
    done = convert_ibsr(source, tmp_path / "raw" / "Dataset111_IBSR", options=ConversionOptions(test=["10"]))
    verify(done.dataset)
    description = json.loads((done.dataset / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
    assert description["channel_names"] == {"0": "T1w"}
    assert description["numTraining"] == 2
    record = json.loads((done.dataset / "conversion.json").read_text())
    assert record["cases"]["IBSR_10"]["labels"].endswith("IBSR_10_segTRI_ana.nii.gz")
    assert sorted(name for name in contents(done.dataset) if name.endswith(".nii.gz")) == [
        "imagesTr/IBSR_01_0000.nii.gz",
        "imagesTr/IBSR_02_0000.nii.gz",
        "imagesTs/IBSR_10_0000.nii.gz",
        "labelsTr/IBSR_01.nii.gz",
        "labelsTr/IBSR_02.nii.gz",
        "labelsTs/IBSR_10.nii.gz",
    ]
    assert done.warnings == ()
    assert contents(source) == before
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["Dataset111_IBSR"]


@pytest.mark.parametrize("axcodes", AXCODES)
def test_every_voxel_stays_at_its_place_whatever_the_order_of_the_axes(tmp_path: Path, axcodes: str) -> None:
    labels = blocks((44, 45, 57, 58))
    save(tmp_path / "in" / "1000_3.nii.gz", image_of(labels), axcodes=axcodes)
    save(tmp_path / "in" / "1000_3_glm.nii.gz", labels, axcodes=axcodes)
    done = convert_malc(tmp_path / "in", tmp_path / "Dataset112_MALC")
    names = json.loads((done.dataset / "dataset.json").read_text())["labels"]
    wanted = {
        44: "Right-Cerebral-White-Matter",
        45: "Left-Cerebral-White-Matter",
        57: "Right-Putamen",
        58: "Left-Putamen",
    }
    image, affine = canonical(done.dataset / "imagesTr" / "1000_3_0000.nii.gz")
    written, label_affine = canonical(done.dataset / "labelsTr" / "1000_3.nii.gz")
    np.testing.assert_array_equal(image, image_of(labels))
    np.testing.assert_array_equal(written, np.vectorize({0: 0, **{n: names[wanted[n]] for n in wanted}}.get)(labels))
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(label_affine, AFFINE, atol=1e-5)
    # and through nnU-Net's own reader and writer and back
    reader = SimpleITKIO()
    seg, properties = reader.read_seg(str(done.dataset / "labelsTr" / "1000_3.nii.gz"))
    reader.write_seg(seg[0].astype(np.uint8), str(tmp_path / "back.nii.gz"), properties)
    back, back_affine = canonical(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back, written)
    np.testing.assert_allclose(back_affine, AFFINE, atol=1e-4)


def test_the_miccai_release_keeps_its_test_cases_apart_and_warns_of_sides(tmp_path: Path) -> None:
    done = convert_malc(malc_tree(tmp_path / "MALC"), tmp_path / "Dataset112_MALC")
    verify(done.dataset)
    description = json.loads((done.dataset / "dataset.json").read_text())
    assert len(description["labels"]) == 28
    assert description["numTraining"] == 2
    assert (done.dataset / "labelsTs" / "1003_3.nii.gz").is_file()
    assert "UHFTrainerNoMirroring" in done.warnings[0]
    assert done.warnings[1].startswith("no case holds Left-Cerebellum-White-Matter")


def test_merged_sides_leave_sixteen_classes_and_no_warning_of_sides(tmp_path: Path) -> None:
    done = convert_malc(malc_tree(tmp_path / "MALC"), tmp_path / "Dataset112_MALC", merge_sides=True)
    verify(done.dataset)
    assert len(json.loads((done.dataset / "dataset.json").read_text())["labels"]) == 16
    assert not any("Mirroring" in warning for warning in done.warnings)


def test_plain_nifti_and_filled_labels_are_taken(tmp_path: Path) -> None:
    source = ibsr_tree(tmp_path / "IBSR", ending=".nii")
    for path in list(source.rglob("*_segTRI_ana.nii")):
        path.rename(path.with_name(path.name.replace("segTRI_ana", "segTRI_fill_ana")))
    done = convert_ibsr(source, tmp_path / "Dataset111_IBSR")
    verify(done.dataset)
    record = json.loads((done.dataset / "conversion.json").read_text())
    assert record["cases"]["IBSR_01"]["labels"].endswith("segTRI_fill_ana.nii")


def test_a_header_without_orientation_is_told(tmp_path: Path) -> None:
    source = ibsr_tree(tmp_path / "IBSR")
    for path in (source / "IBSR_01").iterdir():
        image = nib.load(path)
        plain = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
        plain.set_sform(None, code=0)
        plain.set_qform(None, code=0)
        nib.save(plain, path)
    assert "which side is left" in convert_ibsr(source, tmp_path / "Dataset111_IBSR").warnings[0]


def missing_label(root: Path) -> Path:
    path = root / "IBSR_02" / "IBSR_02_segTRI_ana.nii.gz"
    path.unlink()
    return path


def missing_image(root: Path) -> Path:
    path = root / "IBSR_02" / "IBSR_02_ana_strip.nii.gz"
    path.unlink()
    return path


def rewritten(change: Callable[[Array, Array], tuple[Array, Array]], *, what: str = "ana_strip") -> Any:
    """Damage that replaces array and affine of a file of subject 2."""

    def damage(root: Path) -> Path:
        path = root / "IBSR_02" / f"IBSR_02_{what}.nii.gz"
        image = nib.load(path)
        array, affine = change(np.asarray(image.dataobj), image.affine.copy())
        changed = nib.Nifti1Image(array, None)
        changed.header.set_sform(affine, code=1)
        changed.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
        nib.save(changed, path)
        return path

    return damage


def singular(array: Array, affine: Array) -> tuple[Array, Array]:
    affine[:, 1] = affine[:, 0]
    return array, affine


def sheared(array: Array, affine: Array) -> tuple[Array, Array]:
    affine[:3, 1] += 0.2 * affine[:3, 0]
    return array, affine


def shifted(array: Array, affine: Array) -> tuple[Array, Array]:
    affine[0, 3] += 3
    return array, affine


def with_nan(array: Array, affine: Array) -> tuple[Array, Array]:
    array = array.astype(np.float32)
    array[0, 0, 0] = np.nan
    return array, affine


def unknown_value(array: Array, affine: Array) -> tuple[Array, Array]:
    return np.where(array == 3, 9, array), affine


def cut_short(root: Path) -> Path:
    path = root / "IBSR_02" / "IBSR_02_ana_strip.nii.gz"
    path.write_bytes(path.read_bytes()[:-60])
    return path


def twice(root: Path) -> Path:
    shutil.copytree(root / "IBSR_02", root / "copy" / "IBSR_02")
    return root / "IBSR_02"


DAMAGES: dict[str, tuple[Any, str]] = {
    "missing label": (missing_label, "no label map"),
    "missing image": (missing_image, "holds labels of IBSR_02 but no"),
    "unequal shapes": (rewritten(lambda a, f: (a[1:], f)), "has shape"),
    "shifted labels": (rewritten(shifted, what="segTRI_ana"), "lies 3 mm off"),
    "singular affine": (rewritten(singular), "singular affine"),
    "sheared affine": (rewritten(sheared), "sheared affine"),
    "several volumes": (rewritten(lambda a, f: (np.concatenate([a, a], axis=3), f)), "split it into 3D"),
    "NaN": (rewritten(with_nan), "contains NaN"),
    "constant image": (rewritten(lambda a, f: (np.ones_like(a), f)), "same intensity everywhere"),
    "fractional labels": (rewritten(lambda a, f: (a / 2, f), what="segTRI_ana"), "no whole numbers"),
    "negative labels": (rewritten(lambda a, f: (a.astype(np.int16) - 1, f), what="segTRI_ana"), "label -1"),
    "unknown label": (rewritten(unknown_value, what="segTRI_ana"), "label 9, which the table does not know"),
    "cut short": (cut_short, "damaged"),
    "a case twice": (twice, "are both case IBSR_02"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_tree_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    damage, reason = DAMAGES[name]
    source = ibsr_tree(tmp_path / "IBSR ü")
    culprit = damage(source)
    with pytest.raises(UHFError, match=reason) as told:
        convert_ibsr(source, tmp_path / "raw" / "Dataset111_IBSR")
    assert "\n" not in str(told.value)
    assert culprit.name.split(".")[0].removesuffix("_segTRI_ana") in str(told.value)
    assert not (tmp_path / "raw").exists() or not any((tmp_path / "raw").iterdir())


def test_labels_with_a_wrong_affine_go_onto_their_image_on_request_but_not_with_another_shape(tmp_path: Path) -> None:
    source = ibsr_tree(tmp_path / "IBSR")
    rewritten(shifted, what="segTRI_ana")(source)
    done = convert_ibsr(source, tmp_path / "Dataset111_IBSR", options=ConversionOptions(same_voxels=True))
    assert "IBSR_02_segTRI_ana.nii.gz was put on its image" in done.warnings[0]
    assert len(done.warnings) == 1
    labels, affine = canonical(done.dataset / "labelsTr" / "IBSR_02.nii.gz")
    np.testing.assert_array_equal(labels, blocks((1, 2, 3)))
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    rewritten(lambda a, f: (a[1:], f), what="segTRI_ana")(source)
    with pytest.raises(UHFError, match="has shape"):
        convert_ibsr(source, tmp_path / "Dataset112_IBSR", options=ConversionOptions(same_voxels=True))


def test_incomplete_cases_are_left_out_on_request_and_named(tmp_path: Path) -> None:
    source = ibsr_tree(tmp_path / "IBSR")
    missing_label(source)
    done = convert_ibsr(source, tmp_path / "Dataset111_IBSR", options=ConversionOptions(skip_incomplete=True))
    assert done.warnings[0].startswith("left out IBSR_02")
    assert not (done.dataset / "imagesTr" / "IBSR_02_0000.nii.gz").exists()


def test_unknown_numbers_are_never_guessed_but_taken_from_the_users_mapping(tmp_path: Path) -> None:
    source = malc_tree(tmp_path / "MALC")
    labels = blocks((38, 39, 71, 220))
    save(source / "training-labels" / "1001_3_glm.nii.gz", labels, axcodes="LAS")
    with pytest.raises(UHFError, match=r"1001_3_glm.*label 220"):
        convert_malc(source, tmp_path / "Dataset112_MALC")
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"220": None, "71": "Cerebellum-Cortex"}))
    done = convert_malc(source, tmp_path / "Dataset112_MALC", options=ConversionOptions(mapping=mapping))
    written, _ = canonical(done.dataset / "labelsTr" / "1001_3.nii.gz")
    assert set(np.unique(written[labels == 220])) == {0}
    # the slab of the vermis lies beside the left cerebellum, and the right one is farther off
    assert set(np.unique(written[labels == 71])) == {9}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1]", "no JSON object"),
        ("{", "no JSON:"),
        ('{"x": null}', "the key 'x'"),
        ('{"4": 7}', "maps 4 to 7"),
        ('{"4": "Nose"}', "none of the structures"),
    ],
)
def test_a_bad_mapping_is_one_line(tmp_path: Path, content: str, reason: str) -> None:
    mapping = tmp_path / "mapping.json"
    mapping.write_text(content)
    source, options = malc_tree(tmp_path / "MALC"), ConversionOptions(mapping=mapping)
    with pytest.raises(UHFError, match=reason):
        convert_malc(source, tmp_path / "Dataset112_MALC", options=options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"options": ConversionOptions(test=["IBSR_77"])}, "IBSR_77 is not among the cases"),
        ({"options": ConversionOptions(test=["1", "2", "10"])}, "every case is a test case"),
        ({"output": "IBSR"}, "no nnU-Net dataset name"),
        ({"source": "nowhere"}, "is not a folder"),
        ({"filled": True}, "has no label map IBSR_01_segTRI_fill_ana"),
    ],
)
def test_an_impossible_request_is_one_line(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    ibsr_tree(tmp_path / "IBSR_18")
    source, output = options.pop("source", "IBSR_18"), options.pop("output", "Dataset111_IBSR")
    with pytest.raises(UHFError, match=reason):
        convert_ibsr(tmp_path / source, tmp_path / "raw" / output, **options)
    assert not (tmp_path / "raw").exists()
