"""The keeper that a keeper file holds, or that guides a finished nnU-Net model, with its checked header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.entries import ROLE
from nnunet_uhf.keepers.file import KeeperFile, read_keeper, weights_sha256
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.guided.controls import CONTROLS
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, role_of


@dataclass(frozen=True)
class ModelKeeper:
    """A keeper without decoder; ``guide_channels`` are those of the model it guides, None for a keeper file."""

    file: KeeperFile
    guide_channels: tuple[int, ...] | None

    @property
    def header(self) -> KeeperHeader:
        """What the keeper says of itself."""
        return self.file.header


def read_model_keeper(model: Path) -> ModelKeeper:
    """Read a keeper file, or the keeper in the checkpoint of a guided model's results folder.

    All folds of a guided model have one keeper; it is taken from the first one that is finished.

    Raises:
        UHFError: neither of these, or a control; a block, checkpoint or weights that are not what they should be.
    """
    if not model.is_dir():
        return ModelKeeper(read_keeper(model), None)
    folder = ModelFolder(model)
    if not folder.plans_file.is_file():
        raise UHFError(
            f"{model} is no model folder (it has no plans.json): give a keeper file (*.safetensors) or a folder like "
            "nnUNet_results/DATASET/UHFTrainer__nnUNetPlans__3d_fullres"
        )
    path = folder.fold(folder.finished_folds[0]).checkpoint
    checkpoint = load_checkpoint_weights(path)
    found = block_in(folder.plans(), checkpoint["init_args"]["configuration"])
    if role_of(found) != ROLE:
        raise UHFError(
            f"{model} is not the model of a guided training: give one of UHFTrainer, or a keeper file, which "
            "`nnunet-uhf export-keeper` makes of the model of a keeper trainer"
        )
    block = GuidedBlock.parse(found, where=folder.plans_file)
    if block.control is not None:
        description = CONTROLS[block.control].description
        raise UHFError(f"{model} is a control ({description}): give the keeper file itself")
    weights = checkpoint["network_weights"]
    state = {name.removeprefix("keeper."): value for name, value in weights.items() if name.startswith("keeper.")}
    if weights_sha256(state) != block.keeper.sha256:
        raise UHFError(f"{path} holds another keeper than plans.json names; restore the model folder")
    try:
        header = block.keeper.header(where=f"the keeper of {folder.plans_file}")
    except KeeperFileError as error:
        raise UHFError(f"{error} Or check with the keeper file itself.") from error
    return ModelKeeper(KeeperFile(path, header, state, None), block.guide_channels)
