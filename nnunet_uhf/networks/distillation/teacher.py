"""The teacher: an auto-encoder of high-field images whose five feature maps are the knowledge (arXiv 2402.08409)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_pool_op
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import (
    conv_block,
    crop,
    cumulative,
    initialise_kaiming,
    pad_to_minimum,
    pointwise,
    resize,
    stacked,
)
from nnunet_uhf.networks.contract import Decoder
from nnunet_uhf.networks.distillation.levels import checked_strides, level_channels

NOISES = ("gaussian", "uniform", "none")


class TeacherOutput(NamedTuple):
    """What the teacher knows of an image: ``image`` (B, 1, *S), five ``features``, four ``reconstructed`` features."""

    image: Tensor
    features: list[Tensor]
    reconstructed: list[Tensor]


class TeacherDecoder(Decoder):
    """From five feature maps, finest first, to an image: CB on the deepest, then [up, 1x1, concat, CB] four times.

    Args:
        dim: 2 or 3.
        base_features: nf of the paper.
        convolutions: of every CB, 1 or 2; None is the authors', two in 2D and one in 3D.
    """

    def __init__(self, *, dim: int, base_features: int = 16, convolutions: int | None = None) -> None:
        super().__init__()
        self.dim, self.base_features = dim, base_features
        self.convolutions = stacked(dim, convolutions)
        channels = level_channels(dim, base_features)
        deepest = channels[-1]
        self.bottom = conv_block(dim, deepest, deepest, convolutions=self.convolutions)
        self.narrow = nn.ModuleList(pointwise(dim, deep, fine, bias=True) for fine, deep in pairwise(channels))
        self.merge = nn.ModuleList(
            conv_block(dim, 2 * fine, fine, convolutions=self.convolutions) for fine in channels[:-1]
        )
        self.output = pointwise(dim, channels[0], 1, bias=True)
        initialise_kaiming(self)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this module, ready for JSON."""
        return {"dim": self.dim, "base_features": self.base_features, "convolutions": self.convolutions}

    def refined(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the shapes of those given, finest first, each of which knows what the coarser ones know."""
        x = self.bottom(maps[-1])
        found = [x]
        for level in reversed(range(len(maps) - 1)):
            # 1x1 and linear resizing commute: projecting on the coarse grid is the same and cheaper
            x = resize(self.narrow[level](x), maps[level].shape[2:])
            x = self.merge[level](torch.cat((x, maps[level]), dim=1))
            found.append(x)
        return found[::-1]

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Decode five maps to an image ``(B, 1, *size)`` in normalised intensities."""
        image: Tensor = self.output(self.refined(maps)[0])
        return crop(image, size)


class FeatureReconstruction(nn.Module):
    """Predict every map from the next deeper one: a_l = CB(1x1(up(c_{l+1}))), l = 1..4.

    Arguments: those of :class:`TeacherDecoder`.
    """

    def __init__(self, *, dim: int, base_features: int = 16, convolutions: int | None = None) -> None:
        super().__init__()
        channels, count = level_channels(dim, base_features), stacked(dim, convolutions)
        self.narrow = nn.ModuleList(pointwise(dim, deep, fine, bias=True) for fine, deep in pairwise(channels))
        self.refine = nn.ModuleList(conv_block(dim, fine, fine, convolutions=count) for fine in channels[:-1])
        initialise_kaiming(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four reconstructed maps with the shapes of ``maps[:-1]``."""
        return [
            self.refine[level](resize(self.narrow[level](maps[level + 1]), maps[level].shape[2:]))
            for level in range(len(maps) - 1)
        ]


class Teacher(nn.Module):
    """What teachers have in common: an encoder, five maps of an image, and a decoder that makes it of them again.

    Arguments: those of :class:`UHFTeacher`.
    """

    def __init__(
        self,
        *,
        dim: int,
        in_channels: int = 1,
        base_features: int = 16,
        strides: Sequence[Sequence[int]] | None = None,
        noise: str = "gaussian",
        noise_scale: float = 1.0,
        noise_probability: float = 0.5,
        convolutions: int | None = None,
    ) -> None:
        super().__init__()
        if noise not in NOISES:
            raise ValueError(f"noise must be one of {NOISES}, got {noise!r}")
        self.dim, self.in_channels, self.base_features = dim, in_channels, base_features
        self.steps = checked_strides(dim, strides)
        self.noise, self.noise_scale, self.noise_probability = noise, noise_scale, noise_probability
        self.channels = level_channels(dim, base_features)
        self.strides = cumulative(self.steps)
        self.convolutions = stacked(dim, convolutions)
        in_encoder = max(stacked(dim, None), self.convolutions)  # two in 2D in version 0.1.0, too
        self.stages = nn.ModuleList()
        for level, (narrow, wide) in enumerate(pairwise((in_channels, *self.channels))):
            blocks = [conv_block(dim, narrow if i == 0 else wide, wide) for i in range(in_encoder)]
            step = self.steps[level]
            pool = [get_matching_pool_op(dimension=dim, pool_type="max")(step, step)] if level else []
            self.stages.append(nn.Sequential(*pool, *blocks))
        sizes = {"dim": dim, "base_features": base_features, "convolutions": self.convolutions}
        self.decoder = TeacherDecoder(**sizes)
        self._add_heads(**sizes)
        initialise_kaiming(self.stages)

    def _add_heads(self, **sizes: Any) -> None:
        """What a teacher has beside encoder and decoder, of these sizes."""

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "base_features": self.base_features,
            "strides": [list(step) for step in self.steps],
            "noise": self.noise,
            "noise_scale": self.noise_scale,
            "noise_probability": self.noise_probability,
            "convolutions": self.convolutions,
        }

    def encode(self, image: Tensor) -> list[Tensor]:
        """The five maps of ``(B, C, *S)``, finest first; of small images they cover the padding inside, too."""
        x = pad_to_minimum(image, self.steps)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def decode(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """The image ``(B, 1, *size)`` of five maps."""
        image: Tensor = self.decoder(maps, size)
        return image

    def perturb(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps with fresh noise on a random share of the samples; unchanged when ``noise`` is ``none``."""
        if self.noise == "none":
            return list(maps)
        noisy = torch.rand(maps[0].shape[0], device=maps[0].device) < self.noise_probability
        draw = torch.randn_like if self.noise == "gaussian" else torch.rand_like
        scale = self.noise_scale * noisy.to(maps[0].dtype)
        return [m + draw(m) * scale.reshape(-1, *[1] * (m.ndim - 1)) for m in maps]


class UHFTeacher(Teacher):
    """Auto-encoder of high-field images with feature reconstruction and noise on its maps.

    Args:
        dim: 2 or 3.
        in_channels: channels of the image, 1.
        base_features: nf; maps have nf * (1, 2, 4, 8, 16) channels in 3D and nf everywhere in 2D.
        strides: down-sampling step per level and axis, first all ones; ``None`` is isotropic.
        noise: what is added to all five maps before decoding, in training only: ``gaussian`` (paper's text),
            ``uniform`` on [0, 1) (its code) or ``none``.
        noise_scale: standard deviation (gaussian) or range (uniform).
        noise_probability: share of the samples that get noise. The paper's is 1; a decoder that never met clean
            maps meets them first in use, where its instance normalisation is off, hence 0.5 (ours).
        convolutions: of every CB of decoder and feature reconstruction, 1 or 2; None is the authors', two in 2D and
            one in 3D. Version 0.1.0 had one in both. The encoder has the authors' at least.

    Examples:
        >>> import torch
        >>> from nnunet_uhf import UHFTeacher
        >>> teacher = UHFTeacher(dim=2, base_features=4)
        >>> high_field = torch.rand(2, 1, 32, 32)
        >>> image, features, reconstructed = teacher(high_field, return_features=True)
        >>> image.shape, len(features), len(reconstructed)
        (torch.Size([2, 1, 32, 32]), 5, 4)
    """

    def _add_heads(self, **sizes: Any) -> None:
        self.reconstruction = FeatureReconstruction(**sizes)

    def forward(self, image: Tensor, *, return_features: bool = False) -> Tensor | TeacherOutput:
        """Reconstruct ``(B, 1, *S)``: the image alone, or with the features and their reconstruction."""
        features = self.encode(image)
        restored = self.decode(self.perturb(features) if self.training else features, image.shape[2:])
        if not return_features:
            return restored
        return TeacherOutput(restored, features, self.reconstruction(features))


__all__ = ["FeatureReconstruction", "Teacher", "TeacherDecoder", "TeacherOutput", "UHFTeacher"]
