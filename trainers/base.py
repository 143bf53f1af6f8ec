"""Checkpoints that survive a kill and say what they were trained on (ours; nnU-Net writes in place)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.nnunet.checkpoints import is_whole
from nnunet_uhf.nnunet.model_folder import FoldFolder
from nnunet_uhf.nnunet.training_data import RECORD, TrainingData, refuse_changes
from nnunet_uhf.trainers.fold_files import put_away, to_continue
from nnunet_uhf.trainers.fold_lock import lock_fold
from nnunet_uhf.trainers.watched import WatchedTraining


class SafeCheckpoints(WatchedTraining):
    """Mixin before any nnUNetTrainer subclass: a checkpoint every epoch, each written whole or not at all.

    A training that is killed at any moment continues with `--c` from the last finished epoch. A fold that is begun
    anew puts the model that is there away. Every checkpoint says which cases and images it was trained on, and neither
    goes on nor is validated on others.
    """

    _best_ema: float | None
    data: TrainingData
    """What the fold is trained on; set with the split."""
    _continues: bool = False  # --c
    _loaded: Path | None = None  # checkpoint

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        self._continues = bool(plans.get("continue_training"))
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = 1

    @exit_on_user_error
    def on_train_start(self) -> None:
        """As nnU-Net, alone in the fold's folder; what an earlier training left there is put away once this one starts.

        Another training of the same fold ends this one with a line.
        """
        if self.local_rank == 0:
            lock_fold(Path(self.output_folder))
        super().on_train_start()
        if self._loaded is None and self.local_rank == 0 and not self.disable_checkpointing:
            folder = put_away(FoldFolder(Path(self.output_folder)))
            if folder is not None:
                self.print_to_log_file(f"This fold was trained before: that model and its validation are in {folder}")

    @exit_on_user_error
    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split; it is recorded when training starts, and has to be the recorded one from then on."""
        training, validation = super().do_split()
        self.data = TrainingData.of(
            self.fold,
            training,
            validation,
            preprocessed=Path(self.preprocessed_dataset_folder_base),
            plans=self.plans_manager.plans,
            configuration=self.configuration_name,
            dataset_json=self.dataset_json,
        )
        recorded, fold = TrainingData.recorded(self.my_init_kwargs), FoldFolder(Path(self.output_folder))
        if recorded is None and self._loaded is None:
            self.my_init_kwargs[RECORD] = self.data.as_json()
        else:
            refuse_changes(
                recorded,
                self.data,
                summary=fold.summary,
                where=self._loaded or fold.path,
                advice="restore what changed, or train the fold anew, without --c",
                task=self._continues,
            )
        return training, validation

    @exit_on_user_error
    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint beside its place, then move it there: the old file stays until the new one is whole.

        Weights that are not finite are no checkpoint.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        if not self.weights_are_finite():
            self.give_up("there are weights that are no finite numbers")
        with written_whole(Path(filename)) as temporary:
            super().save_checkpoint(str(temporary))

    @exit_on_user_error
    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """As nnU-Net, but never from a damaged or an outdated file, and with the best epoch taken from the log.

        nnU-Net writes the latest checkpoint before it knows whether that epoch is the best: the first epoch after
        it could replace a better ``checkpoint_best.pth``.
        """
        path = Path(filename_or_checkpoint)
        if self._continues and self._loaded is None:
            path, notes = to_continue(path, may_move=self.local_rank == 0)
            for note in notes:
                self.print_to_log_file(note)
        elif not is_whole(path):
            raise UHFError(f"{path} is damaged or cut short; restore it from a copy, or go on with --c")
        self.check_checkpoint(path)
        super().load_checkpoint(str(path))
        self._loaded = path
        averages = self.logger.local_logger.my_fantastic_logging.get("ema_fg_dice", [])
        self._best_ema = max(averages, default=self._best_ema)

    def check_checkpoint(self, checkpoint: Path) -> None:
        """UHFError when this training cannot go on from a checkpoint; nothing to find here."""


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside nnU-Net's wrappers: DistributedDataParallel outside, torch.compile inside."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    if isinstance(network, OptimizedModule):
        network = network._orig_mod
    return network
