"""The kinds of network a keeper file may hold, one line each, and what to ask of them by name (ours).

To add one: describe it in ``networks/<method>/kind.py`` and put its entry into :data:`KINDS`. Nobody else names it.
"""

from __future__ import annotations

from torch import nn

from nnunet_uhf.networks.contract import Arguments, Keeper, NetworkKind
from nnunet_uhf.networks.distillation.kind import KIND as KNOWLEDGE_KEEPER
from nnunet_uhf.networks.pta.kind import PTA_KINDS
from nnunet_uhf.networks.siqt.kind import KIND as ANISOTROPIC_UNET
from nnunet_uhf.networks.space_to_depth.kind import KIND as SPACE_TO_DEPTH_UNET
from nnunet_uhf.networks.unicoal.kind import KIND as UNICOAL

KINDS: dict[str, NetworkKind] = {
    kind.name: kind for kind in (KNOWLEDGE_KEEPER, ANISOTROPIC_UNET, SPACE_TO_DEPTH_UNET, UNICOAL, *PTA_KINDS)
}

#: What a header or block that names no network means: the first formats knew no other.
DEFAULT_NETWORK = KNOWLEDGE_KEEPER.name


def guide_of(network: str, architecture: Arguments) -> Keeper:
    """The keeper, with random weights, of a kind.

    Raises:
        KeyError: this version does not have the kind.
        ValueError: an architecture that cannot guide.
    """
    kind = KINDS[network]
    reason = kind.no_guide(architecture)
    if reason is not None:
        raise ValueError(f"this {network} cannot guide: {reason}")
    return kind.keeper(**architecture)


def why_no_guide(network: str, architecture: Arguments) -> str | None:
    """Why a keeper cannot guide a segmentation, as the end of a sentence about it; None when it can."""
    return KINDS[network].no_guide(architecture)


def who_makes_guides() -> str:
    """The trainers whose keepers can guide, as the end of "take a keeper of ..": for errors."""
    return ", or of ".join(kind.trainers for kind in KINDS.values() if kind.trainers)


def sizes_of(network: type[nn.Module]) -> frozenset[str]:
    """Names of the arguments of a network that a dataset.json may set; none of a class that no kind mentions."""
    return frozenset().union(*(kind.sizes.get(network, frozenset()) for kind in KINDS.values()))


def all_sizes() -> frozenset[str]:
    """Names of the arguments that a dataset.json may set, of any network."""
    return frozenset().union(*(names for kind in KINDS.values() for names in kind.sizes.values()))
