from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from helpers.keeper_samples import write
from helpers.made_plans import DATASET, make_plans
from nnunet_uhf.errors import KeeperFileError, MatchError, UHFError
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.keepers.file import read_header
from nnunet_uhf.nnunet.files import configuration_settings


def keeper_file(path: Path, dim: int, *, spacing: float = 1.0, seed: int = 0, **changes: Any) -> Path:
    return write(path, dim, seed=10 * dim + seed, spacing_mm=(spacing,) * dim, **changes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The preprocessed folder of a planned dataset."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    for variable in ("nnUNet_raw", "nnUNet_results", "nnUNet_UHF_GUIDE_CHANNEL"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "preprocessed" / DATASET
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps(make_plans()))
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1w"}, "labels": {"background": 0}}))
    return folder


def test_the_block_names_keeper_channel_and_spacing_and_leaves_the_plans_alone(tmp_path: Path) -> None:
    header = read_header(keeper_file(tmp_path / "kkn.safetensors", 3))
    plans = make_plans()
    plans["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.05, 1.5]
    before = copy.deepcopy(plans)
    block = attach(plans, "3d_fullres", {"channel_names": {"0": "T1w"}}, header)
    assert plans == before
    assert block.keeper.architecture == header.architecture
    assert block.keeper.sha256 == header.sha256
    assert block.keeper.provenance.training_cases == ["Sub_01", "sub_02"]
    assert {"architecture", "sha256", "decoder_sha256"}.isdisjoint(block.keeper.provenance.content)
    assert (block.guide_channel, block.spacing_ratio, block.preset) == (0, [1.0, 1.0, 1.5], "reference")
    assert block.fusion == {"init": "identity", "gate": "sigmoid"}
    written = block.as_json()
    assert (written["format"], written["role"]) == (1, "guided")
    assert json.loads(json.dumps(written)) == written


def test_a_cascade_is_matched_with_what_it_inherits(tmp_path: Path) -> None:
    header = read_header(keeper_file(tmp_path / "kkn.safetensors", 3))
    block = attach(make_plans(), "3d_cascade_fullres", {"channel_names": {"0": "T1w"}}, header)
    assert block.spacing_ratio == [1.0, 1.0, 1.0]


def test_an_unknown_configuration_lists_those_there_are() -> None:
    with pytest.raises(MatchError, match="2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres"):
        configuration_settings(make_plans(), "3d")


def test_new_plans_guide_the_named_configurations_under_a_name_of_their_own(folder: Path, tmp_path: Path) -> None:
    flat, solid = (keeper_file(tmp_path / f"{dim}.safetensors", dim) for dim in (2, 3))
    path = write_plans(700, ["2d", "3d_fullres"], [flat, solid])
    plans = json.loads(path.read_text())
    assert path.parent == folder
    assert re.fullmatch(r"nnUNetPlans_KKN_2d_3d_fullres_[0-9a-f]{8}", path.stem)
    assert plans["plans_name"] == path.stem
    for name, dim in (("2d", 2), ("3d_fullres", 3)):
        block = plans["configurations"][name].pop("uhf")
        assert block["keeper"]["architecture"]["dim"] == dim
    plans["plans_name"] = "nnUNetPlans"
    assert plans == make_plans() == json.loads((folder / "nnUNetPlans.json").read_text())


def test_a_single_keeper_gives_its_own_hash_to_the_name(folder: Path, tmp_path: Path) -> None:
    solid = keeper_file(tmp_path / "kkn.safetensors", 3)
    path = write_plans(DATASET, ["3d_fullres"], [tmp_path])
    assert path.stem == f"nnUNetPlans_KKN_3d_fullres_{read_header(solid).sha256[:8]}"


def test_nnunet_reads_the_new_plans_and_a_cascade_inherits_its_keeper(folder: Path, tmp_path: Path) -> None:
    keeper_file(tmp_path / "kkn.safetensors", 3)
    manager = PlansManager(str(write_plans("700", ["3d_fullres"], [tmp_path])))
    full, cascade = (manager.get_configuration(name) for name in ("3d_fullres", "3d_cascade_fullres"))
    assert full.data_identifier == "nnUNetPlans_3_1"
    assert cascade.configuration["uhf"] == full.configuration["uhf"]
    assert cascade.previous_stage_name == "3d_lowres"
    assert "uhf" not in manager.get_configuration("2d").configuration


def test_a_cascade_alone_can_be_guided(folder: Path, tmp_path: Path) -> None:
    keeper_file(tmp_path / "kkn.safetensors", 3)
    manager = PlansManager(str(write_plans(700, ["3d_cascade_fullres"], [tmp_path])))
    assert "uhf" in manager.get_configuration("3d_cascade_fullres").configuration
    assert "uhf" not in manager.get_configuration("3d_fullres").configuration


def test_every_configuration_gets_the_keeper_of_its_spacing(folder: Path, tmp_path: Path) -> None:
    for mm in (1, 2):
        keeper_file(tmp_path / f"{mm}.safetensors", 3, spacing=mm, seed=mm)
    plans = json.loads(write_plans(700, ["3d_lowres", "3d_fullres"], [tmp_path]).read_text())
    for name, mm in (("3d_lowres", 2), ("3d_fullres", 1)):
        block = plans["configurations"][name]["uhf"]
        assert block["spacing_ratio"] == [1.0, 1.0, 1.0]
        assert block["keeper"]["provenance"]["spacing_mm"] == [mm] * 3


def test_a_configuration_without_a_fitting_keeper_is_named_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    flat = keeper_file(tmp_path / "flat.safetensors", 2)
    with pytest.raises(MatchError, match=r"flat\.safetensors: Configuration 3d_fullres is 3D, the keeper 2D"):
        write_plans(700, ["2d", "3d_fullres"], [flat])
    other = keeper_file(tmp_path / "other.safetensors", 3, channel="FLAIR")
    with pytest.raises(MatchError, match=r"3d_fullres.*other\.safetensors.*FLAIR"):
        write_plans(700, ["2d", "3d_fullres"], [flat, other])
    assert {path.name for path in folder.iterdir()} == {"nnUNetPlans.json", "dataset.json"}


def test_of_several_keepers_only_those_that_fit_count(folder: Path, tmp_path: Path) -> None:
    keeper_file(tmp_path / "a.safetensors", 3, seed=1, channel="FLAIR")
    fitting = keeper_file(tmp_path / "b.safetensors", 3, seed=2)
    plans = json.loads(write_plans(700, ["3d_fullres"], [tmp_path]).read_text())
    assert plans["configurations"]["3d_fullres"]["uhf"]["keeper"]["sha256"] == read_header(fitting).sha256
    keeper_file(tmp_path / "c.safetensors", 3, seed=3)
    with pytest.raises(MatchError, match="Several different keepers fit configuration 3d_fullres"):
        write_plans(700, ["3d_fullres"], [tmp_path])


def test_writing_the_same_plans_again_is_no_error_but_other_plans_are_never_replaced(
    folder: Path, tmp_path: Path
) -> None:
    first, second = (keeper_file(tmp_path / f"{seed}.safetensors", 3, seed=seed) for seed in (1, 2))
    path = write_plans(700, ["3d_fullres"], [first], output_name="guided")
    before = path.read_bytes()
    assert write_plans(700, ["3d_fullres"], [first], output_name="guided") == path
    with pytest.raises(UHFError, match="exists and differs"):
        write_plans(700, ["3d_fullres"], [second], output_name="guided")
    with pytest.raises(UHFError, match="exists and differs"):
        write_plans(700, ["3d_fullres"], [second], output_name="nnUNetPlans")
    assert path.read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["dataset.json", "guided.json", "nnUNetPlans.json"]


@pytest.mark.parametrize("name", ["a__b", "../plans", "a b", "", "-x", "x" * 200])
def test_names_nnunet_could_not_take_apart_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    keeper_file(tmp_path / "kkn.safetensors", 3)
    if not name:
        assert write_plans(700, ["3d_fullres"], [tmp_path], output_name=name).stem.startswith("nnUNetPlans_KKN_")
        return
    with pytest.raises(UHFError, match="cannot be a plans name"):
        write_plans(700, ["3d_fullres"], [tmp_path], output_name=name)


def test_plans_that_are_guided_already_are_no_start(folder: Path, tmp_path: Path) -> None:
    keeper_file(tmp_path / "kkn.safetensors", 3)
    guided = write_plans(700, ["3d_fullres"], [tmp_path]).stem
    with pytest.raises(UHFError, match="already has a uhf block in 3d_fullres"):
        write_plans(700, ["3d_fullres"], [tmp_path], source_plans=guided)


def test_a_damaged_keeper_never_reaches_the_plans(folder: Path, tmp_path: Path) -> None:
    path = keeper_file(tmp_path / "kkn.safetensors", 3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(KeeperFileError, match="SHA-256"):
        write_plans(700, ["3d_fullres"], [path])


def test_missing_datasets_plans_and_variables_are_one_line_errors(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keeper_file(tmp_path / "kkn.safetensors", 3)
    good: dict[str, Any] = {"dataset": 700, "configurations": ["3d_fullres"], "keepers": [path]}
    for bad in ({"dataset": 123}, {"dataset": "Heads"}, {"dataset": "Dataset123_Gone"}, {"source_plans": "none"}):
        with pytest.raises(UHFError) as caught:
            write_plans(**(good | bad))
        assert "\n" not in str(caught.value)
    with pytest.raises(UHFError, match="No configuration"):
        write_plans(700, [], [path])
    (folder / "nnUNetPlans.json").write_text("{")
    with pytest.raises(UHFError, match="not valid JSON"):
        write_plans(700, ["3d_fullres"], [path])
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(UHFError, match="nnUNet_preprocessed is not set"):
        write_plans(DATASET, ["3d_fullres"], [path])


def test_the_default_name_tells_configurations_apart_and_plans_of_the_old_name_are_taken(
    folder: Path, tmp_path: Path
) -> None:
    keeper = keeper_file(tmp_path / "kkn.safetensors", 3)
    first = write_plans(DATASET, ["3d_fullres"], [keeper])
    second = write_plans(DATASET, ["3d_lowres"], [keeper])
    assert first.stem.startswith("nnUNetPlans_KKN_3d_fullres_")
    assert second.stem.startswith("nnUNetPlans_KKN_3d_lowres_")
    earlier = folder / f"nnUNetPlans_KKN_{first.stem[-8:]}.json"
    content = json.loads(first.read_text())
    earlier.write_text(json.dumps({**content, "plans_name": earlier.stem}))
    first.unlink()
    assert write_plans(DATASET, ["3d_fullres"], [keeper]) == earlier
    earlier.write_text(json.dumps({**content, "plans_name": earlier.stem, "original_median_spacing_after_transp": 3}))
    assert write_plans(DATASET, ["3d_fullres"], [keeper]) == first
