"""Keepers inside the package: found by name, in half precision, and never without a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers.keeper_samples import make_header, some_weights
from helpers.known_keepers import save, scan
from helpers.support import only_line, tiny_keeper
from helpers.workspace import Workspace
from nnunet_uhf.cli import main
from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.guidance.choice import choose_keeper
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.inference.features import features
from nnunet_uhf.inference.notes import describe_image
from nnunet_uhf.keepers import packaged
from nnunet_uhf.keepers.file import find_keepers, keeper_files, read_keeper, weights_sha256, write_keeper
from nnunet_uhf.keepers.origin import LABEL_MAPS, MADE_FROM


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder, with two keepers in it."""
    place = tmp_path / "packaged"
    tiny_keeper(place, 2, "LF", name="lf_2d.safetensors", use_mask_for_norm=True)
    tiny_keeper(place, 3, "LF", name="lf_3d.safetensors", use_mask_for_norm=True)
    monkeypatch.setattr(packaged, "FOLDER", place)
    return place


def test_builtin_is_every_keeper_of_the_package_and_a_name_is_one(folder: Path) -> None:
    assert find_keepers("builtin") == [folder / "lf_2d.safetensors", folder / "lf_3d.safetensors"]
    assert keeper_files("builtin/lf_3d") == [folder / "lf_3d.safetensors"]
    assert read_keeper("builtin/lf_3d").header.dim == 3
    with pytest.raises(KeeperFileError, match=r"choose among builtin/lf_2d, builtin/lf_3d"):
        read_keeper("builtin/other")


def test_a_version_without_keepers_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    assert "carries no keeper" in only_line(capsys, lambda: main(["inspect", "builtin"]))


def test_inspect_shows_each_of_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "builtin", "--json"])
    assert [json.loads(line)["dim"] for line in capsys.readouterr().out.splitlines()] == [2, 3]
    with pytest.raises(SystemExit):
        main(["inspect", "builtin"])
    assert "lf_3d.safetensors" in capsys.readouterr().out


def test_enhance_and_features_take_a_keeper_of_the_package(folder: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "in" / "case.nii.gz", scan(0))
    made = enhance(image.parent, tmp_path / "enhanced", "builtin/lf_2d", device="cpu", progress=False)
    assert [path.name for path in made] == ["case.nii.gz"]
    written = features(image.parent, tmp_path / "maps", Path("builtin"), levels=[4], device="cpu")
    assert written


def test_a_training_without_a_keeper_takes_one_that_fits_and_says_so(folder: Path, nnunet: Workspace) -> None:
    dataset = nnunet.dataset("single")
    choice = choose_keeper(dataset.plans(), "2d", dataset.dataset_json(), trainer="UHFTrainer", fold=0)
    assert choice.file is not None
    assert choice.file.path == folder / "lf_2d.safetensors"
    assert "nnUNet_UHF_KKN is not set: the package's own keeper guides, builtin/lf_2d" in str(choice.note)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_scans_of_a_t1w_channel_are_guided_by_what_the_package_carries(configuration: str, nnunet: Workspace) -> None:
    dataset = nnunet.dataset("single")
    described = {**dataset.dataset_json(), "channel_names": {"0": "T1w"}}
    choice = choose_keeper(dataset.plans(), configuration, described, trainer="UHFTrainer", fold=0)
    assert choice.file is not None
    assert choice.file.path in packaged.builtin_keepers()
    assert choice.file.path.name.startswith(f"t1w_{configuration[:2]}")
    assert f"the package's own keeper guides, {packaged.builtin_name(choice.file.path)}" in str(choice.note)
    assert choice.block.keeper.sha256 == choice.file.header.sha256


def test_a_training_that_none_of_them_fits_asks_for_a_keeper(folder: Path, nnunet: Workspace) -> None:
    dataset = nnunet.dataset("multi")  # its channels are others
    with pytest.raises(UHFError, match=r"no keeper: set nnUNet_UHF_KKN .* Those of the package do not fit"):
        choose_keeper(dataset.plans(), "2d", dataset.dataset_json(), trainer="UHFTrainer", fold=0)


def test_the_variable_goes_before_the_package_and_may_name_it(
    folder: Path, nnunet: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = nnunet.dataset("single")
    for value, wanted in (
        ("builtin", folder / "lf_2d.safetensors"),
        (str(tiny_keeper(tmp_path, 2, "LF", seed=1)), tmp_path / "keeper_2d.safetensors"),
    ):
        monkeypatch.setenv("nnUNet_UHF_KKN", value)
        choice = choose_keeper(dataset.plans(), "2d", dataset.dataset_json(), trainer="UHFTrainer", fold=0)
        assert choice.file is not None
        assert choice.file.path == wanted
        assert choice.note is None


def test_half_precision_halves_the_file_and_comes_back_as_float32(tmp_path: Path) -> None:
    weights = {name: tensor.float() for name, tensor in some_weights().items()}
    header = write_keeper(tmp_path / "half.safetensors", header=make_header(), keeper_state=weights, half=True)
    read = read_keeper(tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in read.keeper_state.values()} == {torch.float32}
    assert header.sha256 == weights_sha256(read.keeper_state)  # of what networks hold, checkpoints too
    for name, tensor in weights.items():
        torch.testing.assert_close(read.keeper_state[name], tensor, rtol=1e-3, atol=1e-6)
    with safe_open(tmp_path / "half.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_an_image_of_a_keeper_of_label_maps_says_that_it_has_seen_no_scan() -> None:
    header = make_header(route="simulated", simulation={MADE_FROM: LABEL_MAPS}, target_field_T=7.0)
    assert "simulated from label maps alone" in describe_image(header)
    assert "it has seen no scan" in describe_image(header)


@pytest.mark.parametrize("path", packaged.builtin_keepers(), ids=lambda path: path.name)
def test_what_the_package_carries_is_what_it_says(path: Path) -> None:
    file = read_keeper(path)
    assert path.stat().st_size < 3_000_000
    assert file.header.route == "simulated"
    assert "no scan of any field strength was seen" in file.header.metrics["note"]
    assert "Apache-2.0" in file.header.licence
    assert file.header.metrics["keeper_fitted"]["psnr_brain"] > file.header.metrics["input"]["psnr_brain"]
    assert np.isfinite([float(tensor.abs().max()) for tensor in file.keeper_state.values()]).all()
