"""A segmentation network that listens to a frozen keeper (arXiv 2402.08409), for any encoder-decoder nnU-Net plans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_uhf.networks.blocks import resize
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.networks.guided.fusion_kinds import Fusion, build_fusions
from nnunet_uhf.networks.guided.spec import GuidanceSpec
from nnunet_uhf.networks.kinds import guide_of


class KeeperNet(nn.Module):
    """A segmentation backbone beside a frozen keeper: what every network that uses a keeper has in common.

    ``encoder`` and ``decoder`` are the backbone's own, at the top, so that nnU-Net's deep supervision switch,
    checkpoints and pretrained weights find them.

    Args:
        backbone: a network with ``.encoder`` (image -> list of skips, with ``output_channels``) and ``.decoder``
            (skips -> segmentation).
        keeper: its weights are frozen here: no gradient, always in eval mode.
        guide_channel: the input channel the keeper sees, or those of a keeper of several, in its order.
        spacing_ratio: network spacing / keeper spacing per axis; where not 1 the keeper runs on a resized input.

    Raises:
        TypeError: the backbone has no encoder or decoder of that kind.
        ValueError: not one positive ratio per axis, or not as many guide channels as the keeper reads.
    """

    def __init__(
        self,
        backbone: nn.Module,
        keeper: Keeper,
        *,
        guide_channel: int | Sequence[int] = 0,
        spacing_ratio: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        stage_channels(backbone)
        ratio = (1.0,) * keeper.dim if spacing_ratio is None else tuple(float(r) for r in spacing_ratio)
        if len(ratio) != keeper.dim or min(ratio) <= 0:
            raise ValueError(f"spacing_ratio needs {keeper.dim} positive values, got {spacing_ratio}")
        channels = [guide_channel] if isinstance(guide_channel, int) else list(guide_channel)
        if len(channels) != keeper.in_channels:
            raise ValueError(f"the keeper reads {keeper.in_channels} channels, guide_channel names {channels}")
        self.encoder: Any = backbone.encoder
        self.decoder: Any = backbone.decoder
        self.keeper = keeper.requires_grad_(requires_grad=False)
        self.guide_channels = channels
        self.spacing_ratio = ratio

    def train(self, mode: bool = True) -> KeeperNet:
        """As ``nn.Module.train``, but the keeper never leaves eval mode."""
        super().train(mode)
        self.keeper.eval()
        return self

    def source(self, x: Tensor) -> Tensor:
        """The keeper's input ``(B, C', *S')``: the guide channels of ``(B, C, *S)`` at the keeper's spacing."""
        first = self.guide_channels[0]
        source = x[:, first : first + 1] if len(self.guide_channels) == 1 else x[:, self.guide_channels]
        size = [max(1, round(n * r)) for n, r in zip(source.shape[2:], self.spacing_ratio, strict=True)]
        return resize(source, size)


class UHFGuidedNet(KeeperNet):
    """Backbone, frozen keeper, and one fusion per encoder stage.

    All skips are fused after the whole encoder has run. The keeper runs without autograd bookkeeping.

    Args:
        backbone: see :class:`KeeperNet`, as for keeper, guide_channel and spacing_ratio.
        keeper: gives the guides.
        fusions: one per encoder stage.
        guide_channel: the input channel the keeper sees, or those of a keeper of several, in its order.
        spacing_ratio: network spacing / keeper spacing per axis.

    Raises:
        TypeError: the backbone has no encoder or decoder of that kind.
        ValueError: the number of fusions is not the number of encoder stages.

    Examples:
        ``guide`` makes one of a network and a keeper; then it is trained as any other network:

        >>> import torch
        >>> from dynamic_network_architectures.architectures.unet import PlainConvUNet
        >>> from torch import nn
        >>> from nnunet_uhf import KnowledgeKeeper, guide
        >>> network = PlainConvUNet(
        ...     input_channels=2, num_classes=3, n_stages=2, features_per_stage=[4, 8], strides=[1, 2],
        ...     conv_op=nn.Conv2d, kernel_sizes=3, n_conv_per_stage=1, n_conv_per_stage_decoder=1,
        ... )
        >>> guided = guide(network, KnowledgeKeeper(dim=2, base_features=4), guide_channel=1).train()
        >>> guided(torch.zeros(1, 2, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
        >>> guided.keeper.training  # it stays as it is
        False
    """

    def __init__(
        self,
        backbone: nn.Module,
        keeper: Keeper,
        fusions: Sequence[Fusion],
        *,
        guide_channel: int | Sequence[int] = 0,
        spacing_ratio: Sequence[float] | None = None,
    ) -> None:
        super().__init__(backbone, keeper, guide_channel=guide_channel, spacing_ratio=spacing_ratio)
        stages = len(stage_channels(backbone))
        if len(fusions) != stages:
            raise ValueError(f"the encoder has {stages} stages but {len(fusions)} fusion modules were given")
        self.fusions = nn.ModuleList(fusions)
        self._regions: tuple[Any, Any] | None = None
        self._given: list[Tensor] | None = None
        self.train(self.training)

    def guides(self, x: Tensor) -> list[Tensor]:
        """The keeper's maps of ``(B, C, *S)``, without gradient."""
        with torch.no_grad():
            guides: list[Tensor] = self.keeper(self.source(x))
        return guides

    def forward(self, x: Tensor) -> Any:
        """Segmentation logits of ``(B, C, *S)``, exactly as the backbone's decoder returns them."""
        if self._given is not None:
            return (self._segmented if self._regions is None else self._regions[1])(x, self._given)
        if self._regions is not None:
            keeper, rest = self._regions
            learns = any(parameter.requires_grad for parameter in self.keeper.parameters())
            # a graph is compiled anew where it is entered with gradient and where it is without
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                guides = keeper(x)
            return rest(x, guides)
        skips = self.encoder(x)  # first: it keeps a graphics card busy while Python launches the keeper's many kernels
        return self._decoded(skips, self.guides(x))

    @contextmanager
    def guided_by(self, guides: list[Tensor]) -> Iterator[None]:
        """Let the fusions hear these maps, shaped as the keeper's, in place of the keeper's own."""
        self._given = guides
        try:
            yield
        finally:
            self._given = None

    def compile_regions(self, **options: Any) -> None:
        """Compile the keeper, and the rest, as graphs of their own, with ``options`` of ``torch.compile``.

        The keeper is the same in training, validation and prediction, so that it is compiled once; the rest is compiled
        anew for each. Sizes are static: all batches of a training of nnU-Net have one.
        """
        settings: dict[str, Any] = {"dynamic": False, **options}
        self._regions = torch.compile(self.guides, **settings), torch.compile(self._segmented, **settings)

    def _segmented(self, x: Tensor, guides: list[Tensor]) -> Any:
        return self._decoded(self.encoder(x), guides)

    def _decoded(self, skips: Sequence[Tensor], guides: list[Tensor]) -> Any:
        return self.decoder([fusion(skip, guides) for fusion, skip in zip(self.fusions, skips, strict=True)])

    @torch.no_grad()
    def loudness(self, x: Tensor) -> Tensor:
        """How much the guidance of ``(B, C, *S)`` says: of each stage, finest first, |what is added| / |skip|."""
        guides, skips = self.guides(x), self.encoder(x)
        return torch.stack(
            [_ratio(fusion(skip, guides), skip) for fusion, skip in zip(self.fusions, skips, strict=True)]
        )


def _ratio(fused: Tensor, skip: Tensor) -> Tensor:
    """In single precision: squares of a whole map are beyond half precision."""
    added, norm = (fused.float() - skip.float()).norm(), skip.float().norm()
    return added / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def stage_channels(backbone: nn.Module) -> tuple[int, ...]:
    """Channels of the skips, finest first; TypeError that names the class when the network cannot be guided."""
    encoder, decoder = getattr(backbone, "encoder", None), getattr(backbone, "decoder", None)
    channels = getattr(encoder, "output_channels", None)
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module) or channels is None:
        raise TypeError(
            f"{type(backbone).__name__} cannot be guided: it needs an .encoder that returns its skips and lists their "
            "channels in .output_channels, and a .decoder that takes them"
        )
    return tuple(channels)


def build_guided_net(
    backbone: nn.Module, spec: GuidanceSpec, *, network: type[UHFGuidedNet] = UHFGuidedNet
) -> UHFGuidedNet:
    """Put keeper and fusions around a backbone.

    Args:
        backbone: the network nnU-Net built.
        spec: what is put around it.
        network: the class to build.

    Returns:
        The guided network; the keeper's weights are random until loaded.
    """
    channels = stage_channels(backbone)
    keeper = guide_of(spec.keeper.network, spec.keeper.architecture)
    fusions = build_fusions(spec.fusion, keeper, channels)
    return network(backbone, keeper, fusions, guide_channel=spec.guide_channels, spacing_ratio=spec.spacing_ratio)
