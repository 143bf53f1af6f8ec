"""Guidance of any nnU-Net trainer by a frozen knowledge keeper (arXiv 2402.08409)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.guidance.attach import match_notes, orientation_note
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.choice import choose_keeper
from nnunet_uhf.guidance.guard import guard_keeper, leave_unguarded
from nnunet_uhf.guidance.keeper_files import KEEPER_VARIABLE, KeeperAtHand
from nnunet_uhf.guidance.matching import overlapping_cases
from nnunet_uhf.keepers.file import build_keeper, weights_sha256
from nnunet_uhf.networks.guided.controls import CONTROLS, ENHANCED_INPUT, build_network, extra_input_channels
from nnunet_uhf.networks.guided.network import KeeperNet, UHFGuidedNet
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.nnunet.build import build_backbone
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.fitting_weights import require_fitting_weights
from nnunet_uhf.nnunet.orientation import stored_orientations
from nnunet_uhf.nnunet.plans_block import block_of, put_block
from nnunet_uhf.trainers.base import SafeCheckpoints, unwrap
from nnunet_uhf.trainers.guided.loudness import HeardGuidance
from nnunet_uhf.trainers.guided.optimizer import WithFusions
from nnunet_uhf.trainers.guided.trained_fusions import TrainedFusions
from nnunet_uhf.trainers.seeded import SeededTraining


class UHFGuidance(HeardGuidance, TrainedFusions, SeededTraining, SafeCheckpoints):
    """Mixin that guides a trainer's network; it goes before any nnUNetTrainer subclass.

    ``class MyTrainer(UHFGuidance, nnUNetTrainerDA5): pass`` is a guided nnUNetTrainerDA5. The backbone the trainer
    builds is wrapped by :class:`UHFGuidedNet`; losses, augmentation and schedule stay the trainer's own. The keeper
    comes from the plans' `uhf` block or from ``nnUNet_UHF_KKN``; predicting, ``--c`` and ``--val`` need no keeper file.

    Raises:
        SystemExit: status 2 with one line on stderr when no keeper fits (its cause is the UHFError); nothing is
            written then. TypeError when the backbone is no encoder-decoder network.
    """

    control: ClassVar[str | None] = None
    """One of :data:`nnunet_uhf.networks.guided.controls.CONTROLS`, in a subclass that changes one thing."""
    keeper_seed: ClassVar[int] = 0
    """Of the keeper's weights, in a control that draws them."""
    guidance: GuidedBlock
    """The `uhf` block of this training."""
    keeper_file: KeeperAtHand | None
    _keeper_note: str | None
    """The keeper file, where one is at hand and its weights are not drawn."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        self._choose_keeper(plans, configuration, fold, dataset_json)
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.control != ENHANCED_INPUT:
            self.log_loudness()

    @exit_on_user_error
    def _choose_keeper(
        self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict[str, Any]
    ) -> None:
        """Put the block into the plans before nnU-Net makes any folder: from there it reaches every checkpoint."""
        choice = choose_keeper(
            plans,
            configuration,
            dataset_json,
            trainer=type(self).__name__,
            fold=fold,
            control=self.control,
            seed=self.keeper_seed,
        )
        self.guidance, self.keeper_file, self._keeper_note = choice.block, choice.file, choice.note
        rate = None if self.control == ENHANCED_INPUT else self.fusion_rate  # that one has no fusions
        self.guidance = replace(self.guidance, fusion_rate=rate)
        put_block(plans, configuration, self.guidance.as_json())

    @classmethod
    @exit_on_user_error
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The trainer's own backbone, guided as the configuration's `uhf` block says; keeper weights are not loaded.

        Where it predicts, weights with another keeper than the block's are refused.
        """
        found = block_of(configuration_manager.configuration)
        if found is None:
            raise UHFError(
                f"the plans {plans_manager.plans_name} hold no uhf block: they are not those of a guided training; "
                "use the plans.json of the model folder"
            )
        where = f"plans {plans_manager.plans_name}"
        block = GuidedBlock.parse(found, where=where)
        block.require_fit(configuration_manager.configuration, where=where)
        backbone = build_backbone(
            super().build_network_architecture,
            plans_manager,
            configuration_manager,
            input_channels=num_input_channels + extra_input_channels(block.control),
            output_channels=num_output_channels,
            deep_supervision=enable_deep_supervision,
        )
        network = build_network(backbone, block.spec)
        require_fitting_weights(network, where=where)
        guard_keeper(network, block, where=where)
        return network

    @exit_on_user_error
    def initialize(self) -> None:
        """Build everything as nnU-Net does, then load the keeper: the weight initialiser must not touch it."""
        super().initialize()
        leave_unguarded(self.guided_network)  # as check_keeper looks, and says more
        self.load_keeper()
        self._log_guidance()

    def load_keeper(self) -> None:
        """Give the network the weights of the keeper file; without one a checkpoint has to bring them."""
        if self.keeper_file is not None:
            keeper = build_keeper(self.keeper_file.content)
            self.guided_network.keeper.load_state_dict(keeper.state_dict())
            self.keeper_file.forget_weights()

    @property
    def guided_network(self) -> KeeperNet:
        """The network without the wrappers of DDP and torch.compile."""
        network = unwrap(self.network)
        if not isinstance(network, KeeperNet):
            raise TypeError(f"{type(self).__name__} built a {type(network).__name__}, not a network with a keeper")
        return network

    def _do_i_compile(self) -> bool:
        """Where nnU-Net would compile the network as a whole: the keeper, and the rest, as graphs of their own.

        nnU-Net asks this when the network is built, and compiles what is not compiled by then.
        """
        network = unwrap(self.network)
        if not super()._do_i_compile() or not isinstance(network, UHFGuidedNet):
            return bool(super()._do_i_compile())
        self.print_to_log_file("Using torch.compile, for the keeper and for the rest of the network each by itself...")
        network.compile_regions()
        return False

    @property
    def fusion_rate(self) -> float:
        """Learning rate of the fusions at the start: the plans', else that of their preset; 0 as the backbone."""
        planned = self.guidance.fusion_rate
        return PRESETS[self.guidance.preset].fusion_rate if planned is None else planned

    @exit_on_user_error
    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """As nnU-Net; the fusions go on as they began, whatever the plans say now, and the block says so."""
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(self.optimizer, WithFusions):
            self.guidance = replace(self.guidance, fusion_rate=self.optimizer.rate)
            for plans in (self.plans_manager.plans, self.my_init_kwargs["plans"]):
                put_block(plans, self.configuration_name, self.guidance.as_json())

    @exit_on_user_error
    def on_train_start(self) -> None:
        """Check the keeper that is really in the network (-pretrained_weights may have replaced it), then start."""
        if not self.was_initialized:
            self.initialize()
        self.check_keeper()
        super().on_train_start()

    @exit_on_user_error
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's validation, of a network whose keeper is the one the plans name."""
        self.check_keeper()
        super().perform_actual_validation(save_probabilities)

    def check_keeper(self) -> None:
        """UHFError unless the keeper in memory has the hash that the plans name."""
        wanted = self.guidance.keeper.sha256
        present = weights_sha256(self.guided_network.keeper.state_dict())
        if present != wanted:
            self.refuse_keeper(present, wanted)

    def refuse_keeper(self, present: str, wanted: str) -> None:
        """UHFError: the weights in memory are not those the plans name."""
        if self.keeper_file is None:
            raise UHFError(
                f"the weights of keeper {wanted[:8]} are not at hand: set {KEEPER_VARIABLE} to its file to start anew, "
                "or continue with --c"
            )
        raise UHFError(
            f"the network in memory holds keeper {present[:8]}, the plans name {wanted[:8]}: the file given with "
            "-pretrained_weights was made with another keeper; make it again with `nnunet-uhf init --keeper "
            f"{self.keeper_file.path.name}`"
        )

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split, with a warning when the keeper has already seen cases it will be judged on."""
        training, validation = super().do_split()
        origin = self.guidance.keeper.provenance
        seen = overlapping_cases(origin.training_cases, validation)
        if seen:
            self.print_to_log_file(
                f"WARNING: the keeper was trained (in {origin.dataset}) on {len(seen)} of this fold's "
                f"{len(validation)} validation cases: {', '.join(seen[:5])}{', ...' if len(seen) > 5 else ''}. If they "
                "are the same subjects, their Dice is no held-out result"
            )
        return training, validation

    def _log_guidance(self) -> None:
        """Say which keeper guides, where it comes from, which channel it sees, and how well it fits."""
        block = self.guidance
        if self._keeper_note is not None:
            self.print_to_log_file(self._keeper_note)
        origin, names = block.keeper.provenance, channel_names(self.dataset_json)
        guidance = f"UHF guidance by keeper {block.keeper.sha256[:8]}"
        if self.control is not None:
            guidance = f"CONTROL {self.control}, {CONTROLS[self.control].description}. {guidance}"
        if block.has_drawn_keeper:
            self.print_to_log_file(f"{guidance}: random weights, seed {block.keeper.seed}")
        else:
            measured = {name: value for name, value in origin.metrics.items() if name != "note"}
            self.print_to_log_file(f"{guidance}: {origin.described()}; held-out quality: {measured or 'not stated'}")
        self.print_to_log_file(
            f"The keeper sees channel {', '.join(f'{index} ({names[index]})' for index in block.guide_channels)}; "
            f"preset {block.preset}, fusion {block.fusion}"
        )
        if block.fusion_rate:
            self.print_to_log_file(f"The fusions learn by Adam, rate {block.fusion_rate:g}; the backbone as ever")
        planned = self.configuration_manager
        for note in match_notes(block, spacing=planned.spacing, patch_size=planned.patch_size):
            self.print_to_log_file(note)
        turned = orientation_note(origin, stored_orientations(Path(self.preprocessed_dataset_folder)))
        if turned is not None:
            self.print_to_log_file(turned)


class UHFTrainer(UHFGuidance, nnUNetTrainer):
    """nnU-Net's default trainer, guided."""


class UHFTrainerNoMirroring(UHFGuidance, nnUNetTrainerNoMirroring):
    """Guided, and no mirroring in training or prediction: for labels that tell left from right."""
