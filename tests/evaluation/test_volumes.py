"""`volumes`: sizes in mm^3 whatever the grid, and how much folds disagree."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.affines import voxel_sizes

from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.volumes import measure_volumes

LABELS = {"background": 0, "WM": 2, "CSF": 1}
REGIONS = {"background": 0, "brain": [1, 2], "core": 2}
SHAPE = (6, 8, 10)
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
#: (affine, mm^3 of a voxel): plain, permuted and flipped, turned by 37 degrees, sheared
GRIDS = {
    "plain": (np.diag([1.0, 2.0, 3.0, 1.0]), 6.0),
    "permuted": (np.array([[0, 0, -1.5, 10], [-0.8, 0, 0, 20], [0, 0.9, 0, -30], [0, 0, 0, 1]]), 1.08),
    "oblique": (np.block([[TURN @ np.diag([1.0, 2.0, 0.5]), np.ones((3, 1))], [np.zeros((1, 3)), 1]]), 1.0),
    "sheared": (np.array([[1.0, 0.5, 0, 0], [0, 2.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]]), 2.0),
}


def label_map(csf: int, wm: int) -> np.ndarray:
    """So many voxels of either label."""
    flat = np.zeros(np.prod(SHAPE), np.uint8)
    flat[:csf], flat[csf : csf + wm] = 1, 2
    return flat.reshape(SHAPE)


def folder_of(
    path: Path,
    cases: Mapping[str, np.ndarray],
    *,
    affine: np.ndarray | None = None,
    labels: Mapping[str, Any] = LABELS,
    probabilities: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """What nnUNetv2_predict writes; probabilities (C, X, Y, Z) are stored as (C, z, y, x), as its readers give them."""
    path.mkdir(parents=True)
    order = {"regions_class_order": [1, 2]} if labels is REGIONS else {}
    (path / "dataset.json").write_text(json.dumps({"labels": dict(labels), "file_ending": ".nii.gz", **order}))
    for name, array in cases.items():
        image = nibabel.Nifti1Image(array, None)
        image.set_sform(GRIDS["plain"][0] if affine is None else affine, code=1)
        image.header["pixdim"][1:4] = voxel_sizes(image.get_sform())
        nibabel.save(image, path / f"{name}.nii.gz")
        if probabilities is not None:
            np.savez_compressed(path / f"{name}.npz", probabilities=probabilities[name].transpose(0, 3, 2, 1))
            (path / f"{name}.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # opened, it would run a command
    return path


def softmax(labels: np.ndarray, sure: float = 0.8, channels: int = 3) -> np.ndarray:
    """`sure` for the label, the rest shared out among the other channels."""
    truth = labels == np.arange(channels).reshape(-1, 1, 1, 1)
    return np.where(truth, sure, (1 - sure) / (channels - 1)).astype(np.float32)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(folders: Sequence[Path], output: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """Cases of the JSON file by name."""
    record = measure_volumes(folders, output, **options)
    assert json.loads(output.with_suffix(".json").read_text()) == record
    return {case["case"]: case for case in record["cases"]}


@pytest.mark.parametrize("grid", GRIDS)
def test_a_volume_is_voxels_times_the_determinant_of_the_affine_on_any_grid(grid: str, tmp_path: Path) -> None:
    affine, voxel = GRIDS[grid]
    cases = run([folder_of(tmp_path / "p", {"a": label_map(30, 50)}, affine=affine)], tmp_path / "t.csv")
    assert cases["a"]["voxel_volume_mm3"] == pytest.approx(voxel)
    sizes = {name: entry["volume_mm3"] for name, entry in cases["a"]["structures"].items()}
    assert sizes == pytest.approx({"CSF": 30 * voxel, "WM": 50 * voxel})
    assert cases["a"]["total"]["volume_mm3"] == pytest.approx(80 * voxel)


def test_the_table_has_a_line_for_every_structure_of_every_case_and_their_total(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", {"b": label_map(3, 0), "a": label_map(1, 2)})
    run([folder], tmp_path / "t.csv", millilitres=True)
    lines = table(tmp_path / "t.csv")
    assert [(line["case"], line["structure"], line["label"], line["voxels"]) for line in lines] == [
        ("a", "CSF", "1", "1"),
        ("a", "WM", "2", "2"),
        ("a", "total", "", "3"),
        ("b", "CSF", "1", "3"),
        ("b", "WM", "2", "0"),
        ("b", "total", "", "3"),
    ]
    assert [float(line["volume_mm3"]) for line in lines[:3]] == [6.0, 12.0, 18.0]
    assert [float(line["volume_ml"]) for line in lines[:3]] == pytest.approx([0.006, 0.012, 0.018])


def test_regions_overlap_and_their_total_counts_every_voxel_once(tmp_path: Path) -> None:
    labels = label_map(30, 50)
    chances = np.stack([labels > 0, labels == 2]).astype(np.float32)
    folder = folder_of(tmp_path / "p", {"a": labels}, labels=REGIONS, probabilities={"a": 0.5 * chances})
    case = run([folder], tmp_path / "t.csv")["a"]
    assert case["structures"]["brain"] == {"voxels": 80, "volume_mm3": 480.0, "soft_volume_mm3": 240.0}
    assert case["structures"]["core"] == {"voxels": 50, "volume_mm3": 300.0, "soft_volume_mm3": 150.0}
    assert case["total"] == {"voxels": 80, "volume_mm3": 480.0}
    assert table(tmp_path / "t.csv")[2]["soft_volume_mm3"] == ""


def test_folds_give_the_deviation_and_the_coefficient_of_variation_of_their_volumes(tmp_path: Path) -> None:
    sizes = [(30, 50), (40, 50), (50, 50)]
    folders = [folder_of(tmp_path / f"fold_{i}", {"a": label_map(*pair)}) for i, pair in enumerate(sizes)]
    case = run(folders, tmp_path / "t.csv")["a"]
    csf, wm = case["structures"]["CSF"], case["structures"]["WM"]
    assert csf["volume_folds_mm3"] == [180.0, 240.0, 300.0]
    assert csf["volume_mm3"] == pytest.approx(240)
    assert csf["volume_std_mm3"] == pytest.approx(np.std([180, 240, 300], ddof=1))
    assert csf["volume_cv"] == pytest.approx(csf["volume_std_mm3"] / 240)
    assert (wm["volume_std_mm3"], wm["volume_cv"]) == (0, 0)
    assert float(table(tmp_path / "t.csv")[0]["volume_cv"]) == pytest.approx(csf["volume_cv"])
    assert "soft_volume_mm3" not in csf


def test_a_structure_that_no_fold_finds_has_no_coefficient_of_variation(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / name, {"a": label_map(30, 0)}) for name in "xy"]
    assert run(folders, tmp_path / "t.csv")["a"]["structures"]["WM"]["volume_cv"] is None
    assert table(tmp_path / "t.csv")[1]["volume_cv"] == ""


def test_soft_volumes_are_sums_of_probabilities_averaged_over_folds(tmp_path: Path) -> None:
    labels, sure = label_map(30, 50), (0.9, 0.6)
    chances = [softmax(labels, one) for one in sure]
    folders = [
        folder_of(tmp_path / f"fold_{i}", {"a": labels}, affine=GRIDS["oblique"][0], probabilities={"a": one})
        for i, one in enumerate(chances)
    ]
    case = run(folders, tmp_path / "t.csv")["a"]
    for channel, name in ((1, "CSF"), (2, "WM")):
        expected = [float(one[channel].sum()) for one in chances]
        entry = case["structures"][name]
        assert entry["soft_volume_folds_mm3"] == pytest.approx(expected, rel=1e-5)
        assert entry["soft_volume_mm3"] == pytest.approx(np.mean(expected), rel=1e-5)
        assert entry["volume_std_mm3"] == 0, "the segmentations agree"
        assert entry["soft_volume_cv"] > 0.01, "the probabilities do not"
    outside = [float(one[0].sum()) for one in chances]
    assert case["total"]["soft_volume_mm3"] == pytest.approx(labels.size - np.mean(outside), rel=1e-5)


def test_probabilities_in_the_axes_of_a_reader_that_reorients_give_the_same(tmp_path: Path) -> None:
    labels = label_map(30, 50)
    chances = {"a": softmax(labels)}
    plain = folder_of(tmp_path / "plain", {"a": labels}, probabilities=chances)
    turned = folder_of(tmp_path / "turned", {"a": labels})
    np.savez_compressed(turned / "a.npz", probabilities=chances["a"].transpose(0, 2, 3, 1))
    cases = [run([folder], tmp_path / f"{folder.name}.csv")["a"] for folder in (plain, turned)]
    assert cases[0]["structures"]["WM"] == pytest.approx(cases[1]["structures"]["WM"])


def test_a_validation_folder_finds_its_labels_beside_the_folds(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model" / "fold_0" / "validation", {"a": label_map(1, 1)})
    (folder / "dataset.json").rename(tmp_path / "model" / "dataset.json")
    assert run([folder], tmp_path / "t.csv")["a"]["structures"]["CSF"]["voxels"] == 1


def test_what_cannot_be_measured_is_refused_in_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    good = folder_of(tmp_path / "good", {"a": label_map(3, 4), "b": label_map(3, 4)})
    output = tmp_path / "t.csv"

    def refused(message: str, *folders: Path, **options: Any) -> None:
        with pytest.raises(UHFError, match=message) as error:
            measure_volumes(folders, options.pop("output", output), **options)
        assert "\n" not in str(error.value)
        assert not output.exists()
        assert not output.with_suffix(".json").exists()

    refused(r"must end in \.csv", good, output=tmp_path / "t.txt")
    refused("nowhere is not a folder", tmp_path / "nowhere")
    refused("is not a folder", tmp_path / "nowhere", dataset_json=good / "dataset.json")
    refused("holds no segmentation of b", good, folder_of(tmp_path / "less", {"a": label_map(3, 4)}))
    refused("holds the label 7", folder_of(tmp_path / "seven", {"a": 7 * (label_map(1, 0))}))
    total = folder_of(tmp_path / "total", {"a": label_map(3, 4)}, labels={**LABELS, "total": 4})
    refused("calls a label 'total'", total)
    refused("no whole numbers", folder_of(tmp_path / "image", {"a": label_map(1, 1) * np.float32(0.7)}))
    other = folder_of(tmp_path / "names", {"a": label_map(3, 4), "b": label_map(3, 4)}, labels={**LABELS, "GM": 3})
    refused("other labels", good, other)
    moved = {name: label_map(3, 4) for name in "ab"}
    refused("mm off|voxel size", good, folder_of(tmp_path / "moved", moved, affine=GRIDS["oblique"][0]))
    np.savez_compressed(good / "a.npz", probabilities=softmax(label_map(3, 4)).transpose(0, 3, 2, 1))
    refused(r"b\.npz is missing.*--no-probabilities", good)
    run([good], tmp_path / "without.csv", probabilities=False)
    np.savez_compressed(good / "b.npz", probabilities=np.array([{"an": "object"}], dtype=object))
    refused(r"b\.npz holds no readable probabilities", good)
    np.savez_compressed(good / "b.npz", probabilities=np.zeros((2, *SHAPE[::-1])))
    refused("has shape", good)
    output.write_text("mine")
    with pytest.raises(UHFError, match="--overwrite"):
        measure_volumes([good], output, probabilities=False)
    assert output.read_text() == "mine"
    measure_volumes([good], output, probabilities=False, overwrite=True)
    assert len(table(output)) == 6


def test_the_command_takes_several_folders_as_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [folder_of(tmp_path / name, {"a": label_map(3, 4)}) for name in "xyz"]
    with pytest.raises(SystemExit) as left:
        main(["volumes", "-i", *map(str, folders), "-o", str(tmp_path / "t.csv"), "--ml"])
    assert left.value.code == 0
    assert "wrote" in capsys.readouterr().out
    assert table(tmp_path / "t.csv")[0]["volume_ml"] == "0.018"


def test_a_segmentation_that_cannot_be_measured_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "p", {"a": label_map(4, 2), "c": label_map(3, 2)})
    (folder / "b.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:-20])
    with pytest.raises(SystemExit) as left:
        main(["volumes", "-i", str(folder), "-o", str(tmp_path / "v.csv")])
    assert left.value.code == 1
    assert "1 case was left out" in capsys.readouterr().err
    assert {line["case"] for line in table(tmp_path / "v.csv")} == {"a", "c"}
    record = json.loads((tmp_path / "v.json").read_text())
    assert list(record["left_out"]) == ["b"]
