"""The anisotropic U-Net of stochastic image quality transfer (Lin et al., Medical Image Analysis 87, 102807, 2023).

Thick slices go in, thin ones come out: the encoder leaves the slice axis alone until the plane is as coarse, the skips
bring it to the output's sampling. Ours: 2D beside 3D, ratios that are no power of two, any slice axis and any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp, get_matching_pool_op
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import crop_levels, cumulative, extend
from nnunet_uhf.networks.contract import EnhancementNet, Keeper
from nnunet_uhf.networks.siqt.blocks import Core, ImageHead, SkipBottleneck, initialise_glorot
from nnunet_uhf.networks.siqt.masksembles import MaskMaker, check_masks

LEVELS = 5
"""Number of resolution levels (paper)."""
FACTORS: dict[int, tuple[int, ...]] = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 6: (2, 3), 8: (2, 2, 2)}
"""Prime factors of the ratios, finest level first. The paper's are 2, 4 and 8; its code has 6, too."""
POOLINGS = {"max": "max", "average": "avg"}
"""Names of the poolings, and nnU-Net's names of them. The original's is the maximum."""


class AnisotropicKeeper(Keeper):
    """All of the anisotropic U-Net but its last convolution: an image in, the decoder's five maps out.

    With f = base_features, five levels of f * (1, 2, 4, 8, 16) channels, in 2D as in 3D. To guide it needs ratio 1 and
    no masks: then its maps lie on the grid of the input, and one pass gives them.

    Args:
        dim: 2 or 3.
        in_channels: channels of the source image, 1.
        base_features: f, 16 in the paper; a multiple of 4.
        ratio: how many times the output's slices are the input's: 1, 2, 3, 4, 6 or 8. At 1 an isotropic U-Net.
        slice_axis: the spatial axis of the slices, 0 .. dim - 1; None where the ratio is 1.
        masks: members of a Masksembles ensemble, 2 or more, 16 in the paper; None for none.
        mask_scale: the masks' scale, 1 to 6, 2 in the paper.
        pooling: between the encoder's levels, ``max`` (the original's) or ``average`` (that of version 0.1.0).
        plane_step: where the ratio has a factor of 3, how much coarser its level is in the plane and how many times as
            wide: 3 (the original's at ratio 6, the finest level then) or 2 (ours). None is 3 at ratio 6, else 2.

    Attributes:
        channels: of the five maps, finest first.
        steps: per level and axis, how much coarser its map is than the next finer one.
        strides: per level and axis, how much coarser its map is than the output.

    Raises:
        ValueError: an argument outside these ranges.

    Examples:
        >>> import torch
        >>> from nnunet_uhf import AnisotropicKeeper
        >>> keeper = AnisotropicKeeper(dim=2, base_features=4)
        >>> [tuple(one.shape[1:]) for one in keeper(torch.zeros(1, 1, 32, 32))]
        [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    """

    def __init__(
        self,
        *,
        dim: int,
        in_channels: int = 1,
        base_features: int = 16,
        ratio: int = 1,
        slice_axis: int | None = None,
        masks: int | None = None,
        mask_scale: float = 2.0,
        pooling: str = "max",
        plane_step: int | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(dim, base_features, ratio, slice_axis)
        self.plane_step = (3 if ratio == 6 else 2) if plane_step is None else plane_step
        plane_steps = plane_steps_of(ratio, self.plane_step)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        check_masks(masks, mask_scale)
        self.dim, self.in_channels, self.base_features = dim, in_channels, base_features
        self.ratio, self.slice_axis, self.masks, self.mask_scale = ratio, slice_axis, masks, mask_scale
        self.pooling = pooling
        self.channels = siqt_channels(base_features, ratio, self.plane_step)
        factors = _factors(ratio, self.plane_step)
        spared = len(factors)
        self.minimum_plane = math.prod(plane_steps)
        self.minimum_slices = 2 ** (LEVELS - 1 - spared)
        planes = [(step,) * (dim - 1) for step in plane_steps]
        pools = [(*plane, 1 if level < spared else 2) for level, plane in enumerate(planes)]
        ups = [(*plane, factors[level] if level < spared else 2) for level, plane in enumerate(planes)]
        self.steps = ((1,) * dim, *(self._as_given(step) for step in ups))
        self.strides = cumulative(self.steps)
        make_mask = MaskMaker(masks, mask_scale)
        pool = get_matching_pool_op(dimension=dim, pool_type=POOLINGS[pooling])
        up = get_matching_convtransp(dimension=dim)
        self.pools = nn.ModuleList(pool(step) for step in pools)
        before = (in_channels, *self.channels)
        self.encode = nn.ModuleList(Core(dim, before[i], self.channels[i], make_mask) for i in range(LEVELS))
        self.skips = nn.ModuleList(
            SkipBottleneck(dim, self.channels[i], math.prod(factors[i:]), make_mask) for i in range(LEVELS - 1)
        )
        self.ups = nn.ModuleList(
            up(self.channels[i + 1], self.channels[i], ups[i], stride=ups[i]) for i in range(LEVELS - 1)
        )
        # the deepest level has two Cores, as in the original
        self.decode = nn.ModuleList(Core(dim, 2 * c, c, make_mask) for c in self.channels[:-1])
        self.decode.append(Core(dim, self.channels[-1], self.channels[-1], make_mask))
        initialise_glorot(self)

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return {
            "dim": self.dim,
            "in_channels": self.in_channels,
            "base_features": self.base_features,
            "ratio": self.ratio,
            "slice_axis": self.slice_axis,
            "masks": self.masks,
            "mask_scale": self.mask_scale,
            "pooling": self.pooling,
            "plane_step": self.plane_step,
        }

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Size of the output of an input of ``size``: ``ratio`` times as many slices."""
        return tuple(n * (self.ratio if axis == self.slice_axis else 1) for axis, n in enumerate(size))

    def features(self, source: Tensor, mask: int | None = None) -> list[Tensor]:
        """The decoder's five maps of ``(B, in_channels, *S)``, finest first; they cover the padding inside.

        With masks: in training every sample meets one of them at random, so that in time every patch meets every
        mask; else the maps of the member ``mask`` or, where None, their mean over all members.

        Raises:
            ValueError: no such mask.
        """
        if mask is None and self.masks is not None and not self.training:
            total = self.features(source, 0)
            for member in range(1, self.masks):
                total = [one + more for one, more in zip(total, self.features(source, member), strict=True)]
            return [level_map / self.masks for level_map in total]
        return self._maps(source, self._members(source, mask))

    def _maps(self, source: Tensor, member: Tensor | None) -> list[Tensor]:
        """The maps of the members ``(B,)``."""
        x = self._slices_last(source)
        x = extend(x, self._missing(x.shape[2:]))
        skips = []
        for level, core in enumerate(self.encode):
            x = core(x if level == 0 else self.pools[level - 1](x), member)
            skips.append(x)
        x = self.decode[-1](x, member)
        maps = [x]
        for level in reversed(range(LEVELS - 1)):
            skip = self.skips[level](skips[level], member)
            x = self.decode[level](torch.cat((self.ups[level](x), skip), dim=1), member)
            maps.append(x)
        return [self._slices_back(level_map) for level_map in reversed(maps)]

    def forward(self, source: Tensor) -> list[Tensor]:
        """Maps of ``(B, C_in, *S)``: ``(B, c_l, *S_l)``, finest first, S_l = max(1, S' // stride_l) of an output S'."""
        return crop_levels(self.features(source), self.output_size(source.shape[2:]), self.steps)

    def _members(self, source: Tensor, mask: int | None) -> Tensor | None:
        """The mask ``(B,)`` of every sample."""
        if self.masks is None:
            if mask is not None:
                raise ValueError(f"mask {mask} of a network without masks")
            return None
        if mask is None:
            return torch.randint(self.masks, (source.shape[0],), device=source.device)
        if not 0 <= mask < self.masks:
            raise ValueError(f"mask {mask} of a network with masks 0 to {self.masks - 1}")
        return torch.full((source.shape[0],), mask, device=source.device)

    def _missing(self, size: torch.Size) -> tuple[int, ...]:
        """How many planes each axis (slices last) lacks until it can be pooled to the deepest level without a rest.

        That level gets two voxels at least: batch normalisation cannot train on one.
        """
        multiples = [self.minimum_plane] * (self.dim - 1) + [self.minimum_slices]
        missing = [-n % multiple for n, multiple in zip(size, multiples, strict=True)]
        if all(n + m == multiple for n, m, multiple in zip(size, missing, multiples, strict=True)):
            missing[0] += multiples[0]
        return tuple(missing)

    def _slices_last(self, x: Tensor) -> Tensor:
        return x if self.slice_axis is None else x.movedim(self.slice_axis - self.dim, -1)

    def _slices_back(self, x: Tensor) -> Tensor:
        return x if self.slice_axis is None else x.movedim(-1, self.slice_axis - self.dim)

    def _as_given(self, step: tuple[int, ...]) -> tuple[int, ...]:
        """A step with the slices last -> in the order of the input's axes."""
        if self.slice_axis is None:
            return step
        return (*step[: self.slice_axis], step[-1], *step[self.slice_axis : -1])


class AnisotropicUNet(EnhancementNet):
    """``(B, in_channels, *S) -> (B, 1, *S')``, where S' has ``ratio`` times the slices.

    Arguments: those of :class:`AnisotropicKeeper`. ``keeper`` is all but the last convolution, ``decoder`` that
    one, as a keeper file names them. In 3D with 16 features: 9,692,185 trainable parameters at ratio 8, 9,685,017 at 4,
    21,742,241 at 6, as the original. Where masks go is the original's, too: after the shortcut of a Core and after
    every ReLU that a convolution feeds.

    Examples:
        >>> import torch
        >>> from nnunet_uhf import AnisotropicUNet
        >>> network = AnisotropicUNet(dim=3, base_features=4, ratio=4, slice_axis=0)
        >>> network(torch.zeros(1, 1, 8, 32, 32)).shape  # four slices of each
        torch.Size([1, 1, 32, 32, 32])
    """

    keeper: AnisotropicKeeper
    decoder: ImageHead

    def __init__(
        self,
        *,
        dim: int,
        in_channels: int = 1,
        base_features: int = 16,
        ratio: int = 1,
        slice_axis: int | None = None,
        masks: int | None = None,
        mask_scale: float = 2.0,
        pooling: str = "max",
        plane_step: int | None = None,
    ) -> None:
        keeper = AnisotropicKeeper(
            dim=dim,
            in_channels=in_channels,
            base_features=base_features,
            ratio=ratio,
            slice_axis=slice_axis,
            masks=masks,
            mask_scale=mask_scale,
            pooling=pooling,
            plane_step=plane_step,
        )
        super().__init__(keeper, ImageHead(dim=dim, base_features=base_features))
        self.dim, self.ratio, self.slice_axis, self.masks = dim, ratio, slice_axis, masks
        self.channels, self.strides = self.keeper.channels, self.keeper.strides

    def config(self) -> dict[str, Any]:
        """Keyword arguments that rebuild this network, ready for JSON."""
        return self.keeper.config()

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Size of the output of an input of ``size``: ``ratio`` times as many slices."""
        return self.keeper.output_size(size)

    def features(self, source: Tensor, mask: int | None = None) -> list[Tensor]:
        """The decoder's five maps, see :meth:`AnisotropicKeeper.features`."""
        return self.keeper.features(source, mask)

    def forward(self, source: Tensor, mask: int | None = None) -> Tensor:
        """The image ``(B, 1, *S')`` in normalised intensities.

        With masks: in training every sample meets one of them at random, so that in time every patch meets every
        mask; else it is the image of the member ``mask`` or, where None, the mean over all members.

        Raises:
            ValueError: no such mask.
        """
        image: Tensor = self.decoder(self.features(source, mask), self.output_size(source.shape[2:]))
        return image

    def forward_all(self, source: Tensor) -> Tensor:
        """The images of all members, ``(masks, B, 1, *S')``; their standard deviation is the uncertainty.

        Raises:
            ValueError: the network has no masks.
        """
        if self.masks is None:
            raise ValueError("a network without masks has one member only")
        return torch.stack([self.forward(source, member) for member in range(self.masks)])


def plane_steps_of(ratio: int, plane_step: int) -> tuple[int, ...]:
    """How much coarser each level is in the plane than the next finer one, from the second on.

    Raises:
        ValueError: neither 2 nor 3, or 3 where the ratio has no factor of 3.
    """
    if plane_step not in (2, 3) or (plane_step == 3 and ratio % 3):
        raise ValueError(f"plane_step must be 2, or 3 where the ratio is 3 or 6, got {plane_step} at ratio {ratio}")
    factors = _factors(ratio, plane_step)
    return tuple(plane_step if level < len(factors) and factors[level] == 3 else 2 for level in range(LEVELS - 1))


def siqt_channels(base_features: int, ratio: int, plane_step: int) -> tuple[int, ...]:
    """Channels of the five levels: they grow as the plane gets coarser."""
    steps = plane_steps_of(ratio, plane_step)
    return tuple(base_features * math.prod(steps[:level]) for level in range(LEVELS))


def _factors(ratio: int, plane_step: int) -> tuple[int, ...]:
    """The ratio's prime factors, finest level first; the original begins with the 3."""
    return FACTORS[ratio] if plane_step == 2 else tuple(sorted(FACTORS[ratio], reverse=True))


def _check_arguments(dim: int, base_features: int, ratio: int, slice_axis: int | None) -> None:
    if dim not in (2, 3):
        raise ValueError(f"dim must be 2 or 3, got {dim}")
    if base_features < 4 or base_features % 4:
        raise ValueError(f"base_features must be a positive multiple of 4, got {base_features}")
    if ratio not in FACTORS:
        raise ValueError(f"ratio must be one of {', '.join(map(str, FACTORS))}, got {ratio}")
    if slice_axis is None and ratio != 1:
        raise ValueError(f"ratio {ratio} needs the slice_axis, one of 0 to {dim - 1}")
    if slice_axis is not None and not 0 <= slice_axis < dim:
        raise ValueError(f"slice_axis must be one of 0 to {dim - 1}, got {slice_axis}")
