"""Keeper files that say a pooling or a number of convolutions, and those of version 0.1.0 that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.keeper_samples import anisotropic, architecture, make_header, refused, rewrite_header, write
from nnunet_uhf.keepers.file import build_enhancer, build_keeper, read_header, read_keeper, write_keeper
from nnunet_uhf.keepers.header import header_json
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder
from nnunet_uhf.networks.siqt.unet import AnisotropicUNet

HEAD = {"dim": 2, "base_features": 4}
SIQT: dict[str, Any] = {"network": "anisotropic_unet"}


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({"architecture": architecture()}, 1),
        ({"architecture": {**architecture(), "convolutions": 2}}, 4),
        ({**SIQT, "architecture": anisotropic()}, 3),
        ({**SIQT, "architecture": anisotropic(pooling="max")}, 4),
        ({**SIQT, "architecture": anisotropic(ratio=6, slice_axis=0, plane_step=3)}, 4),
    ],
    ids=["one convolution", "two convolutions", "average", "max", "ratio 6"],
)
def test_only_what_version_0_1_0_did_not_build_asks_for_format_4(
    tmp_path: Path, changes: dict[str, Any], version: int
) -> None:
    header = read_header(write(tmp_path / "kkn.safetensors", **changes))
    assert (header.format_version, header.architecture) == (version, changes["architecture"])
    said = json.loads(header_json(header))["architecture"]
    unsaid = {"convolutions", "pooling", "plane_step"} & changes["architecture"].keys()
    assert (changes["architecture"].keys() - said.keys() == unsaid) is (version < 4)


def images(network: torch.nn.Module, other: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        return network.eval()(x), other.eval()(x)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_a_file_gives_back_the_pooling_it_was_written_with(tmp_path: Path, pooling: str) -> None:
    network = AnisotropicUNet(**anisotropic(pooling=pooling)).eval()
    path = tmp_path / "kkn.safetensors"
    write_keeper(
        path,
        header=make_header(**SIQT, architecture=network.config(), decoder_architecture=HEAD),
        keeper_state=network.keeper.state_dict(),
        decoder_state=network.decoder.state_dict(),
    )
    file = read_keeper(path)
    assert torch.equal(*images(network, build_enhancer(file)))
    for one, other in zip(*images(network.keeper, build_keeper(file)), strict=True):
        assert torch.equal(one, other)
    # the same weights under the other entry are another network: nothing but the header tells them apart
    other = "average" if pooling == "max" else "max"
    rewrite_header(path, lambda header: header["architecture"].update(pooling=other))
    assert not torch.allclose(*images(network, build_enhancer(read_keeper(path))))


@pytest.mark.parametrize("convolutions", [1, 2])
def test_a_file_gives_back_the_convolutions_it_was_written_with(tmp_path: Path, convolutions: int) -> None:
    keeper = KnowledgeKeeper(**{**architecture(), "convolutions": convolutions}).eval()
    decoder = TeacherDecoder(**HEAD, convolutions=convolutions).eval()
    path = tmp_path / "kkn.safetensors"
    write_keeper(
        path,
        header=make_header(architecture=keeper.config(), decoder_architecture=decoder.config()),
        keeper_state=keeper.state_dict(),
        decoder_state=decoder.state_dict(),
    )
    enhancer = build_enhancer(read_keeper(path))
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(enhancer(x), decoder(keeper.features(x), (32, 32)))


@pytest.mark.parametrize(
    ("changes", "entry", "value", "told"),
    [
        ({**SIQT, "architecture": anisotropic(pooling="max")}, "pooling", "median", "one of max, average"),
        ({**SIQT, "architecture": anisotropic(pooling="max")}, "pooling", None, "one of max, average"),
        ({**SIQT, "architecture": anisotropic(pooling="max")}, "pooling", ["max"], "one of max, average"),
        ({**SIQT, "architecture": anisotropic()}, "convolutions", 2, "unknown argument 'convolutions'"),
        ({"architecture": {**architecture(), "convolutions": 2}}, "convolutions", 3, "1 or 2"),
        ({"architecture": {**architecture(), "convolutions": 2}}, "convolutions", True, "1 or 2"),
        ({"architecture": {**architecture(), "convolutions": 2}}, "pooling", "max", "unknown argument 'pooling'"),
    ],
)
def test_an_entry_out_of_range_or_of_another_network_is_refused(
    tmp_path: Path, changes: dict[str, Any], entry: str, value: object, told: str
) -> None:
    path = write(tmp_path / "kkn.safetensors", **changes)
    refused(rewrite_header(path, lambda header: header["architecture"].update({entry: value})), told)
