"""Every kind of network says of itself what is true of its classes."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from nnunet_uhf.networks.contract import MAX_LEVELS, NetworkKind
from nnunet_uhf.networks.kinds import DEFAULT_NETWORK, KINDS, all_sizes, sizes_of
from nnunet_uhf.networks.siqt.kind import KIND as ANISOTROPIC_UNET
from nnunet_uhf.networks.siqt.unet import FACTORS

SMALL: dict[str, dict[str, Any]] = {
    "knowledge_keeper": {"base_features": 4, "kernel_size": 3},
    "anisotropic_unet": {"base_features": 4},
    "space_to_depth_unet": {},
}
WIDTH: dict[str, dict[str, Any]] = {"space_to_depth_unet": {"width": 8}}


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("kind", [KINDS[name] for name in SMALL], ids=list(SMALL))
def test_an_entry_describes_its_classes(kind: NetworkKind, dim: int) -> None:
    width = WIDTH.get(kind.name, {"base_features": 4})
    keeper = kind.keeper(dim=dim, **{**width, **SMALL[kind.name]})
    config = json.loads(json.dumps(keeper.config()))
    assert config.keys() == kind.arguments.keys()
    assert all(fits(config[argument]) for argument, (fits, _) in kind.arguments.items())
    assert kind.problem(config) is None
    assert kind.no_guide(config) is None
    assert kind.channels(config) == keeper.channels
    assert len(keeper.channels) == len(keeper.strides) <= MAX_LEVELS
    assert kind.in_channels(config) == 1
    decoder = kind.decoder(dim=dim, **width).config()
    assert decoder.keys() == kind.decoder_arguments.keys()
    assert kind.decoder_problem(config, decoder) is None
    enhancer = kind.enhancer(config, decoder)
    assert type(enhancer.keeper) is type(keeper)
    assert {name.partition(".")[0] for name in enhancer.state_dict()} == {"keeper", "decoder"}


def test_sizes_that_dataset_json_may_set_are_arguments_of_their_class_that_no_plan_sets() -> None:
    planned = {"self", "dim", "in_channels", "strides", "ratio", "slice_axis", "masks"}
    planned |= {"source_range", "target_range", "patch_size"}
    for kind in KINDS.values():
        for network, names in kind.sizes.items():
            assert names == frozenset(inspect.signature(network).parameters) - planned
            assert sizes_of(network) == names
            assert names <= all_sizes()


def test_a_block_that_names_no_network_means_that_of_the_first_format() -> None:
    assert KINDS[DEFAULT_NETWORK].name == DEFAULT_NETWORK == "knowledge_keeper"
    assert all(kind.name == name and kind.citation for name, kind in KINDS.items())
    assert all(kind.trainers or kind.name == "unicoal" or kind.name.startswith("pta_") for kind in KINDS.values())


def test_every_ratio_of_thick_slices_may_stand_in_a_file() -> None:
    fits, _ = ANISOTROPIC_UNET.arguments["ratio"]
    assert all(fits(ratio) for ratio in FACTORS)
    assert not fits(5)
