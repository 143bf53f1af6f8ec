"""The folds that are already trained in a model folder decide what dataset.json leaves open of a network (ours).

The folds of a model folder share its plans.json: a fold of another network would make that of the others wrong. For
some arguments nobody would notice, as no weight tells them: the pooling of SIQT. So what version 0.1.0 began is gone on
with as it was, and so are its other folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.kinds import KINDS
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder


def of_folds(asked: Mapping[str, Any], folder: ModelFolder, configuration: str) -> dict[str, Any]:
    """Arguments of a network that dataset.json sets, and those that older files leave unsaid as the folds have them.

    Args:
        asked: what dataset.json sets.
        folder: where the folds of this trainer, plans and configuration are; it need not be there.
        configuration: of the plans.

    Raises:
        UHFError: the folds were trained with another one of them than dataset.json asks for, or their plans.json is
            damaged.
    """
    networks = _trained(folder, configuration)
    if networks is None:
        return dict(asked)
    kind = KINDS.get(networks.network)
    trained = {name: networks.architecture[name] for name in (kind.unsaid if kind is not None else ())}
    for name, value in trained.items():
        if asked.get(name, value) != value:
            raise UHFError(
                f"{folder.plans_file}: the folds there were trained with {name} {value}, dataset.json asks for "
                f"{asked[name]} (uhf.architecture); remove that entry, or move the folder away to train all folds anew"
            )
    return {**asked, **trained}


def require_network(asked: str, folder: ModelFolder, configuration: str) -> None:
    """UHFError when the folds that are there have a network of another kind than ``asked``."""
    networks = _trained(folder, configuration)
    if networks is not None and networks.network != asked:
        raise UHFError(
            f"{folder.plans_file}: the folds there are of the network {networks.network}, dataset.json asks for "
            f"{asked}; the preset that was called efficient in version 0.1.0 is called light now "
            '("preset": "light" in uhf.architecture), or move the folder away to train all folds anew'
        )


def require_teacher(segments: bool, folder: ModelFolder, configuration: str) -> None:
    """UHFError when the folds that are there are of a teacher of the other kind: of one that segments, or of images."""
    networks = _trained(folder, configuration)
    if networks is not None and ("classes" in networks.architecture) != segments:
        there, asked = ("image", "segmentation") if segments else ("segmentation", "image")
        raise UHFError(
            f"{folder.plans_file}: the folds there are of a teacher of the kind {there!r}, dataset.json asks for "
            f"{asked!r} (uhf.teacher); restore that entry, or move the folder away to train all folds anew"
        )


def _trained(folder: ModelFolder, configuration: str) -> NetworksEntry | None:
    """Networks of the folds that are there; None without any."""
    checkpoints = [fold.any_checkpoint for fold in folder.folds.values() if fold.any_checkpoint is not None]
    if not checkpoints:
        return None
    if folder.plans_file.is_file():
        plans = folder.plans()
    else:
        plans = load_checkpoint_weights(checkpoints[0])["init_args"]["plans"]
    return TrainingBlock.of(plans, configuration, where=folder.plans_file).networks
