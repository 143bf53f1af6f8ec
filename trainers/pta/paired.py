"""A translation without pairs goes on with pairs (as the strongest baseline of MRIxFields 2026; the rest is ours)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.trained import TrainedKeeper, read_trained_keeper
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.pta.kind import PTA_KINDS, pta_generator
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.direct import DirectTrainer
from nnunet_uhf.trainers.image_to_image.image_trainer import Plans

START_VARIABLE = "nnUNet_UHF_START"
"""Names the model folder that a training starts from."""
START = "start"
"""Part of the `uhf` block: model, fold and hash of it."""


class PTATrainerPaired(DirectTrainer):
    """Source in, target out by mean absolute error, from the weights of a finished PTATrainer or CUTTrainer on.

    It trains on pairs; the model to start from was trained on another dataset and is named by the variable
    `nnUNet_UHF_START`. Of it the fold of this training is taken where it is finished, else the first that is.
    """

    learning_rate: ClassVar[float] = 2e-4

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """The generator of the model to start from."""
        name = os.environ.get(START_VARIABLE, "")
        if not name:
            raise UHFError(
                f"{START_VARIABLE} is not set: name the model folder to start from, "
                f"{START_VARIABLE}=nnUNet_results/DATASET/PTATrainer__nnUNetPlans__2d"
            )
        folder = ModelFolder(Path(name))
        if not folder.plans_file.is_file():
            raise UHFError(f"{START_VARIABLE}={name} is no model folder (it has no plans.json): name one of PTATrainer")
        finished = folder.finished_folds
        chosen = fold if fold in finished else finished[0]
        self.start = read_trained_keeper(folder.path, chosen)
        header = self.start.header
        if header.network not in {kind.name for kind in PTA_KINDS}:
            raise UHFError(f"{START_VARIABLE}={name} is a model of {header.network}: name one of PTATrainer")
        if self.start.keeper.in_channels != 1:
            raise UHFError(f"{START_VARIABLE}={name} is shown {self.start.keeper.in_channels} slices, a pair has one")
        channels = (task.source_channel, task.target_channel)
        own = {(planned.normalization_schemes[one], bool(planned.use_mask_for_norm[one])) for one in channels}
        if len(planned.patch_size) != 2 or own != {(header.normalisation, header.use_mask_for_norm)}:
            inside = " inside the mask" if header.use_mask_for_norm else ""
            raise UHFError(
                f"{plans['dataset_name']}, {configuration}: {START_VARIABLE}={name} was trained on slices normalised "
                f"by {header.normalisation}{inside}; take 2d, and channels that are normalised so"
            )
        network = self.start.network
        start = {"model": folder.path.resolve().name, "fold": chosen, "sha256": header.sha256}
        return NetworksEntry(
            network=header.network,
            architecture=network.keeper.config(),
            parts={"decoder": network.decoder.config(), START: start},
        )

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """A generator with random weights."""
        networks = block.networks
        decoder = networks.part("decoder")
        assert decoder is not None
        return pta_generator(networks.network.removeprefix("pta_"), networks.architecture, decoder)

    @exit_on_user_error
    def initialize(self) -> None:
        """Build the network as nnU-Net does, then load the weights to start from; a checkpoint replaces them later."""
        super().initialize()
        unwrap(self.network).load_state_dict(self.start.network.state_dict())

    def start_lines(self) -> list[str]:
        """Where it starts, and whether that has seen what is held out here."""
        lines = [f"Starts from {self.block.networks.part(START)}", *super().start_lines()]
        seen = sorted(_names(self.start) & set(self.data.validation))
        if seen:
            lines.append(
                f"WARNING: the model to start from has learnt from scans named like {seen[0]}, which is held out here: "
                "if they are of one subject, the validation is too good"
            )
        return lines


def _names(start: TrainedKeeper) -> set[str]:
    """Cases that a model learnt from, with and without the domain before them."""
    cases = [] if start.data is None else start.data.training
    return {name for case in cases for name in (case, case.partition("_")[2])}
