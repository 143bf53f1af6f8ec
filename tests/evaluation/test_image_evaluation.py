"""`nnunet-uhf evaluate-images`: folders of images in, numbers with confidence intervals out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.tiny_data import case_affine, make_channel, make_labels, write_image
from nnunet_uhf.cli import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.image_metrics import mae, nrmse, psnr, ssim
from nnunet_uhf.evaluation.images import evaluate_images
from nnunet_uhf.evaluation.multiscale import ms_ssim
from nnunet_uhf.evaluation.statistics import bootstrap_interval

SHAPE = (26, 28, 24)
AFFINE = case_affine((1.0, 1.0, 1.0), SHAPE)
NAMES = ("anna", "béla 2", "carl")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders `truth`, `made` (twice as bright, and noisy) and `mask` of three cases."""
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        labels = make_labels(SHAPE, rng)
        truth = make_channel(labels, "HF", rng)
        made = 2 * truth + 10 + (5 + seed) * rng.standard_normal(SHAPE)
        write_image(tmp_path / "truth" / f"{name}.nii.gz", truth, AFFINE)
        write_image(tmp_path / "made" / f"{name}.nii.gz", made.astype(np.float32), AFFINE)
        write_image(tmp_path / "mask" / f"{name}.nii.gz", labels, AFFINE)
    return tmp_path


def evaluate(root: Path, **changes: Any) -> dict[str, Any]:
    return evaluate_images(root / "truth", root / "made", root / "out", **{"mask": root / "mask", **changes})


def load(path: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj, dtype=np.float64)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_case_has_the_metrics_of_the_whole_image_and_of_the_brain(root: Path) -> None:
    record = evaluate(root)
    assert [row["case"] for row in record["metric_per_case"]] == list(NAMES)
    row = record["metric_per_case"][1]
    truth, made, mask = (load(root / folder / "béla 2.nii.gz") for folder in ("truth", "made", "mask"))
    for region, inside in (("whole", None), ("brain", mask > 0)):
        assert row[region] == {
            "psnr": pytest.approx(psnr(truth, made, mask=inside)),
            "ssim": pytest.approx(ssim(truth, made, mask=inside)),
            "ms_ssim": pytest.approx(ms_ssim(truth, made, mask=inside)),
            "nrmse": pytest.approx(nrmse(truth, made, mask=inside)),
            "mae": pytest.approx(mae(truth, made, mask=inside)),
        }
    assert row["data_range"] == pytest.approx(np.ptp(truth))
    assert row["voxels"] == {"whole": truth.size, "brain": int((mask > 0).sum())}
    assert record["settings"]["ms_ssim_scales"] == 2


def test_means_have_an_interval_that_holds_them_and_depends_on_the_seed_alone(root: Path) -> None:
    mean = evaluate(root)["mean"]
    psnrs = [
        row["brain"]["psnr"] for row in json.loads((root / "out/image_metrics.json").read_text())["metric_per_case"]
    ]
    assert mean["brain"]["psnr"]["mean"] == pytest.approx(np.mean(psnrs))
    low, high = mean["brain"]["psnr"]["ci"]
    assert min(psnrs) <= low < np.mean(psnrs) < high <= max(psnrs)
    drawn = np.random.default_rng(0).integers(len(psnrs), size=(10_000, len(psnrs)))
    assert (low, high) == pytest.approx(np.percentile(np.array(psnrs)[drawn].mean(axis=1), [2.5, 97.5]), rel=1e-12)


@pytest.mark.parametrize("methods", [("percentile",), ("BCa", "percentile")])
def test_the_interval_of_many_cases_is_that_of_the_normal_distribution(methods: tuple[str, ...]) -> None:
    values = np.random.default_rng(1).normal(30, 2, 400)
    interval, method = bootstrap_interval(values, seed=0, methods=methods)
    low, high = interval or (0, 0)
    assert method == methods[0]
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.02), pytest.approx(values.mean() + half, abs=0.02))


def test_one_case_has_a_mean_and_no_interval(root: Path) -> None:
    for name in NAMES[1:]:
        (root / "truth" / f"{name}.nii.gz").unlink()
    record = evaluate(root)
    assert record["mean"]["whole"]["psnr"]["ci"] is None
    assert record["settings"]["predictions_without_reference"] == list(NAMES[1:])


def test_the_linear_fit_undoes_gain_and_offset_and_is_reported(root: Path) -> None:
    plain = evaluate(root)
    fitted = evaluate_images(root / "truth", root / "made", root / "fit", mask=root / "mask", linear_fit=True)
    assert fitted["settings"]["linear_fit"] is True
    for before, after in zip(plain["metric_per_case"], fitted["metric_per_case"], strict=True):
        assert "linear_fit" not in before
        assert after["linear_fit"]["brain"]["gain"] == pytest.approx(0.5, abs=0.05)
        assert after["whole"]["psnr"] > before["whole"]["psnr"] + 5
    line = rows(root / "fit" / "per_case.csv")[0]
    assert float(line["gain"]) == fitted["metric_per_case"][0]["linear_fit"]["whole"]["gain"]


def test_a_given_data_range_is_used_and_stated(root: Path) -> None:
    ours, doubled = (
        evaluate(root, data_range=100.0),
        evaluate_images(root / "truth", root / "made", root / "doubled", data_range=200.0),
    )
    difference = doubled["mean"]["whole"]["psnr"]["mean"] - ours["mean"]["whole"]["psnr"]["mean"]
    assert difference == pytest.approx(20 * np.log10(2))
    assert doubled["settings"]["data_range"] == 200
    assert {line["data_range"] for line in rows(root / "doubled/per_case.csv")} == {"200.0"}
    assert list(doubled["mean"]) == ["whole"]


def test_csv_files_hold_what_the_json_holds(root: Path) -> None:
    record = evaluate(root)
    assert json.loads((root / "out/image_metrics.json").read_text(encoding="utf-8")) == json.loads(json.dumps(record))
    lines = rows(root / "out/per_case.csv")
    assert [(line["case"], line["region"]) for line in lines] == [(n, r) for n in NAMES for r in ("whole", "brain")]
    assert float(lines[3]["ms_ssim"]) == record["metric_per_case"][1]["brain"]["ms_ssim"]
    means = {(line["region"], line["metric"]): line for line in rows(root / "out/mean.csv")}
    assert float(means["brain", "mae"]["ci_low"]) == record["mean"]["brain"]["mae"]["ci"][0]
    assert means["whole", "ssim"]["cases"] == "3"


def test_equal_images_have_a_psnr_of_null_which_json_can_hold(root: Path) -> None:
    record = evaluate_images(root / "truth", root / "truth", root / "out")
    assert record["mean"]["whole"]["psnr"] == {"mean": None, "std": None, "ci": None}
    assert record["mean"]["whole"]["ssim"]["mean"] == pytest.approx(1)
    json.loads((root / "out/image_metrics.json").read_text(), parse_constant=pytest.fail)


def test_a_channel_suffix_may_differ_between_the_folders(root: Path) -> None:
    for name in NAMES:
        (root / "truth" / f"{name}.nii.gz").rename(root / "truth" / f"{name}_0001.nii.gz")
        (root / "made" / f"{name}.nii.gz").rename(root / "made" / f"{name}_0000.nii.gz")
    assert [row["prediction"] for row in evaluate(root)["metric_per_case"]] == [f"{n}_0000.nii.gz" for n in NAMES]


def test_names_that_end_in_a_year_stay_apart(root: Path) -> None:
    for folder in ("truth", "made", "mask"):
        for year, name in enumerate(NAMES, 2020):
            (root / folder / f"{name}.nii.gz").rename(root / folder / f"scan_{year}.nii.gz")
    assert [row["case"] for row in evaluate(root)["metric_per_case"]] == ["scan_2020", "scan_2021", "scan_2022"]


def spoil_missing_prediction(root: Path) -> str:
    (root / "made" / "carl.nii.gz").unlink()
    return "made holds no prediction of case carl"


def spoil_missing_mask(root: Path) -> str:
    (root / "mask" / "anna.nii.gz").unlink()
    return "mask holds no mask of case anna"


def spoil_two_channels(root: Path) -> str:
    for channel in (0, 1):
        (root / "made" / f"anna_000{channel}.nii.gz").write_bytes((root / "made/anna.nii.gz").read_bytes())
    (root / "made" / "anna.nii.gz").unlink()
    return r"anna.nii.gz fits several files \(anna_0000, anna_0001\)"


def spoil_shape(root: Path) -> str:
    write_image(root / "made/anna.nii.gz", np.ones((26, 28, 23), np.float32), AFFINE)
    return r"made/anna.nii.gz has shape \(26, 28, 23\)"


def spoil_place(root: Path) -> str:
    moved = AFFINE.copy()
    moved[0, 3] += 3
    write_image(root / "made/anna.nii.gz", load(root / "made/anna.nii.gz"), moved)
    return "made/anna.nii.gz lies 3 mm off"


def spoil_empty_mask(root: Path) -> str:
    write_image(root / "mask/anna.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    return "mask/anna.nii.gz is empty"


def spoil_constant(root: Path) -> str:
    write_image(root / "truth/carl.nii.gz", np.ones(SHAPE, np.float32), AFFINE)
    return r"truth/carl.nii.gz cannot be compared .* is constant"


def spoil_nan(root: Path) -> str:
    write_image(root / "made/carl.nii.gz", np.full(SHAPE, np.nan, np.float32), AFFINE)
    return "made/carl.nii.gz contains NaN"


def spoil_small(root: Path) -> str:
    for folder in ("truth", "made", "mask"):
        write_image(root / folder / "anna.nii.gz", np.ones((9, 9, 9), np.float32), AFFINE)
    return "truth/anna.nii.gz is too small"


def spoil_dimensions(root: Path) -> str:
    write_image(root / "truth/anna.nii.gz", np.ones((*SHAPE, 2), np.float32), AFFINE)
    return "split it into 3D volumes"


def spoil_damage(root: Path) -> str:
    path = root / "made/carl.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    return "made/carl.nii.gz cannot be read"


@pytest.mark.parametrize("spoil", [value for name, value in list(globals().items()) if name.startswith("spoil_")])
def test_what_the_user_can_put_right_is_one_line_that_names_the_file(root: Path, spoil: Any) -> None:
    with pytest.raises(UHFError, match=spoil(root)) as caught:
        evaluate(root)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in root.iterdir()) == ["made", "mask", "truth"]


@pytest.mark.parametrize("changes", [{"seed": -1}, {"data_range": 0.0}, {"data_range": float("nan")}])
def test_numbers_that_make_no_sense_are_refused(root: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UHFError):
        evaluate(root, **changes)


def test_an_output_folder_in_use_is_left_alone(root: Path) -> None:
    (root / "out").mkdir()
    (root / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UHFError, match="not empty"):
        evaluate(root)
    assert [path.name for path in (root / "out").iterdir()] == ["mine.txt"]


def test_the_command_shows_a_table_and_writes_the_files(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    arguments = ["-ref", root / "truth", "-pred", root / "made", "-mask", root / "mask", "-o", root / "out"]
    with pytest.raises(SystemExit) as left:
        main(["evaluate-images", *map(str, arguments), "--linear-fit", "--seed", "3"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for part in ("after the best linear intensity fit", "MS-SSIM", "brain mask", "seed 3", "2 scales", "max - min"):
        assert part in text
    assert sorted(path.name for path in (root / "out").iterdir()) == ["image_metrics.json", "mean.csv", "per_case.csv"]


def test_cases_that_cannot_be_compared_are_rows_of_their_own_and_status_1(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = evaluate(root)["metric_per_case"]
    write_image(root / "made" / "anna.nii.gz", np.zeros((26, 28, 23), np.float32), AFFINE)
    (root / "made" / "carl.nii.gz").write_bytes(b"no image")
    arguments = ["-ref", root / "truth", "-pred", root / "made", "-mask", root / "mask", "-o", root / "again"]
    with pytest.raises(SystemExit) as left:
        main(["evaluate-images", *map(str, arguments)])
    assert left.value.code == 1
    assert "2 cases were left out, the others are done: " in " ".join(capsys.readouterr().err.split())
    record = json.loads((root / "again" / "image_metrics.json").read_text())
    assert record["metric_per_case"] == [row for row in without if row["case"] == "béla 2"]
    assert "has shape" in record["settings"]["not_measured"]["anna"]
    odd = {row["case"]: row["region"] for row in rows(root / "again" / "per_case.csv") if not row["psnr"]}
    assert list(odd) == ["anna", "carl"]
    assert all(region.startswith("not measured: ") for region in odd.values())


def test_an_interval_of_few_cases_comes_with_a_warning(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate-images", "-ref", str(root / "truth"), "-pred", str(root / "made")]
    with pytest.raises(SystemExit):
        main([*words, "-o", str(root / "few")])
    told = " ".join(capsys.readouterr().err.split())
    assert "3 cases: intervals of the means are drawn from so few that they say next to nothing" in told
    monkeypatch.setattr("nnunet_uhf.evaluation.images.FEW_CASES", len(NAMES))
    with pytest.raises(SystemExit):
        main([*words, "-o", str(root / "enough")])
    assert "next to nothing" not in capsys.readouterr().err
