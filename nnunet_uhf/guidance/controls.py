"""Controls: guided networks with one thing changed, so that a gain can be traced to the keeper's knowledge (ours).

A control's name stands in the ``uhf`` block of the plans (``"control"``), which decides the network that training
and prediction build. Keepers of three controls are drawn instead of pretrained: they know nothing, and the block says
so in place of the provenance of the file that only gave the architecture.
"""

from __future__ import annotations

from dataclasses import replace

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import DecoderEntry, GuidedBlock, KeeperEntry
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.guided.controls import CONTROLS, ENHANCED_INPUT


def controlled_block(
    block: GuidedBlock,
    control: str | None,
    *,
    seed: int,
    header: KeeperHeader | None,
    trained: GuidedBlock | None,
    where: str,
) -> GuidedBlock:
    """The guided block of a control from that of its keeper; the block as it is without a control.

    Args:
        block: from a keeper file or from plans.
        control: one of :data:`CONTROLS`, or None for a guided training.
        seed: of a drawn keeper.
        header: of the keeper file when it is at hand; the enhanced input needs its decoder.
        trained: the block the model folder was trained with; it is followed where a keeper would be drawn anew.
        where: the plans, for messages.

    Raises:
        UHFError: the block is another control's, or the keeper file has no decoder for the enhanced input.
    """
    if block.control not in (None, control):
        wanted = "a guided training" if control is None else f"the control {control}"
        raise UHFError(f"{where}: these plans are the control {block.control}'s, not {wanted}'s; take others")
    if control is None or block.control == control:
        return block
    keeper = block.keeper
    if trained is not None and trained.control == control and _same_origin(keeper, trained.keeper, control, seed):
        keeper = trained.keeper
    elif CONTROLS[control].drawn:
        keeper = _drawn_entry(keeper, seed)
    elif control == ENHANCED_INPUT:
        keeper = replace(keeper, decoder=_decoder_entry(header, where))
    return replace(block, control=control, keeper=keeper)


def _same_origin(now: KeeperEntry, before: KeeperEntry, control: str, seed: int) -> bool:
    if CONTROLS[control].drawn:
        return (before.architecture, before.network, before.seed) == (now.architecture, now.network, seed)
    return before.sha256 == now.sha256


def _drawn_entry(keeper: KeeperEntry, seed: int) -> KeeperEntry:
    """The keeper with random weights: their hash, their seed, and a provenance without any training."""
    drawn = replace(keeper, seed=seed, provenance=keeper.provenance.drawn(seed))
    return replace(drawn, sha256=weights_sha256(drawn.drawn().state_dict()))


def _decoder_entry(header: KeeperHeader | None, where: str) -> DecoderEntry:
    if header is None:
        raise UHFError(f"{where}: the enhanced input needs the keeper file; set nnUNet_UHF_KKN to it")
    if header.decoder_architecture is None or header.decoder_sha256 is None:
        raise UHFError(
            f"{where}: keeper {header.sha256[:8]} has no decoder, so there is no enhanced image; export it "
            "with its decoder"
        )
    return DecoderEntry(architecture=dict(header.decoder_architecture), sha256=header.decoder_sha256)
