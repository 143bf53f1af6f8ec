"""What turns noise and conditions into the styles of Uni-COAL's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.unicoal.layers import EqualLinear, rms_normalised
from nnunet_uhf.networks.unicoal.presets import SynthesisArguments

SLOW = 0.01  # factor of the learning rate of a mapping (Karras et al. 2019)


class Mapping(nn.Module):
    """Noise, a code and numbers -> the latent vector of the styles.

    Each part is normalised by its root mean square, so a number must come as several features: of one feature nothing
    but its sign would be left (:mod:`nnunet_uhf.networks.unicoal.question`).

    Args:
        noise: length of z; 0 for none.
        code: length of the code.
        numbers: features of the numbers.
        embedding: length of code and numbers behind their layers.
        latent: length of the result.
    """

    def __init__(self, *, noise: int, code: int, numbers: int, embedding: int, latent: int) -> None:
        super().__init__()
        self.lengths = [code, numbers]
        self.noise = noise
        self.code = EqualLinear(code, embedding)
        self.numbers = EqualLinear(numbers, embedding)
        self.first = EqualLinear(noise + 2 * embedding, latent, activate=True, rate=SLOW)
        self.second = EqualLinear(latent, latent, activate=True, rate=SLOW)

    def forward(self, condition: Tensor, noise: Tensor | None = None) -> Tensor:
        """`(B, code + numbers)` and z `(B, noise)` -> `(B, latent)`."""
        code, numbers = condition.float().split(self.lengths, dim=1)
        parts = [self.code(code), self.numbers(numbers)]
        if self.noise:
            if noise is None:
                raise ValueError("this mapping needs noise")
            parts.insert(0, noise.float())
        latent: Tensor = self.second(self.first(torch.cat([rms_normalised(part) for part in parts], dim=1)))
        return latent


def mapping_of(asked: SynthesisArguments, *, noise: int = 0) -> Mapping:
    """The mapping of an encoder or, with z of length ``noise``, of a synthesis network."""
    return Mapping(noise=noise, code=asked.code, numbers=asked.numbers, embedding=asked.embedding, latent=asked.latent)
