"""Controls: guided networks with one thing changed, so that a gain can be traced to the keeper's knowledge (ours).

A control's name stands in the ``uhf`` block of the plans (``"control"``), which decides the network that training
and prediction build. Keepers of three controls are drawn instead of pretrained: they know nothing, and the block says
so in place of the provenance of the file that only gave the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.guided.controls import CONTROLS, ENHANCED_INPUT, drawn_keeper

if TYPE_CHECKING:
    pass


def controlled_block(
    block: Mapping[str, Any],
    control: str | None,
    *,
    seed: int,
    header: KeeperHeader | None,
    trained: Mapping[str, Any] | None,
    where: str,
) -> dict[str, Any]:
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
    present = block.get("control")
    if present not in (None, control):
        wanted = "a guided training" if control is None else f"the control {control}"
        raise UHFError(f"{where}: these plans are the control {present}'s, not {wanted}'s; take others")
    if control is None or present == control:
        return dict(block)
    if trained is not None and trained.get("control") == control and _same_origin(block, trained, control, seed):
        keeper = dict(trained["keeper"])
    elif CONTROLS[control].drawn:
        keeper = _drawn_entry(block["keeper"], seed)
    else:
        keeper = dict(block["keeper"])
        if control == ENHANCED_INPUT:
            keeper["decoder"] = _decoder_entry(header, where)
    return {**block, "control": control, "keeper": keeper}


def _same_origin(block: Mapping[str, Any], trained: Mapping[str, Any], control: str, seed: int) -> bool:
    before, now = trained["keeper"], block["keeper"]
    if CONTROLS[control].drawn:
        same_network = all(before.get(name) == now.get(name) for name in ("architecture", "network"))
        return same_network and bool(before["seed"] == seed)
    return bool(before["sha256"] == now["sha256"])


def _drawn_entry(keeper: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The block's keeper entry for random weights: their hash, their seed, and a provenance without any training."""
    from nnunet_uhf.keepers.file import weights_sha256

    known = keeper["provenance"]
    provenance = {
        **{name: known[name] for name in ("spacing_mm", "patch_size") if name in known},
        "dataset": "nothing",
        "configuration": "random weights",
        "fold": f"seed {seed}",
        "route": "none",
        "source_field_T": None,
        "target_field_T": None,
        "training_cases": [],
        "validation_cases": [],
        "metrics": {},
    }
    weights = drawn_keeper(keeper, seed).state_dict()
    return {**keeper, "sha256": weights_sha256(weights), "seed": seed, "provenance": provenance}


def _decoder_entry(header: KeeperHeader | None, where: str) -> dict[str, Any]:
    if header is None:
        raise UHFError(f"{where}: the enhanced input needs the keeper file; set nnUNet_UHF_KKN to it")
    if header.decoder_architecture is None:
        raise UHFError(
            f"{where}: keeper {header.sha256[:8]} has no decoder, so there is no enhanced image; export it "
            "with its decoder"
        )
    return {"architecture": dict(header.decoder_architecture), "sha256": header.decoder_sha256}
