"""Uni-COAL's generator: four slices of every source and a question in, the slice that is asked for out.

Alias-free layers: Karras et al., NeurIPS 2021. Co-modulation by image, conditions and noise: Zhao et al., ICLR 2021.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from nnunet_uhf.networks.contract import Arguments, EnhancementNet
from nnunet_uhf.networks.unicoal.encoder import ImageEncoder
from nnunet_uhf.networks.unicoal.presets import EncoderArguments, SynthesisArguments
from nnunet_uhf.networks.unicoal.question import Question
from nnunet_uhf.networks.unicoal.synthesis import Synthesis


class UniCOAL(EnhancementNet):
    """Encoder and synthesis network as one; state dict: ``keeper.`` and ``decoder.``, as in a keeper file.

    Args:
        architecture: all arguments of the encoder.
        decoder: all arguments of the synthesis network.
    """

    keeper: ImageEncoder
    decoder: Synthesis

    def __init__(self, architecture: Arguments, decoder: Arguments) -> None:
        super().__init__(ImageEncoder(**architecture), Synthesis(**decoder))

    def recompute(self, yes: bool = True) -> UniCOAL:
        """Whether a backward pass computes every layer again: a fifth of the memory for one more forward pass."""
        self.keeper.recompute = self.decoder.recompute = yes
        return self

    def forward(self, source: Tensor, question: Question) -> Tensor:  # type: ignore[override]  # asked a question
        """Slices `(B, in_channels, H, W)`, about -1 to 1 -> image `(B, 1, H, W)` in single precision."""
        maps = self.keeper.features(source, question.condition)
        image = self.decoder(maps, source.shape[2:], question.condition, question.noise, question.place)
        added = torch.einsum("bc,bchw->bhw", question.weights.float(), source.float())
        total: Tensor = image.float() + added[:, None]
        return total


def architecture_of(
    sizes: Arguments, *, sources: int, code: int, numbers: int, filtered: bool = False, dropout: float = 0.5
) -> dict[str, Any]:
    """Arguments of the encoder for sizes of :mod:`.presets`; ``sources`` is the number of slices that come in."""
    asked = EncoderArguments(
        in_channels=sources, code=code, numbers=numbers, filtered=filtered, dropout=dropout, **sizes
    )
    return asked.as_json()


def decoder_of(architecture: Arguments) -> dict[str, Any]:
    """Arguments of the synthesis network that fits an encoder."""
    return {field.name: architecture[field.name] for field in fields(SynthesisArguments)}
