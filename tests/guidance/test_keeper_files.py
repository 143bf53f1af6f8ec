"""Which keeper guides a configuration: one rule for plans and for training, and each file is read once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.counting import count_calls
from helpers.keeper_samples import write
from helpers.made_plans import make_plans
from nnunet_uhf.errors import KeeperFileError, MatchError
from nnunet_uhf.guidance.choice import choose_keeper
from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE, KeeperFiles
from nnunet_uhf.guidance.matching import GUIDE_CHANNEL_VARIABLE
from nnunet_uhf.guidance.plans import guided_plans
from nnunet_uhf.keepers import file as keeper_file
from nnunet_uhf.keepers.file import read_header

T1W = {"channel_names": {"0": "T1w"}}


def keeper(path: Path, dim: int = 3, *, spacing: float = 1.0, seed: int = 0, **changes: Any) -> Path:
    return write(path, dim, seed=10 * dim + seed, spacing_mm=(spacing,) * dim, **changes)


def by_training(paths: list[Path], configuration: str, dataset_json: dict[str, Any], variables: Any) -> str:
    """The hash of the keeper of a training under plain plans, with the variable set to the files."""
    variables.setenv(KEEPER_VARIABLE, ":".join(map(str, paths)))
    plans = make_plans()
    return choose_keeper(plans, configuration, dataset_json, trainer="UHFTrainer", fold=0).block.keeper.sha256


def by_plan(paths: list[Path], configuration: str, dataset_json: dict[str, Any], variables: Any) -> str:
    """The hash of the keeper that `nnunet-uhf plan` attaches."""
    plans = guided_plans(make_plans(), [configuration], paths, dataset_json=dataset_json, source_plans="nnUNetPlans")
    sha256: str = plans["configurations"][configuration]["uhf"]["keeper"]["sha256"]
    return sha256


Way = Callable[[list[Path], str, dict[str, Any]], str]


@pytest.fixture(params=[by_training, by_plan])
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Either of the two ways from keeper files to a guided configuration."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.delenv(GUIDE_CHANNEL_VARIABLE, raising=False)
    return lambda paths, configuration, dataset_json: request.param(paths, configuration, dataset_json, monkeypatch)


def hash_of(path: Path) -> str:
    return read_header(path).sha256


def test_the_keeper_of_the_dimension_is_taken(way: Way, tmp_path: Path) -> None:
    flat, solid = (keeper(tmp_path / f"{dim}.safetensors", dim) for dim in (2, 3))
    assert way([flat, solid], "2d", T1W) == hash_of(flat)
    assert way([flat, solid], "3d_fullres", T1W) == hash_of(solid)
    with pytest.raises(MatchError, match=r"No keeper fits configuration 3d_fullres\. .*is 3D, the keeper 2D"):
        way([flat], "3d_fullres", T1W)


def test_of_a_folder_the_keeper_whose_channel_the_dataset_has_is_taken(way: Way, tmp_path: Path) -> None:
    t1w, t2w = (keeper(tmp_path / f"{name}.safetensors", seed=len(name), channel=name) for name in ("t1W", "T2-w"))
    assert way([tmp_path], "3d_fullres", T1W) == hash_of(t1w)
    assert way([tmp_path], "3d_fullres", {"channel_names": {"0": "T2-W"}}) == hash_of(t2w)
    with pytest.raises(MatchError, match=r"No keeper fits .*T2-w\.safetensors: .*t1W\.safetensors: .*FLAIR"):
        way([tmp_path], "3d_fullres", {"channel_names": {"0": "FLAIR"}})


def test_the_variable_decides_between_keepers_of_several_channels(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t1w, t2w = (keeper(tmp_path / f"{n}.safetensors", seed=n, channel=f"T{n}w") for n in (1, 2))
    plans = make_plans()
    for entry in plans["configurations"].values():
        for name in ("normalization_schemes", "use_mask_for_norm"):
            entry[name] = entry.get(name, []) * 2
    monkeypatch.setattr(f"{__name__}.make_plans", lambda: plans)
    both = {"channel_names": {"0": "T1w", "1": "T2w"}}
    with pytest.raises(MatchError, match=r"Several different keepers fit configuration 3d_fullres: .*1\.safe.*2\.safe"):
        way([t1w, t2w], "3d_fullres", both)
    for asked, expected in (("T2w", t2w), ("0", t1w)):
        monkeypatch.setenv(GUIDE_CHANNEL_VARIABLE, asked)
        assert way([t1w, t2w], "3d_fullres", both) == hash_of(expected)
    # no keeper's own channel: the variable says that this one shows the same contrast
    monkeypatch.setenv(GUIDE_CHANNEL_VARIABLE, "1")
    assert way([t1w], "3d_fullres", both) == hash_of(t1w)


def test_of_several_the_one_at_the_configurations_own_spacing_is_taken(way: Way, tmp_path: Path) -> None:
    fine, coarse = (keeper(tmp_path / f"{mm}.safetensors", spacing=mm, seed=int(mm)) for mm in (1.05, 2.1))
    assert way([fine, coarse], "3d_fullres", T1W) == hash_of(fine)
    assert way([fine, coarse], "3d_lowres", T1W) == hash_of(coarse)
    other = keeper(tmp_path / "other.safetensors", spacing=1.5, seed=7)
    with pytest.raises(MatchError, match=r"Several different keepers fit .*: .*2\.1\.safetensors, .*other\.safe"):
        way([coarse, other], "3d_fullres", T1W)


def test_the_channel_comes_before_the_spacing(way: Way, tmp_path: Path) -> None:
    keeper(tmp_path / "a.safetensors", channel="FLAIR", seed=1)
    fitting = keeper(tmp_path / "b.safetensors", spacing=1.5, seed=2)
    assert way([tmp_path], "3d_fullres", T1W) == hash_of(fitting)


def test_a_keeper_that_is_normalised_otherwise_is_passed_over(way: Way, tmp_path: Path) -> None:
    keeper(tmp_path / "a.safetensors", normalisation="CTNormalization", seed=1)
    fitting = keeper(tmp_path / "b.safetensors", seed=2)
    assert way([tmp_path], "3d_fullres", T1W) == hash_of(fitting)


def test_copies_of_the_same_weights_are_one_keeper(way: Way, tmp_path: Path) -> None:
    one = keeper(tmp_path / "a.safetensors")
    shutil.copyfile(one, tmp_path / "b.safetensors")
    assert way([tmp_path], "3d_fullres", T1W) == hash_of(one)


def test_a_damaged_file_is_refused(way: Way, tmp_path: Path) -> None:
    path = keeper(tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(KeeperFileError, match="SHA-256"):
        way([path], "3d_fullres", T1W)


def test_without_a_file_the_variable_is_named() -> None:
    with pytest.raises(MatchError, match=KEEPER_VARIABLE):
        KeeperFiles(()).choose(make_plans(), "2d", T1W)


def test_each_header_is_parsed_once_and_the_weights_of_the_chosen_file_alone_are_hashed_once(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [keeper(tmp_path / f"{mm}.safetensors", spacing=mm, seed=mm) for mm in (1, 2)]
    calls = count_calls(monkeypatch, keeper_file, "parse_header", "weights_sha256")
    way(paths, "3d_fullres", T1W)
    assert calls == {"parse_header": 2, "weights_sha256": 1}
