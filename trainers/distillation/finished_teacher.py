"""Where a keeper's teacher lies, and whether it is good enough to learn from (ours)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, role_of
from nnunet_uhf.trainers.distillation.teacher import TOLERANCE_DB, UHFTeacherTrainer
from nnunet_uhf.trainers.lengths import NNUNET_EPOCHS, base_and_length, suffix_of_length

ACCEPT_WORSE = "nnUNet_UHF_ACCEPT_WORSE"
"""Set to 1: a keeper may learn from a teacher below that, to try the chain."""
DEFAULT = "UHFTeacherTrainer"


@dataclass(frozen=True, kw_only=True)
class FinishedTeacher:
    """A finished fold of a teacher trainer: its held-out PSNR and that of the low-field input, both in dB.

    A teacher of the low field itself has no input to be held against: None.
    """

    trainer: str
    checkpoint: Path
    psnr: float
    input_psnr: float | None

    def require_good(self, summary: Path, default: str = DEFAULT) -> None:
        """UHFError when its images are too bad to be learnt from; ``summary`` is where their quality stands."""
        accepted = os.environ.get(ACCEPT_WORSE, "").lower() in ("1", "t", "true")
        if self.input_psnr is not None and not self.psnr >= self.input_psnr - TOLERANCE_DB and not accepted:
            raise UHFError(
                f"{summary}: the teacher reconstructs held-out images at {self.psnr:.1f} dB, its low-field input is at "
                f"{self.input_psnr:.1f} dB: no keeper can learn from it; train the teacher longer ({default} trains "
                f"for {UHFTeacherTrainer.epochs} epochs, {default}{suffix_of_length(NNUNET_EPOCHS)} for as many as "
                "nnU-Net's own, and so on) or on more cases, then the keeper; to try the chain all the same: "
                f"`nnunet-uhf pretrain --accept-worse`, or {ACCEPT_WORSE}=1"
            )


def teacher_names(keeper: str, default: str = DEFAULT) -> list[str]:
    """Names under which the teacher of a keeper trainer may lie: that of the same length first, then the default."""
    _, _, length = keeper.partition("_")
    names = [keeper.replace("Keeper", "Teacher"), f"{default}_{length}" if length else "", default]
    return list(dict.fromkeys(name for name in names if name))


def find_teacher(
    keeper: str,
    *,
    dataset: str,
    plans: str,
    configuration: str,
    fold: int | str,
    default: str = DEFAULT,
    of_images: bool = True,
) -> FinishedTeacher:
    """The teacher of the same dataset, plans, configuration and fold that is finished, validated and good enough.

    The finished one of the keeper's length (:func:`teacher_names`), else the longest finished default teacher.

    Args:
        keeper: name of the keeper's trainer.
        dataset: full name, DatasetXXX_NAME.
        plans: plans name.
        configuration: 2d, 3d_fullres or 3d_lowres.
        fold: number of the fold or "all".
        default: the teacher's trainer where there is none of the keeper's own name.
        of_images: it has to make good images; one that segments need not.

    Raises:
        UHFError: when there is none, it was not validated, or it reconstructs too badly to be learnt from.
    """
    names = teacher_names(keeper, default)
    nearest = names[:-1] if base_and_length(keeper) else names  # a length, and the default trains for another one
    ordered = dict.fromkeys((*nearest, *_longest_first(dataset, plans, configuration, default)))
    folds = {name: ModelFolder.of(dataset, name, plans, configuration).fold(fold) for name in ordered}
    trainer = next((name for name, each in folds.items() if each.checkpoint.is_file()), None)
    if trainer is None:
        raise UHFError(
            f"{folds[default].checkpoint}: no finished teacher for this fold; train it first: "
            f"{_command(dataset, configuration, fold, names[0], plans)}"
        )
    summary = folds[trainer].summary
    command = _command(dataset, configuration, fold, trainer, plans)
    try:
        mean = json.loads(summary.read_text())["mean"]
        teacher = float(mean["prediction"]["psnr"])
        low_field = float(mean["input"]["psnr"]) if default == DEFAULT else None
    except FileNotFoundError as error:
        raise UHFError(f"{summary}: the teacher was not validated; do it first: {command} --val") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UHFError(f"{summary}: not the summary of a teacher's validation; repeat it: {command} --val") from error
    found = FinishedTeacher(trainer=trainer, checkpoint=folds[trainer].checkpoint, psnr=teacher, input_psnr=low_field)
    if of_images:
        found.require_good(summary, default)
    return found


def _longest_first(dataset: str, plans: str, configuration: str, default: str) -> list[str]:
    """Names of the default teachers that have a folder, by the number of their epochs."""
    models = ModelFolder.of_every_trainer(dataset, plans, configuration)
    trainers = [model.name.trainer for model in models]
    lengths = {name: found[1] for name in trainers if (found := base_and_length(name)) and found[0] == default}
    lengths[default] = UHFTeacherTrainer.epochs
    return sorted(lengths, key=lambda name: -lengths[name])


def read_teacher(checkpoint: Path, configuration: str) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Architecture and weights of a teacher's checkpoint; UHFError when it is not one."""
    content = load_checkpoint_weights(checkpoint)
    block = block_in(content["init_args"]["plans"], configuration)
    if role_of(block) != "teacher":
        raise UHFError(f"{checkpoint}: not the checkpoint of a teacher; train one with -tr UHFTeacherTrainer")
    return TrainingBlock.parse(block, where=checkpoint).networks.architecture, content["network_weights"]


def _command(dataset: str, configuration: str, fold: int | str, trainer: str, plans: str) -> str:
    return f"nnUNetv2_train {dataset} {configuration} {fold} -tr {trainer} -p {plans}"
