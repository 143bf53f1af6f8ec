"""One modality of others at any slice distance: geometry, intensities, refusals, whole volumes without flicker."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from rich.console import Console

from helpers.unicoal_samples import made_generator, write_unicoal_keeper
from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.modality_enhance import enhance_modality
from nnunet_uhf.inference.modality_geometry import asked_geometry
from nnunet_uhf.inference.modality_request import ModalityRequest
from nnunet_uhf.inference.preprocess import managers
from nnunet_uhf.inference.slice_volumes import SliceVolumes, Wanted
from nnunet_uhf.keepers.file import read_header, read_keeper
from nnunet_uhf.networks.unicoal.modalities import Modalities, Slices

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unicoal_keeper(tmp_path_factory.mktemp("model") / "unicoal.safetensors")


def scan(path: Path, *, shape: tuple[int, ...] = (28, 30, 8), spacing: tuple[float, ...] = (1, 1, 3)) -> Path:
    rng = np.random.default_rng(0)
    image = rng.uniform(50, 150, shape)
    image[:4] = image[:, :, :2] = 0
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1])
    affine[:3, 3] = 5, -7, 11
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), path)
    return path


def test_a_header_comes_back_with_its_modalities(model: Path) -> None:
    header = read_header(model)
    assert header.format_version == 4
    assert header.modalities is not None
    assert Modalities.of(header.modalities).ratio == (1, 4)


@pytest.mark.parametrize(
    "change", [{"sources": ["FLAIR"]}, {"intensity": {}}, {"sam_sha256": "none"}, {"ratio": [3, 2]}, {"more": 1}]
)
def test_a_header_that_says_anything_else_of_modalities_is_refused(model: Path, tmp_path: Path, change: dict) -> None:
    content = read_header(model).modalities
    with pytest.raises(UHFError, match="'modalities' must be an object that describes modalities"):
        write_unicoal_keeper(tmp_path / "other.safetensors", described={**(content or {}), **change})


def test_the_first_slice_stays_and_the_others_follow_at_any_distance(model: Path, tmp_path: Path) -> None:
    source = scan(tmp_path / "in" / "anna.nii.gz")
    (written,) = enhance_modality(
        tmp_path / "in", tmp_path / "out", model, to="T1w", source="T1w", spacing=1.3, **QUIET
    )
    image, before = nibabel.load(written), nibabel.load(source)
    assert image.shape == (28, 30, 17)  # floor(7 * 3 / 1.3) + 1
    np.testing.assert_allclose(image.affine[:3, 3], before.affine[:3, 3], atol=1e-5)
    np.testing.assert_allclose(np.abs(np.diag(image.affine))[:3], [1, 1, 1.3], atol=1e-5)
    values = image.get_fdata()
    assert not values[:4].any()
    # far from any slice that holds something there is nothing
    assert not values[:, :, 0].any()
    assert values[10:20, 10:20, 8:].std() > 0
    note = json.loads((tmp_path / "out" / "anna.json").read_text())
    assert note["from"] == ["T1w"]
    assert note["to"] == "T1w"
    assert note["slices"]["spacing_mm"] == 1.3
    assert "not for diagnosis" in note["description"]


def test_a_scan_that_is_stored_from_the_other_end_gives_the_same_places(tmp_path: Path) -> None:
    model = write_unicoal_keeper(tmp_path / "oriented.safetensors", orientation="LAS")
    other_way = np.array([[0, 1], [1, -1], [2, -1]])
    before = nibabel.load(scan(tmp_path / "in" / "anna.nii.gz"))
    (tmp_path / "turned").mkdir()
    nibabel.save(before.as_reoriented(other_way), tmp_path / "turned" / "anna.nii.gz")
    asked = {"to": "T1w", "source": "T1w", "spacing": 1.5}
    images = [
        nibabel.load(enhance_modality(tmp_path / name, tmp_path / f"out_{name}", model, **asked, **QUIET)[0])  # type: ignore[arg-type]
        for name in ("in", "turned")
    ]
    # 1.5 mm is half of a slice: both grids are the same places, whatever end they begin at
    back = images[1].as_reoriented(other_way)
    np.testing.assert_allclose(back.affine, images[0].affine, atol=1e-4)
    np.testing.assert_allclose(back.get_fdata(), images[0].get_fdata(), atol=1e-2)


def test_intensities_are_those_of_the_scan_or_of_the_target(model: Path, tmp_path: Path) -> None:
    scan(tmp_path / "in" / "anna.nii.gz")
    images = {}
    for target in ("T1w", "T2w"):
        (path,) = enhance_modality(tmp_path / "in", tmp_path / target, model, to=target, source="T1w", **QUIET)
        images[target] = nibabel.load(path).get_fdata()[10:20, 10:20, 3:]
    # the spline alone lies between 50 and 150; 10 to 210 stand for -1 and 1 of T2w
    assert abs(images["T1w"].mean() - 100) < 25
    assert abs(images["T2w"].mean() - 110) < 60
    assert images["T2w"].std() != pytest.approx(images["T1w"].std(), rel=1e-3)


def test_the_axis_of_the_slices_may_be_named(model: Path, tmp_path: Path) -> None:
    source = scan(tmp_path / "in" / "anna.nii.gz", shape=(8, 30, 28), spacing=(3, 1, 1))
    header = read_header(model)
    with pytest.raises(UHFError, match="name the axis of the slices, --axis 0 or --axis 2"):
        asked_geometry(header, source)
    geometry = asked_geometry(header, source, axis="sagittal", spacing_mm=1.5)
    assert (geometry.file_axis, geometry.count, geometry.asked_count) == (0, 8, 15)
    (written,) = enhance_modality(
        source, tmp_path / "out.nii.gz", model, to="T1w", source="T1w", spacing=1.5, axis="sagittal", **QUIET
    )
    assert nibabel.load(written).shape == (15, 30, 28)


def test_what_was_not_trained_is_refused_in_one_line(model: Path, tmp_path: Path) -> None:
    scan(tmp_path / "in" / "anna.nii.gz")
    for told, asked in (
        ("--to FLAIR: .* was trained to make T1w, T2w", {"to": "FLAIR", "source": "T1w"}),
        ("--from FLAIR: .* was trained on T1w, T2w", {"to": "T1w", "source": "FLAIR"}),
        (r"say which of them the scans are \(--from\)", {"to": "T1w"}),
        (r"say which \(--to\)", {"to": None, "source": "T1w"}),
        ("reads one source at a time", {"to": "T1w", "source": ["T1w", "T2w"]}),
        ("--spacing 0", {"to": "T1w", "source": "T1w", "spacing": 0.0}),
    ):
        with pytest.raises(UHFError, match=told):
            enhance_modality(tmp_path / "in", tmp_path / "out", model, **asked, **QUIET)  # type: ignore[arg-type]
    with pytest.raises(UHFError, match="say which"):
        enhance(tmp_path / "in", tmp_path / "out", model, device="cpu", progress=False)


def test_a_ratio_beyond_the_training_is_warned_of(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scan(tmp_path / "in" / "anna.nii.gz", shape=(12, 12, 4), spacing=(1, 1, 6))
    console = Console(stderr=True, width=200)
    enhance_modality(
        tmp_path / "in", tmp_path / "out", model, to="T1w", source="T1w", spacing=1, console=console, **QUIET
    )
    assert "6 slices of one, the model was trained on 1 to 4" in capsys.readouterr().err


def test_another_contrast_on_the_slices_of_the_scan_is_what_every_training_draws() -> None:
    known = Modalities(tesla={"A": 3.0, "B": 3.0}, sources=("A",), targets=("A", "B"), ratio=(2, 4), gap=(0.25, 0.3))
    made, thin = (ModalityRequest(target=name, sources=("A",)) for name in ("B", "A"))
    assert made.beyond_training(known, 1.0) is None
    assert made.slices(known, distance_mm=4, ratio=1.0).thickness_mm == 4
    assert "trained on 2 to 4" in str(thin.beyond_training(known, 1.0))
    assert made.beyond_training(known, 2.5) is None
    assert thin.slices(known, distance_mm=4, ratio=2.5).thickness_mm == 3  # with the least of the gaps


def test_of_models_of_several_planes_the_mean_is_written(model: Path, tmp_path: Path) -> None:
    source = scan(tmp_path / "anna.nii.gz", shape=(12, 14, 10), spacing=(1, 1, 1))
    planes = [model, write_unicoal_keeper(tmp_path / "coronal.safetensors", transpose_forward=(1, 0, 2))]
    asked = {"to": "T2w", "source": "T1w", **QUIET}
    images = []
    for number, models in enumerate((planes[0], planes[1], planes)):
        (path,) = enhance_modality(source, tmp_path / f"{number}.nii.gz", models, **asked)  # type: ignore[arg-type]
        images.append(nibabel.load(path).get_fdata())
    assert np.abs(images[0] - images[1]).max() > 1
    np.testing.assert_allclose(images[2], (images[0] + images[1]) / 2, atol=1e-3)
    note = json.loads((tmp_path / "2.json").read_text())
    assert [(one["model"], one["array_axis"]) for one in note["mean_of"]] == [
        (model.name, 2), ("coronal.safetensors", 1),
    ]  # fmt: skip
    with pytest.raises(UHFError, match="have one grid in common, the scan's: leave --spacing out"):
        enhance_modality(source, tmp_path / "3.nii.gz", planes, spacing=0.5, **asked)  # type: ignore[arg-type]


def test_several_sources_are_read_together(tmp_path: Path) -> None:
    known = Modalities(tesla={"A": 1.5, "B": 3.0}, sources=("A", "B"), targets=("B",), several_sources=True)
    model = write_unicoal_keeper(tmp_path / "joint.safetensors", modalities=known)
    for number in (0, 1):
        scan(tmp_path / "in" / f"anna_{number:04d}.nii.gz", shape=(12, 12, 5), spacing=(1, 1, 2))
    (written,) = enhance_modality(tmp_path / "in", tmp_path / "out", model, to="B", source=["A", "B"], **QUIET)
    assert written.name == "anna.nii.gz"


def made_volumes(patch: int) -> tuple[SliceVolumes, Wanted]:
    torch.manual_seed(0)
    known = Modalities(tesla={"A": 3.0}, sources=("A",), targets=("A",))
    network = made_generator(code=known.code, numbers=known.numbers).eval()
    return _volumes(network, known, patch), Wanted(
        target="A", slices=Slices(distance_mm=2, thickness_mm=2), spacing_mm=1
    )


def _volumes(network: torch.nn.Module, known: Modalities, patch: int) -> SliceVolumes:
    from types import SimpleNamespace

    return SliceVolumes(network, known, SimpleNamespace(patch_size=[patch, patch]), device=torch.device("cpu"))  # type: ignore[arg-type]


def test_a_volume_does_not_flicker_and_comes_out_the_same_each_time() -> None:
    volumes, wanted = made_volumes(32)
    stack = np.repeat(np.random.default_rng(0).uniform(0, 2, (1, 32, 32)), 6, axis=0).astype(np.float32)
    first, second = (volumes.predict({"A": stack}, wanted, places=[2.0, 3.0]) for _ in range(2))
    assert np.array_equal(first, second)
    # the same slices and the same question at another place along the axis
    np.testing.assert_allclose(first[0], first[1], atol=1e-6)


def test_both_ends_of_a_gap_are_asked_for_by_the_slice_at_hand() -> None:
    volumes, wanted = made_volumes(32)
    stack = np.random.default_rng(0).uniform(0, 2, (6, 32, 32)).astype(np.float32)
    images = volumes.predict({"A": stack}, wanted)
    assert len(images) == 11
    assert np.isfinite(images).all()


def test_the_file_of_a_model_builds_the_network_that_was_written(model: Path) -> None:
    file = read_keeper(model)
    assert managers(file.header)[1].patch_size == [32, 32]
    assert file.decoder_state is not None
