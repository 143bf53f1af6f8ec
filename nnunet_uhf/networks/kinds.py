"""The kinds of network a keeper file may hold, one line each, and what to ask of them by name (ours).

To add one: describe it in ``networks/<method>/kind.py`` and put its entry into :data:`KINDS`. Nobody else names it.
"""

from __future__ import annotations

from nnunet_uhf.networks.contract import NetworkKind
from nnunet_uhf.networks.distillation.kind import KIND as KNOWLEDGE_KEEPER
from nnunet_uhf.networks.siqt.kind import KIND as ANISOTROPIC_UNET
from nnunet_uhf.networks.space_to_depth.kind import KIND as SPACE_TO_DEPTH_UNET
from nnunet_uhf.networks.unicoal.kind import KIND as UNICOAL

KINDS: dict[str, NetworkKind] = {
    kind.name: kind for kind in (KNOWLEDGE_KEEPER, ANISOTROPIC_UNET, SPACE_TO_DEPTH_UNET, UNICOAL)
}
