"""Prediction with the keeper that the plans name, or none: weights are hashed when a network takes them (ours).

nnU-Net's prediction builds the network from the plans and loads the weights of a checkpoint; nothing else would notice
a checkpoint of another model.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.networks.guided.controls import CONTROLS

_GUARD = "_keeper_guard"


def kept_hashes(block: GuidedBlock) -> dict[str, str]:
    """Hashes by the name of the part of the network whose weights never change; none where the keeper is trained."""
    if block.control is not None and CONTROLS[block.control].trained:
        return {}
    decoder = block.keeper.decoder
    return {"keeper": block.keeper.sha256, **({} if decoder is None else {"image_decoder": decoder.sha256})}


def guard_keeper(network: nn.Module, block: GuidedBlock, *, where: str) -> None:
    """From now on a network that is given weights with another keeper ends the command with one line.

    Args:
        network: with the parts that the block names.
        block: says which keeper.
        where: the plans, for the message.
    """
    hashes = kept_hashes(block)
    if hashes:
        handle = network.register_load_state_dict_post_hook(partial(_compare, hashes=hashes, where=where))
        setattr(network, _GUARD, handle)


def leave_unguarded(network: nn.Module) -> None:
    """A training looks itself, once its weights have come from wherever they come from."""
    handle = getattr(network, _GUARD, None)
    if isinstance(handle, RemovableHandle):
        handle.remove()


@exit_on_user_error
def _compare(network: nn.Module, _: Any, *, hashes: dict[str, str], where: str) -> None:
    for name, wanted in hashes.items():
        present = weights_sha256(getattr(network, name).state_dict())
        if present != wanted:
            raise UHFError(
                f"{where}: the checkpoint holds {name} {present[:8]}, the plans name {wanted[:8]}: they are of two "
                "models; restore the model folder (nnunet-uhf verify names the file)"
            )
