"""`evaluate-images --unpaired`: made images against real ones of other subjects."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nnunet_uhf import write_untrained_keeper
from nnunet_uhf.cli.run import main
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.unpaired_images import evaluate_unpaired


def write(folder: Path, name: str, data: np.ndarray, *, mm: float = 1.0) -> None:
    folder.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), np.diag([mm, mm, 2.0, 1])), folder / f"{name}.nii.gz")


def head(seed: int, *, shape: tuple[int, int, int] = (40, 44, 12)) -> np.ndarray:
    grid = np.indices(shape) - (np.array(shape) / 2)[:, None, None, None]
    ball = (grid**2 / (np.array(shape) / 2.5)[:, None, None, None] ** 2).sum(axis=0) < 1
    inner = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return np.where(ball, 100 + 100 * np.digitize(inner, [-0.05, 0.05]) + 300 * inner, 0).clip(0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    random = np.random.default_rng(0)
    for number in range(4):
        write(root / "high", f"h{number}", head(number))
    for number in range(3):
        image = head(10 + number)
        brain = image > 0
        write(root / "low", f"l{number}_0000", np.where(brain, 400 - 0.5 * image, 0))
        write(root / "good", f"l{number}", image)
        write(root / "moved", f"l{number}", np.roll(image, 3, axis=0))
        noisy = image + 80 * random.standard_normal(image.shape)
        write(root / "noisy", f"l{number}", np.where(brain, noisy.clip(1), 0))
    write_untrained_keeper(root / "keeper.safetensors", dim=2, base_features=4)
    return {path.name: path for path in root.iterdir()}


def test_images_of_the_right_look_are_nearer_to_real_ones_and_moved_ones_are_found_out(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {}
    for name in ("good", "moved", "noisy"):
        words = ["-ref", folders["high"], "-pred", folders[name], "-input", folders["low"], "-o", tmp_path / name]
        words += ["--unpaired", "--features", folders["keeper.safetensors"]]
        with pytest.raises(SystemExit) as end:
            main(["evaluate-images", *map(str, words)])
        assert end.value.code in (0, None)
        sets[name] = json.loads((tmp_path / name / "unpaired_metrics.json").read_text())["sets"]
    (distance,) = (key for key in sets["good"]["made"] if key.startswith("fd_keeper"))
    good, moved, noisy = (sets[name]["made"] for name in ("good", "moved", "noisy"))
    assert good[distance] < noisy[distance]
    assert good["shift_pixels"] < 0.1
    assert moved["shift_pixels"] > 2
    assert good["local_correlation"] > 0.7 > moved["local_correlation"]
    assert noisy["roughness"] > good["roughness"]
    assert noisy["contrast"] < good["contrast"]
    assert good["contrast"] == pytest.approx(sets["good"]["high_field"]["contrast"], rel=0.3)
    assert distance in sets["good"]["floor"]
    assert "ms_ssim_diversity" in good
    assert (tmp_path / "good" / "per_case.csv").is_file()
    page = (tmp_path / "good" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 3 * 2 + 1
    assert f"{good['contrast']:.4g}" in page
    assert "Whether an image is right, only a truth can say" in " ".join(capsys.readouterr().out.split())


def test_without_input_and_network_there_is_what_can_be_said(folders: dict[str, Path], tmp_path: Path) -> None:
    record = evaluate_unpaired(folders["high"], folders["good"], tmp_path / "out", plane="coronal")
    assert set(record["sets"]) == {"high_field", "made"}
    assert set(record["sets"]["made"]) == {"roughness", "contrast", "ms_ssim_diversity"}


def test_voxels_of_another_size_are_compared_at_one(folders: dict[str, Path], tmp_path: Path) -> None:
    for number in range(2):
        image = head(10 + number, shape=(80, 88, 12))
        write(tmp_path / "fine", f"l{number}", image, mm=0.5)
    record = evaluate_unpaired(folders["high"], tmp_path / "fine", tmp_path / "out")
    assert 0 < record["sets"]["made"]["ms_ssim_diversity"] < 1


def test_the_mask_of_an_image_is_found_whatever_the_capitals_of_their_endings(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    made, masks = tmp_path / "made", tmp_path / "masks"
    write(made, "m0", head(20))
    for name in ("m0", *(path.name.removesuffix(".nii.gz") for path in folders["high"].iterdir())):
        write(masks, name, np.ones((40, 44, 12)))
    (made / "m0.nii.gz").rename(made / "m0.NII.GZ")
    record = evaluate_unpaired(folders["high"], made, tmp_path / "out", mask=masks)
    assert [row["case"] for row in record["metric_per_case"]["made"]] == ["m0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--unpaired", "--linear-fit"], "need a truth"),
        (["--features", "imagenet"], "are of --unpaired"),
        (["--unpaired", "--plane", "oblique"], "plane is 'oblique'"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    words: list[str], message: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["-ref", str(folders["high"]), "-pred", str(folders["good"]), "-o", str(tmp_path / "out"), *words]
    with pytest.raises(SystemExit) as end:
        main(["evaluate-images", *given])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_made_image_without_its_input_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UHFError, match="holds no input of case h0"):
        evaluate_unpaired(folders["high"], folders["high"], tmp_path / "out", source=folders["low"])
