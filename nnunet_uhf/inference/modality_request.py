"""What is asked of a Uni-COAL model, held against what it was trained to make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nnunet_uhf.errors import UHFError
from nnunet_uhf.inference.enhancer import Enhancer
from nnunet_uhf.keepers.header import InputChannel, KeeperHeader
from nnunet_uhf.networks.unicoal.modalities import Modalities, Slices

SAME_RATIO = 0.01  # that far spacings may be apart; scanners round


@dataclass(frozen=True, kw_only=True)
class ModalityRequest:
    """What is asked of a model.

    Attributes:
        target: a modality that it was trained to make.
        sources: the modalities that are given; of several, each scan has a file for each, in this order.
    """

    target: str
    sources: tuple[str, ...]

    def header_for(self, header: KeeperHeader, known: Modalities) -> KeeperHeader:
        """A model's header as of a network of these inputs and this output."""
        first, *others = (
            InputChannel(channel=name, normalisation=header.normalisation, use_mask_for_norm=header.use_mask_for_norm)
            for name in self.sources
        )
        return replace(
            header,
            channel=first.channel,
            further_channels=tuple(others),
            source_field_T=known.tesla[self.sources[0]],
            target_field_T=known.tesla[self.target],
        )

    def slices(self, known: Modalities, *, distance_mm: float, ratio: float) -> Slices:
        """How a scan's slices are said to lie; files do not say how thick they are: with the least of trained gaps."""
        gap = 0.0 if self._lie_alike(ratio) else known.gap[0]
        return Slices(distance_mm=distance_mm, thickness_mm=distance_mm * (1 - gap))

    def beyond_training(self, known: Modalities, ratio: float) -> str | None:
        """What to say of so many slices that are made of one, or None."""
        low, high = known.ratio
        if self._lie_alike(ratio) or low * (1 - SAME_RATIO) <= ratio <= high * (1 + SAME_RATIO):
            return None
        return f"{ratio:.3g} slices of one, the model was trained on {low:g} to {high:g}: it may do worse here"

    def _lie_alike(self, ratio: float) -> bool:
        """Whether another modality is asked for on the slices of the scan, which every training draws."""
        return abs(ratio - 1) <= SAME_RATIO and self.target not in self.sources


def modalities_of(enhancer: Enhancer) -> Modalities:
    """What a model knows; UHFError of one that is not asked for modalities."""
    content = enhancer.headers[0].modalities
    if content is None:
        raise UHFError(
            f"{enhancer.name} makes one kind of image of one kind of scan: leave out --to, --from and --spacing, which "
            "are for models of UniCOALTrainer"
        )
    return Modalities.of(content)


def modality_request(
    known: Modalities, model: str, *, to: str | None, source: str | Sequence[str] | None
) -> ModalityRequest:
    """What is asked, defaults filled in.

    Args:
        known: what the model knows.
        model: its name in messages.
        to: the target; None for the only one.
        source: the modalities of the scans; None for the only one.

    Raises:
        UHFError: what the model was not trained on, or no default.
    """
    given = known.sources if source is None else (source,) if isinstance(source, str) else tuple(source)
    if source is None and len(known.sources) > 1:
        raise UHFError(f"{model} was trained on {', '.join(known.sources)}: say which of them the scans are (--from)")
    if to is None and len(known.targets) > 1:
        raise UHFError(f"{model} makes {', '.join(known.targets)}: say which (--to)")
    target = known.targets[0] if to is None else to
    if target not in known.targets:
        raise UHFError(f"--to {target}: {model} was trained to make {', '.join(known.targets)}; ask for one of them")
    unknown = [name for name in given if name not in known.sources]
    if unknown or len(set(given)) < len(given):
        raise UHFError(f"--from {' '.join(given)}: {model} was trained on {', '.join(known.sources)}, each given once")
    if len(given) > 1 and not known.several_sources:
        raise UHFError(f"--from {' '.join(given)}: {model} reads one source at a time; name one")
    return ModalityRequest(target=target, sources=given)
