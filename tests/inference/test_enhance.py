"""`enhance` with keeper files: geometry, notes, and the errors of users."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.ndimage import gaussian_filter

from helpers.support import tiny_keeper
from nnunet_uhf import __version__
from nnunet_uhf.errors import LeftOutError, UHFError
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.notes import describe_image
from nnunet_uhf.keepers.file import build_enhancer, read_header, read_keeper

AFFINE = np.array([[-1.1, 0, 0, 20], [0, 0, 1.0, -30], [0, -0.9, 0, 12], [0, 0, 0, 1]])
SHAPE = (30, 34, 28)


def scan(shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    image = 80 + 20 * gaussian_filter(np.random.default_rng(2).standard_normal(shape), 1.5) / 0.1
    image[:3] = image[-2:] = 0
    return image.astype(np.float32)


def save(path: Path, image: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(image, affine), path)
    return path


@pytest.fixture(scope="module")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("keepers")
    return {dim: tiny_keeper(folder, dim) for dim in (2, 3)}


def quiet(*arguments: Any, **options: Any) -> list[Path]:
    return enhance(*arguments, device="cpu", progress=False, **options)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_folder_becomes_a_folder_of_the_same_names_in_the_same_geometry(
    tmp_path: Path, keepers: dict[int, Path], dim: int
) -> None:
    save(tmp_path / "in" / "sub-01_T1w.nii.gz", scan())
    save(tmp_path / "in" / "sub-02_T1w.nii", scan((26, 30, 33)), np.diag([1.3, -1, 1.2, 1]))
    (tmp_path / "in" / "readme.txt").write_text("not an image")
    written = quiet(tmp_path / "in", tmp_path / "out", keepers[dim])
    names = {"sub-01_T1w.nii.gz", "sub-01_T1w.json", "sub-02_T1w.nii", "sub-02_T1w.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for path in written:
        before, after = nibabel.load(tmp_path / "in" / path.name), nibabel.load(path)
        assert after.shape == before.shape
        assert after.get_data_dtype() == np.float32
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
        assert np.isfinite(after.get_fdata()).all()
        background = before.get_fdata() == 0
        assert (after.get_fdata()[background] == 0).mean() > 0.95


def test_one_patch_of_the_keepers_spacing_is_the_output_of_its_network(
    tmp_path: Path, keepers: dict[int, Path]
) -> None:
    """Normalise, run the network, denormalise: written out by hand for a volume of exactly one patch."""
    image = np.random.default_rng(3).uniform(50, 150, (32, 32, 32)).astype(np.float32)
    path = save(tmp_path / "in.nii.gz", image, np.eye(4))
    (out,) = quiet(path, tmp_path / "out.nii.gz", keepers[3])
    data = torch.from_numpy(image.transpose(2, 1, 0).copy())
    with torch.no_grad():
        network = build_enhancer(read_keeper(keepers[3]))
        decoded = network(((data - data.mean()) / data.std(correction=0))[None, None])[0, 0]
    intensity = read_header(keepers[3]).target_intensity
    expected = (decoded * intensity["std"] + intensity["mean"]).numpy().transpose(2, 1, 0)
    np.testing.assert_allclose(nibabel.load(out).get_fdata(), expected, atol=1e-3)


def test_the_note_says_what_the_image_is(tmp_path: Path, keepers: dict[int, Path]) -> None:
    quiet(save(tmp_path / "in" / "a.nii.gz", scan()), tmp_path / "out", keepers[3])
    note = json.loads((tmp_path / "out" / "a.json").read_text())
    header = read_header(keepers[3])
    assert note["model"] == keepers[3].name
    assert note["keepers"] == [
        {"fold": 0, "sha256": header.sha256, "decoder_sha256": header.decoder_sha256, "held_out_metrics": {}}
    ]
    assert (note["route"], note["source_field_T"], note["target_field_T"]) == ("paired", 0.36, 3.0)
    assert note["nnunet_uhf_version"] == __version__
    assert "not for diagnosis" in note["description"]
    assert "inferred" in note["description"]
    assert "simulated" not in note["description"].lower()
    assert "7" not in note["description"], "a field strength nobody measured"


def test_no_image_is_ever_without_its_note(
    tmp_path: Path, keepers: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nnunet_uhf.inference.maker.ImageMaker.note", killed)
        with pytest.raises(KeyboardInterrupt):
            quiet(save(tmp_path / "in" / "a.nii.gz", scan()), tmp_path / "out", keepers[2])
    assert not (tmp_path / "out").exists()


def test_a_simulated_keeper_is_called_so(tmp_path: Path) -> None:
    keeper = tiny_keeper(tmp_path, 3, route="simulated")
    quiet(save(tmp_path / "in" / "a.nii.gz", scan()), tmp_path / "out", keeper)
    note = json.loads((tmp_path / "out" / "a.json").read_text())
    assert note["route"] == "simulated"
    assert "SIMULATED low-field images (0.36 T) of scans at 3 T" in note["description"]
    unknown = tiny_keeper(tmp_path, 2, source_field_T=None)
    assert "unknown field strength" in describe_image(read_header(unknown))


def test_images_that_are_there_stay_unless_overwriting_is_asked_for(tmp_path: Path, keepers: dict[int, Path]) -> None:
    save(tmp_path / "in" / "a.nii.gz", scan())
    save(tmp_path / "in" / "b.nii.gz", scan())
    save(tmp_path / "out" / "a.nii.gz", np.zeros(SHAPE, np.float32))
    told = Console(file=io.StringIO(), width=200)
    written = enhance(tmp_path / "in", tmp_path / "out", keepers[2], device="cpu", console=told)
    assert [path.name for path in written] == ["b.nii.gz"]
    assert "1 of 2 images are already there" in told.file.getvalue()  # type: ignore[attr-defined]
    assert not nibabel.load(tmp_path / "out" / "a.nii.gz").get_fdata().any()
    written = quiet(tmp_path / "in", tmp_path / "out", keepers[2], overwrite=True)
    assert len(written) == 2
    assert nibabel.load(tmp_path / "out" / "a.nii.gz").get_fdata().any()


def test_a_world_matrix_that_itk_refuses_is_read_and_kept(tmp_path: Path, keepers: dict[int, Path]) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.1
    path = tmp_path / "in.nii.gz"
    image = nibabel.Nifti1Image(scan(), None)
    image.set_sform(sheared, code=1)
    nibabel.save(image, path)
    (out,) = quiet(path, tmp_path / "out.nii.gz", keepers[2])
    np.testing.assert_allclose(nibabel.load(out).affine, sheared, atol=1e-6)


def test_an_ending_in_capitals_is_read_and_written_in_small_letters(tmp_path: Path, keepers: dict[int, Path]) -> None:
    save(tmp_path / "in" / "A.nii.gz", scan()).rename(tmp_path / "in" / "A.NII.GZ")
    (out,) = quiet(tmp_path / "in", tmp_path / "out", keepers[2])
    assert out.name == "A.nii.gz"
    assert np.ptp(nibabel.load(out).get_fdata()) > 0


def test_a_2d_keeper_enhances_a_2d_image(tmp_path: Path, keepers: dict[int, Path]) -> None:
    path = save(tmp_path / "flat.nii.gz", scan()[5], np.eye(4))
    (out,) = quiet(path, tmp_path / "out", keepers[2])
    assert nibabel.load(out).shape == SHAPE[1:]
    assert np.ptp(nibabel.load(out).get_fdata()) > 0


def test_mirroring_changes_the_image_and_the_same_call_does_not(tmp_path: Path, keepers: dict[int, Path]) -> None:
    path = save(tmp_path / "in.nii.gz", scan())
    images = [
        nibabel.load(quiet(path, tmp_path / f"{name}.nii.gz", keepers[3], **options)[0]).get_fdata()
        for name, options in (("one", {}), ("two", {}), ("mirrored", {"mirroring": True}))
    ]
    assert np.array_equal(images[0], images[1])
    assert not np.allclose(images[0], images[2])


def broken_inputs(folder: Path) -> dict[str, Path]:
    nan = scan()
    nan[4, 4, 4] = np.nan
    colours = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    made = {
        "text.nii.gz": folder / "text.nii.gz",
        "cut.nii.gz": folder / "cut.nii.gz",
        "photo.png": folder / "photo.png",
        "4d": save(folder / "series.nii.gz", np.ones((20, 20, 20, 3), np.float32)),
        "slice": save(folder / "slice.nii.gz", np.ones((20, 20, 1), np.float32)),
        "nan": save(folder / "nan.nii.gz", nan),
        "constant": save(folder / "constant.nii.gz", np.full(SHAPE, 7, np.float32)),
        "colours": save(folder / "colours.nii.gz", colours),
        "missing": folder / "missing.nii.gz",
    }
    made["text.nii.gz"].write_text("this is no image")
    made["photo.png"].write_bytes(b"png")
    whole = save(folder / "whole.nii.gz", scan()).read_bytes()
    made["cut.nii.gz"].write_bytes(whole[: len(whole) // 2])
    return made


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text.nii.gz", "not a readable NIfTI"),
        ("cut.nii.gz", "cannot be read"),
        ("photo.png", "not a NIfTI file"),
        ("4d", r"4 dimensions \(20, 20, 20, 3\)"),
        ("slice", r"single slice \(20, 20, 1\)"),
        ("nan", "NaN"),
        ("constant", "same intensity everywhere"),
        ("colours", "colours"),
        ("missing", "does not exist"),
    ],
)
def test_a_bad_image_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, keepers: dict[int, Path], kind: str, message: str
) -> None:
    path = broken_inputs(tmp_path / "in")[kind]
    with pytest.raises(UHFError, match=message) as error:
        quiet(path, tmp_path / "out", keepers[3])
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out/*"))


def test_odd_files_are_left_out_and_named_and_the_others_are_done(tmp_path: Path, keepers: dict[int, Path]) -> None:
    save(tmp_path / "in" / "a.nii.gz", np.ones((20, 20, 20, 2), np.float32))
    hole = scan()
    hole[0, 0, 0] = np.nan
    save(tmp_path / "in" / "b.nii.gz", hole)
    save(tmp_path / "in" / "c.nii.gz", scan())
    with pytest.raises(LeftOutError, match=r"2 cases were left out.*a\.nii\.gz.*b\.nii\.gz.*NaN"):
        quiet(tmp_path / "in", tmp_path / "out", keepers[3])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["c.json", "c.nii.gz"]


def test_a_folder_of_which_nothing_can_be_enhanced_is_refused(tmp_path: Path, keepers: dict[int, Path]) -> None:
    for name in "ab":
        save(tmp_path / "in" / f"{name}.nii.gz", np.ones((20, 20, 20, 2), np.float32))
    with pytest.raises(UHFError, match=r"a\.nii\.gz has 4 dimensions") as error:
        quiet(tmp_path / "in", tmp_path / "out", keepers[3])
    assert not isinstance(error.value, LeftOutError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("sform", "qform"), [(2, 1), (4, 1), (2, 2), (0, 0), (1, 1)])
def test_the_image_lies_on_its_scan_for_every_program(
    tmp_path: Path, keepers: dict[int, Path], sform: int, qform: int
) -> None:
    scanner, moved = np.diag([1.0, 1, 2, 1]), np.diag([1.0, 1, 2, 1])
    moved[:3, 3] = (5, 3, -2)
    image = nibabel.Nifti1Image(scan(), None)
    image.set_qform(scanner, qform)
    image.set_sform(moved, sform)
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / "a.nii.gz")
    quiet(tmp_path / "in", tmp_path / "out", keepers[3])
    before, after = (nibabel.load(tmp_path / folder / "a.nii.gz").header for folder in ("in", "out"))
    np.testing.assert_array_equal(after.get_sform(), before.get_sform())
    np.testing.assert_array_equal(after.get_qform(), before.get_qform())
    for name in ("sform_code", "qform_code", "xyzt_units"):
        assert after[name] == before[name]
    places = [SimpleITK.ReadImage(str(tmp_path / folder / "a.nii.gz")) for folder in ("in", "out")]
    assert places[0].GetOrigin() == places[1].GetOrigin()
    assert places[0].GetDirection() == places[1].GetDirection()


def test_outputs_that_would_replace_inputs_or_each_other_are_refused(tmp_path: Path, keepers: dict[int, Path]) -> None:
    path = save(tmp_path / "in" / "a.nii.gz", scan())
    for output in (tmp_path / "in", path, tmp_path / "in" / "a.nii"):
        with pytest.raises(UHFError, match="would be overwritten"):
            quiet(path, output, keepers[2], overwrite=True)
    with pytest.raises(UHFError, match="must be a folder"):
        quiet(tmp_path / "in", tmp_path / "out.nii.gz", keepers[2])
    (tmp_path / "file").write_text("")
    with pytest.raises(UHFError, match="is a file"):
        quiet(path, tmp_path / "file", keepers[2])
    save(tmp_path / "in" / "a.nii", scan())
    with pytest.raises(UHFError, match="holds case a twice"):
        quiet(tmp_path / "in", tmp_path / "out", keepers[2])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UHFError, match=r"holds no \.nii"):
        quiet(tmp_path / "empty", tmp_path / "out", keepers[2])


def test_models_that_cannot_enhance_are_refused_with_what_to_do(tmp_path: Path, keepers: dict[int, Path]) -> None:
    path = save(tmp_path / "a.nii.gz", scan())
    with pytest.raises(UHFError, match=r"no decoder.*Export it again with its decoder"):
        quiet(path, tmp_path / "out", tiny_keeper(tmp_path / "k", 3, decoder=False))
    with pytest.raises(UHFError, match="does not exist"):
        quiet(path, tmp_path / "out", tmp_path / "no.safetensors")
    with pytest.raises(UHFError, match="no model folder"):
        quiet(path, tmp_path / "out", tmp_path)
    with pytest.raises(UHFError, match="holds one fold"):
        quiet(path, tmp_path / "out", keepers[3], folds=[0])
    with pytest.raises(UHFError, match="CTNormalization"):
        quiet(path, tmp_path / "out", tiny_keeper(tmp_path / "ct", 3, normalisation="CTNormalization"))
    with pytest.raises(UHFError, match="MyOwnNormalization"):
        quiet(path, tmp_path / "out", tiny_keeper(tmp_path / "own", 3, normalisation="MyOwnNormalization"))
    with pytest.raises(UHFError, match="-device cpu"):
        enhance(path, tmp_path / "out", keepers[3], device="mps")
    with pytest.raises(UHFError, match="choose cuda, cpu or mps"):
        enhance(path, tmp_path / "out", keepers[3], device="quantum")
    assert not (tmp_path / "out").exists()
