"""Keeper files of format 3: other networks than the knowledge keeper, and feature statistics."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from helpers.keeper_samples import anisotropic, make_header, refused, rewrite_header, some_weights, statistics, write
from nnunet_uhf.errors import KeeperFileError
from nnunet_uhf.keepers.file import build_enhancer, build_keeper, read_header, read_keeper, write_keeper
from nnunet_uhf.keepers.header import header_json
from nnunet_uhf.keepers.table import header_table
from nnunet_uhf.networks.siqt.unet import AnisotropicKeeper, AnisotropicUNet

HEAD = {"dim": 2, "base_features": 4}
SIQT = {"network": "anisotropic_unet", "architecture": anisotropic()}


def write_siqt(path: Path, **changes: Any) -> AnisotropicUNet:
    """Write an anisotropic U-Net whose running statistics have moved, and return it."""
    network = AnisotropicUNet(**anisotropic(**changes))
    network.train()(torch.randn(4, 1, 32, 32))
    header = make_header(
        network="anisotropic_unet",
        architecture=network.config(),
        decoder_architecture=network.decoder.config(),
    )
    write_keeper(
        path,
        header=header,
        keeper_state=network.keeper.state_dict(),
        decoder_state=network.decoder.state_dict(),
    )
    return network.eval()


def shown(path: Path) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(header_table(read_header(path)))
    return console.export_text()


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({}, 1),
        ({"simulation": {"axes": [0]}}, 2),
        (SIQT, 3),
        ({"feature_statistics": statistics()}, 3),
        ({"feature_statistics": statistics(), "simulation": {"axes": [0]}}, 3),
    ],
)
def test_a_header_is_written_in_the_oldest_format_that_holds_it(
    tmp_path: Path, changes: dict[str, Any], version: int
) -> None:
    header = read_header(write(tmp_path / "kkn.safetensors", **changes))
    wanted = make_header(**changes)
    assert header.format_version == version
    for name in ("network", "architecture", "simulation", "feature_statistics"):
        assert getattr(header, name) == getattr(wanted, name)
    content = json.loads(header_json(header))
    assert ("network" in content) == ("feature_statistics" in content) == (version == 3)
    assert header.provenance().items() <= content.items()


@pytest.mark.parametrize(
    ("version", "change", "told"),
    [
        (3, lambda h: h.update(format_version=2), "unknown field"),
        (3, lambda h: h.update(format_version=1), "unknown field"),
        (3, lambda h: h.pop("network"), "lacks network"),
        (3, lambda h: h.pop("feature_statistics"), "lacks feature_statistics"),
        (3, lambda h: h.pop("simulation"), "lacks simulation"),
        (1, lambda h: h.update(format_version=3), "lacks feature_statistics, network, simulation"),
        (2, lambda h: h.update(simulation=None), "'simulation' must not be null in format 2"),
    ],
)
def test_fields_and_format_must_agree(
    tmp_path: Path, version: int, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    changes: dict[int, dict[str, Any]] = {1: {}, 2: {"simulation": {"axes": [0]}}, 3: SIQT}
    path = write(tmp_path / "kkn.safetensors", **changes[version])
    refused(rewrite_header(path, change), told)


@pytest.mark.parametrize(
    ("network", "told"),
    [("other_net", "pip install --upgrade"), ("os.system('x')", "'network' must be"), ([], "'network' must be")],
)
def test_a_network_that_this_version_does_not_have_is_refused(tmp_path: Path, network: object, told: str) -> None:
    path = write(tmp_path / "kkn.safetensors", **SIQT)
    with pytest.raises(KeeperFileError, match=told) as caught:
        read_header(rewrite_header(path, lambda header: header.update(network=network)))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("base_features", 10**9),
        ("ratio", 5),
        ("ratio", 16),
        ("ratio", True),
        ("ratio", 4),
        ("slice_axis", 2),
        ("slice_axis", -1),
        ("masks", 10**6),
        ("masks", 0),
        ("mask_scale", 0.5),
        ("mask_scale", 10**400),
        ("in_channels", 2),
        ("dim", 3),
        ("strides", [[1, 1]] * 5),
    ],
)
def test_arguments_of_an_anisotropic_network_out_of_bounds_are_refused_by_name(
    tmp_path: Path, argument: str, value: object
) -> None:
    path = write(tmp_path / "kkn.safetensors", **SIQT)
    named = "dimensions" if argument == "dim" else "slice_axis" if value == 4 else argument
    refused(rewrite_header(path, lambda header: header["architecture"].update({argument: value})), named)


def test_arguments_of_one_network_do_not_pass_for_those_of_another(tmp_path: Path) -> None:
    path = write(tmp_path / "kkn.safetensors", **SIQT)
    refused(rewrite_header(path, lambda header: header.update(network="knowledge_keeper")), "argument")


def test_a_decoder_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    write_siqt(path)
    refused(
        rewrite_header(path, lambda header: header["decoder_architecture"].update(base_features=8)), "base_features"
    )


def spoilt(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    wrong = statistics()
    change(wrong)
    return wrong


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        spoilt(lambda s: s.pop("cases")),
        spoilt(lambda s: s.update(cases=0)),
        spoilt(lambda s: s.update(cases=True)),
        spoilt(lambda s: s.update(more=1)),
        spoilt(lambda s: s["levels"].pop()),
        spoilt(lambda s: s["levels"][2].pop("std")),
        spoilt(lambda s: s["levels"][2]["mean"].append(1.0)),
        spoilt(lambda s: s["levels"][2].update(mean=[1.0] * 4000, std=[1.0] * 4000)),
        spoilt(lambda s: s["levels"][2].update(mean=[1.0] * 3, std=[1.0] * 3)),
        spoilt(lambda s: s["levels"][2]["std"].__setitem__(0, -1.0)),
        spoilt(lambda s: s["levels"][2]["mean"].__setitem__(0, "0")),
        spoilt(lambda s: s["levels"][2]["mean"].__setitem__(0, None)),
        spoilt(lambda s: s["levels"][2].update(distances={"mean": 1.0})),
        spoilt(lambda s: s.update(distances={**s["distances"], "p95": 10**400})),
        spoilt(lambda s: s.update(distances={**s["distances"], "more": 1.0})),
    ],
    ids=range(16),
)
def test_statistics_that_are_not_of_this_networks_features_are_refused(tmp_path: Path, wrong: object) -> None:
    path = write(tmp_path / "kkn.safetensors", feature_statistics=statistics())
    path = rewrite_header(path, lambda header: header.update(feature_statistics=wrong))
    refused(path, "feature_statistics")


def test_statistics_follow_the_channels_of_their_network(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    write(path, **SIQT, feature_statistics=statistics((4, 8, 16, 32, 64)))
    write(path, dim=3, feature_statistics=statistics((4, 8, 16, 32, 64)))
    refused(rewrite_header(path, lambda header: header.update(feature_statistics=statistics())), "channels")


def test_inspect_says_which_network_it_is_and_whether_it_can_guide(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    write(path, feature_statistics=statistics())
    text = shown(path)
    for part in ("knowledge_keeper", "can guide", "yes", "of 12 cases", "p95 1.2", "format 3"):
        assert part in text
    write(path, network="anisotropic_unet", architecture=anisotropic(ratio=4, slice_axis=0))
    text = shown(path)
    for part in ("anisotropic_unet", "no: it makes 4 slices of one", "slice_axis=0", "feature statistics", "none"):
        assert part in text


def test_a_keeper_of_an_anisotropic_network_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    network = write_siqt(path)
    keeper = build_keeper(read_keeper(path))
    assert isinstance(keeper, AnisotropicKeeper)
    assert not any(module.training for module in keeper.modules())
    assert not any(parameter.requires_grad for parameter in keeper.parameters())
    x = torch.randn(1, 1, 27, 40)
    for one, other in zip(keeper(x), network.keeper(x), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(build_enhancer(read_keeper(path))(x), network(x))


@pytest.mark.parametrize(
    ("changes", "told"), [({"ratio": 4, "slice_axis": 1}, "4 slices of one"), ({"masks": 16}, "16 masks")]
)
def test_thick_slices_and_ensembles_enhance_but_do_not_guide(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = tmp_path / "kkn.safetensors"
    network = write_siqt(path, **changes)
    x = torch.randn(1, 1, 32, 32)
    enhancer = build_enhancer(read_keeper(path))
    assert not enhancer.training
    with torch.no_grad():
        assert torch.equal(enhancer(x), network(x))
    with pytest.raises(KeeperFileError, match=told) as caught:
        build_keeper(read_keeper(path))
    assert "can enhance but not guide" in str(caught.value)


def test_masks_in_the_file_are_used_and_not_drawn_anew(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    network = AnisotropicUNet(**anisotropic(masks=4)).eval()
    for name, value in network.state_dict().items():
        if name.endswith(".masks"):
            value.copy_(1 - value)
    write_keeper(
        path,
        header=make_header(network="anisotropic_unet", architecture=network.config(), decoder_architecture=HEAD),
        keeper_state=network.keeper.state_dict(),
        decoder_state=network.decoder.state_dict(),
    )
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(build_enhancer(read_keeper(path))(x), network(x))


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kkn.safetensors"
    network = AnisotropicUNet(**anisotropic())
    header = make_header(network="anisotropic_unet", architecture=anisotropic(base_features=8))
    write_keeper(path, header=header, keeper_state=network.keeper.state_dict())
    refused(path, "not those of its architecture", reader=lambda p: build_keeper(read_keeper(p)))
    write_keeper(path, header=header, keeper_state=some_weights())
    refused(path, "not those of its architecture", reader=lambda p: build_keeper(read_keeper(p)))
