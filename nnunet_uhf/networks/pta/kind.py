"""The generators of PTA as a kind of network: what a file may say of one (arXiv 2503.05339)."""

from __future__ import annotations

from typing import Any

from nnunet_uhf.checks import Check, is_int, is_list, is_number
from nnunet_uhf.networks.contract import Arguments, EnhancementNet, NetworkKind
from nnunet_uhf.networks.pta.generators import ResnetTrunk, TanhHead, Trunk, UNetTrunk
from nnunet_uhf.networks.pta.hybrid_generator import HybridTrunk
from nnunet_uhf.networks.pta.patch_gan import PatchGAN
from nnunet_uhf.networks.pta.slice_encoder import SlicePerception
from nnunet_uhf.networks.pta.structure_net import StructureNet

GENERATORS: dict[str, type[Trunk]] = {trunk.kind: trunk for trunk in (ResnetTrunk, UNetTrunk, HybridTrunk)}
MAX_FEATURES, MAX_WIDTH, MAX_SCORE = 128, 1024, 1e4
_CITATIONS = {
    "resnet": "",
    "unet": "",
    "hybrid": "; generator: arXiv:2406.18967",
}


def _is_range(value: object) -> bool:
    return is_list(value, lambda item: is_number(item, -MAX_SCORE, MAX_SCORE), 2, 2) and value[0] < value[1]  # type: ignore[index]


_RANGE: Check = (_is_range, "two rising z-scores")
_COMMON: dict[str, Check] = {
    "dim": (lambda value: is_int(value, 2, 2), "2"),
    "in_channels": (lambda value: is_int(value, 1, 9) and value % 2 == 1, "an odd number up to 9"),
    "features": (lambda value: is_int(value, 1, MAX_FEATURES), f"1 to {MAX_FEATURES}"),
    "source_range": _RANGE,
}
_OWN: dict[str, dict[str, Check]] = {
    "resnet": {"blocks": (lambda value: is_int(value, 1, 32), "1 to 32")},
    "unet": {"halvings": (lambda value: is_int(value, 2, 8), "2 to 8")},
    "hybrid": {
        "width": (lambda value: is_int(value, 4, MAX_WIDTH), f"4 to {MAX_WIDTH}"),
        "heads": (lambda value: is_int(value, 1, 64), "1 to 64"),
        "patch_size": (lambda value: is_list(value, lambda n: is_int(n, 16, 4096), 2, 2), "two sizes from 16 pixels"),
        "threshold": (lambda value: is_number(value, 0, 1), "a number from 0 to 1"),
    },
}
_SIZES = {
    "resnet": frozenset({"features", "blocks"}),
    "unet": frozenset({"features", "halvings"}),
    "hybrid": frozenset({"features", "width", "heads", "threshold"}),
}

_PRETEXT_SIZES = {
    SlicePerception: frozenset({"encoders", "encoder"}),
    StructureNet: frozenset({"widths", "norm_last"}),
    PatchGAN: frozenset({"judge_features"}),
}


def trunk_of(generator: str, **architecture: Any) -> Trunk:
    """The trunk of a generator with random weights."""
    return GENERATORS[generator](**architecture)


def pta_generator(generator: str, architecture: Arguments, decoder: Arguments) -> EnhancementNet:
    """Trunk and head as one network with random weights."""
    return EnhancementNet(trunk_of(generator, **architecture), TanhHead(**decoder))


def _width_of_map(generator: str, architecture: Arguments) -> int:
    return int(architecture["features"]) * (2 if generator == "unet" else 1)


def _kind(generator: str) -> NetworkKind:
    def make(**architecture: Any) -> Trunk:
        return trunk_of(generator, **architecture)

    def disagreement(architecture: Arguments, decoder: Arguments) -> str | None:
        if decoder["generator"] != generator:
            return f"decoder_architecture is of the generator {decoder['generator']}"
        if decoder["features"] != _width_of_map(generator, architecture):
            return "architecture and decoder_architecture have different features"
        return None

    def heads_problem(architecture: Arguments) -> str | None:
        if generator == "hybrid" and architecture["width"] % architecture["heads"]:
            return "argument 'width' must be a multiple of 'heads'"
        return None

    return NetworkKind(
        name=f"pta_{generator}",
        keeper=make,
        decoder=TanhHead,
        enhancer=lambda architecture, decoder: pta_generator(generator, architecture, decoder),
        arguments={**_COMMON, **_OWN[generator]},
        decoder_arguments={
            "dim": _COMMON["dim"],
            "generator": (lambda value: value == generator, generator),
            "features": (lambda value: is_int(value, 1, 2 * MAX_FEATURES), f"1 to {2 * MAX_FEATURES}"),
            "target_range": _RANGE,
        },
        channels=lambda architecture: (_width_of_map(generator, architecture),),
        citation=f"arXiv:2503.05339{_CITATIONS[generator]}",
        trainers="",
        sizes={GENERATORS[generator]: _SIZES[generator], **_PRETEXT_SIZES},
        problem=heads_problem,
        decoder_problem=disagreement,
        no_guide=lambda _: (
            "it was trained to make images of one domain look like another's, and its maps are no features of anatomy; "
            "make pairs with it (nnunet-uhf pseudo-pairs) and train a keeper on these"
        ),
        in_channels=lambda _: 1,
        neighbours=lambda architecture: int(architecture["in_channels"]),
    )


PTA_KINDS = tuple(_kind(generator) for generator in GENERATORS)
