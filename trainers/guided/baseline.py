"""A finished plain nnU-Net as the start of a guided one: the paper's route (encoder and decoder are not from scratch).

With the identity initialisation of the fusion modules the guided network predicts at step 0 what the plain one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.guidance.attach import attach
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.imageio.output import require_new, written_whole
from nnunet_uhf.keepers.file import read_keeper
from nnunet_uhf.networks.guided.network import KeeperNet, build_guided_net
from nnunet_uhf.nnunet.build import trained_network
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import FoldFolder, ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, put_block
from nnunet_uhf.nnunet.training_data import TrainingData, refuse_changes
from nnunet_uhf.trainers.guided.guidance import UHFGuidance

GUIDANCE_PREFIXES = ("keeper.", "fusions.")


class StartFromBaseline(UHFGuidance):
    """Mixin: encoder, decoder and segmentation heads start from the finished plain model of the same fold.

    It is found as a cascade finds its previous stage: same dataset, plans (or the plans the guided ones were made
    from), configuration and fold, trained by ``baseline_trainer``. A trainer named ``..._5epochs`` looks for
    ``<baseline_trainer>_5epochs`` first. A training that continues from its own checkpoint needs no baseline.
    """

    baseline_trainer = "nnUNetTrainer"

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        self._choose_baseline(plans, configuration, fold)
        super().__init__(plans, configuration, fold, dataset_json, device)

    @exit_on_user_error
    def _choose_baseline(self, plans: dict[str, Any], configuration: str, fold: int | str) -> None:
        """Remember the baseline's checkpoint; UHFError (before anything is written) when there is none."""
        candidates = self._baseline_candidates(plans, configuration)
        checkpoints = [model.fold(fold).checkpoint for model in candidates]
        self.baseline_checkpoint = next((path for path in checkpoints if path.is_file()), None)
        own = ModelFolder.of(plans["dataset_name"], type(self).__name__, plans["plans_name"], configuration)
        if self.baseline_checkpoint is None and own.fold(fold).any_checkpoint is None:
            beside = [other.name.trainer for model in candidates for other in model.of_other_lengths(fold)]
            if beside:
                raise UHFError(
                    f"{checkpoints[-1]}: no finished plain model of this length; finished are {', '.join(beside)}: "
                    f"take {own.name.trainer.partition('_')[0]} at one of these lengths"
                )
            command = f"nnUNetv2_train {plans['dataset_name']} {configuration} {fold} -tr {self.baseline_trainer}"
            raise UHFError(
                f"{checkpoints[-1]}: no finished plain model to start from; train it first: {command} "
                f"-p {candidates[-1].name.plans}"
            )

    def _baseline_candidates(self, plans: dict[str, Any], configuration: str) -> list[ModelFolder]:
        """Models that may be the baseline, best first."""
        block = GuidedBlock.of(plans, configuration)
        source = None if block is None else block.source_plans
        plans_names = [plans["plans_name"], *([source] if source else [])]
        _, separator, suffix = type(self).__name__.partition("_")
        trainers = dict.fromkeys((f"{self.baseline_trainer}{separator}{suffix}", self.baseline_trainer))
        return [
            ModelFolder.of(plans["dataset_name"], trainer, name, configuration)
            for trainer in trainers
            for name in plans_names
        ]

    @exit_on_user_error
    def initialize(self) -> None:
        """Build the guided network, then give its backbone the baseline's weights."""
        super().initialize()
        if self.baseline_checkpoint is not None:
            load_backbone(self.guided_network, self.baseline_checkpoint)
            self.print_to_log_file(f"The backbone starts from {self.baseline_checkpoint}")

    @exit_on_user_error
    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split, which has to be that of the model it starts from: what that has seen is not held out."""
        split = super().do_split()
        if self.baseline_checkpoint is not None and self._loaded is None and self.current_epoch == 0:
            refuse_changes(
                TrainingData.recorded(load_checkpoint_weights(self.baseline_checkpoint)["init_args"]),
                self.data,
                summary=FoldFolder(self.baseline_checkpoint.parent).summary,
                where=self.baseline_checkpoint,
                advice="the plain model has to be of this training's split: restore what changed, or train it anew",
            )
        return split

    @exit_on_user_error
    def on_train_start(self) -> None:
        """A training that neither continues nor has a baseline would silently start from scratch: refuse it."""
        if self.current_epoch == 0 and self.baseline_checkpoint is None:
            raise UHFError(
                f"{self.output_folder}: holds a checkpoint but there is no plain model to start anew from; continue "
                f"with --c, or train {self.baseline_trainer} first"
            )
        super().on_train_start()


class UHFTrainerFromBaseline(StartFromBaseline, nnUNetTrainer):
    """UHFTrainer whose backbone starts from the finished nnUNetTrainer model of the same fold (the paper's route)."""


def load_backbone(network: KeeperNet, checkpoint: Path) -> None:
    """Load a plain model's weights, heads included, into the backbone of a guided network.

    Raises:
        UHFError: when the checkpoint is unreadable or its network is not the backbone.
    """
    copy_backbone(network, load_checkpoint_weights(checkpoint)["network_weights"], origin=checkpoint)


def copy_backbone(network: KeeperNet, weights: Mapping[str, Tensor], *, origin: Path) -> None:
    """Copy ``weights`` of a plain network into the guided one, keeper and fusion modules untouched."""
    own = {key: value for key, value in network.state_dict().items() if not key.startswith(GUIDANCE_PREFIXES)}
    for key in sorted(own.keys() ^ weights.keys()):
        side = "missing there" if key in own else "unknown here"
        raise UHFError(f"{origin}: not the plain model of this network ({key} is {side}); plans and trainer must fit")
    for key, value in own.items():
        if value.shape != weights[key].shape:
            raise UHFError(
                f"{origin}: not the plain model of this network ({key} has shape {tuple(weights[key].shape)}, "
                f"expected {tuple(value.shape)}); plans and trainer must fit"
            )
    network.load_state_dict({**network.state_dict(), **weights})


def write_initial_checkpoint(
    model_folder: str | Path, fold: int | str, keeper: str | Path, output: str | Path, *, overwrite: bool = False
) -> Path:
    """Turn a finished plain nnU-Net into a checkpoint for ``-pretrained_weights`` of a guided trainer.

    The file holds every weight of the guided network and predicts exactly what the plain model predicts when all of
    it is loaded. nnU-Net leaves out keys with ``.seg_layers.`` on ``-pretrained_weights``, so the segmentation heads
    restart there; :class:`UHFTrainerFromBaseline` keeps them.

    Args:
        model_folder: nnU-Net's folder ``<trainer>__<plans>__<configuration>``.
        fold: number of the fold, or "all".
        keeper: keeper file; the guided training must use the same one.
        output: file to write; it appears whole or not at all.
        overwrite: replace a file that is there, but never one of the plain model.

    Raises:
        UHFError: unfinished or already guided model, keeper that does not fit, damaged files.
    """
    model, output = ModelFolder(Path(model_folder)), Path(output)
    checkpoint_file = model.fold(fold).checkpoint
    if output.resolve().is_relative_to(model.path.resolve()) and output.exists():
        raise UHFError(f"{output} belongs to the plain model: name another file (-o)")
    require_new(output, overwrite=overwrite)
    beside: list[str] = []
    if not checkpoint_file.is_file():
        with suppress(UHFError):  # a copy of a model folder may have any name
            beside = [str(other.path) for other in model.of_other_lengths(fold)]
    if beside:
        raise UHFError(f"{checkpoint_file} does not exist; finished trainings of other lengths are {', '.join(beside)}")
    checkpoint = load_checkpoint_weights(checkpoint_file)
    advice = "give a model folder of nnU-Net"
    plans, dataset_json = model.plans(advice=advice), model.dataset_json(advice=advice)
    configuration = checkpoint["init_args"]["configuration"]
    if block_in(plans, configuration) is not None:
        raise UHFError(f"{model.path}: this model is no plain nnU-Net, it is guided already; give the plain one")
    file = read_keeper(Path(keeper))
    block = attach(plans, configuration, dataset_json, file.header)
    put_block(plans, configuration, block.as_json())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the fusion modules' random weights: the same inputs give the same file
        plain = trained_network(
            plans, configuration, dataset_json, trainer=checkpoint["trainer_name"], deep_supervision=True
        )
        network = build_guided_net(plain, block.spec)
    network.keeper.load_state_dict(file.keeper_state)
    copy_backbone(network, checkpoint["network_weights"], origin=checkpoint_file)
    initial = {
        "network_weights": network.state_dict(),
        "init_args": {**checkpoint["init_args"], "plans": plans},
        "trainer_name": "UHFTrainer",
        "inference_allowed_mirroring_axes": checkpoint.get("inference_allowed_mirroring_axes"),
        "current_epoch": 0,
    }
    with written_whole(output) as temporary:
        torch.save(initial, temporary)
    return output
