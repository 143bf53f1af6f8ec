"""Uni-COAL as a kind of network: what a file may say of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.checks import DIM, Check, is_int, is_number
from nnunet_uhf.networks.contract import Arguments, NetworkKind
from nnunet_uhf.networks.unicoal.encoder import ImageEncoder
from nnunet_uhf.networks.unicoal.modalities import Modalities
from nnunet_uhf.networks.unicoal.network import UniCOAL, decoder_of
from nnunet_uhf.networks.unicoal.synthesis import Synthesis

NAME = "unicoal"
_SIZES = (32, 64, 128, 256, 512)

_ARGUMENTS: dict[str, Check] = {
    "dim": DIM,
    "code": (lambda value: is_int(value, 1, 32), "1 to 32"),
    "numbers": (lambda value: is_int(value, 1, 100), "1 to 100"),
    "size": (lambda value: is_int(value, 32, 512) and value in _SIZES, "32, 64, 128, 256 or 512"),
    "layers": (lambda value: is_int(value, 4, 20), "4 to 20"),
    "base_channels": (lambda value: is_int(value, 64, 65536), "64 to 65536"),
    "max_channels": (lambda value: is_int(value, 4, 1024), "4 to 1024"),
    "margin": (lambda value: is_int(value, 0, 32), "0 to 32"),
    "latent": (lambda value: is_int(value, 8, 1024), "8 to 1024"),
    "image_features": (lambda value: is_int(value, 8, 1024), "8 to 1024"),
    "embedding": (lambda value: is_int(value, 4, 512), "4 to 512"),
}
_ENCODER: dict[str, Check] = {
    "in_channels": (lambda value: is_int(value, 4, 64) and value % 4 == 0, "a multiple of 4 up to 64"),
    "filtered": (lambda value: isinstance(value, bool), "true or false"),
    "dropout": (lambda value: is_number(value, 0, 0.9), "0 to 0.9"),
}


def _problem(architecture: Arguments) -> str | None:
    return None if architecture["dim"] == 2 else "argument 'dim' must be 2: volumes are made slice by slice"


def _decoder_problem(architecture: Arguments, decoder: Arguments) -> str | None:
    if decoder_of(architecture) != dict(decoder):
        return "architecture and decoder_architecture are of different networks"
    return None


def _no_guide(_: Arguments) -> str | None:
    return (
        "it makes single slices of four, to order; make pairs of its images (nnunet-uhf pseudo-pairs) and train a "
        "keeper on them"
    )


def _channels(architecture: Arguments) -> tuple[int, ...]:
    import torch

    with torch.device("meta"):
        return ImageEncoder(**architecture).channels


def _enhancer(architecture: Arguments, decoder: Arguments) -> UniCOAL:
    return UniCOAL(architecture, decoder)


def _question_problem(architecture: Arguments, modalities: Mapping[str, Any]) -> str | None:
    """Why questions about these modalities are none to this encoder; None when they are."""
    known = Modalities.of(modalities)
    for name, wanted in (("in_channels", known.in_channels), ("code", known.code), ("numbers", known.numbers)):
        if architecture[name] != wanted:
            return f"its modalities ask for {name} {wanted}, its architecture has {architecture[name]}"
    return None


def _one_image(_: Arguments) -> int:
    """The header's own channel is the first source; all sources are among its modalities."""
    return 1


KIND = NetworkKind(
    name=NAME,
    keeper=ImageEncoder,
    decoder=Synthesis,
    enhancer=_enhancer,
    arguments={**_ARGUMENTS, **_ENCODER},
    decoder_arguments=_ARGUMENTS,
    channels=_channels,
    citation=(
        "Song et al., Uni-COAL, arXiv:2311.08225 (2023); layers: Karras et al., Alias-Free Generative Adversarial "
        "Networks, NeurIPS 2021"
    ),
    trainers="",
    problem=_problem,
    decoder_problem=_decoder_problem,
    no_guide=_no_guide,
    in_channels=_one_image,
    answers_questions=True,
    question_problem=_question_problem,
    trained_keeper="average.keeper.",
    trained_decoder="average.decoder.",
)

ARCHITECTURE_OPTIONS: dict[str, Check] = {
    **{name: check for name, check in _ARGUMENTS.items() if name not in ("dim", "code", "numbers")},
    "dropout": _ENCODER["dropout"],
}
"""What `uhf.architecture` may set beside the preset."""
