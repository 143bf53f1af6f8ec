"""Where the pretext networks of PTA lie: trained beforehand on the same fold (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.networks.pta.parts import PretextPart
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import FoldFolder, ModelFolder
from nnunet_uhf.nnunet.training_data import TrainingData, refuse_changes
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked
from nnunet_uhf.trainers.lengths import base_and_length, suffix_of_length


@dataclass(frozen=True)
class Pretext:
    """A finished pretext training of one fold."""

    trainer: str
    checkpoint: Path
    block: TrainingBlock
    weights: Mapping[str, Tensor]
    data: TrainingData | None

    @property
    def sha256(self) -> str:
        """Of its weights."""
        return weights_sha256(dict(self.weights))

    def part(self) -> PretextPart:
        """What the `uhf` block says of it."""
        return PretextPart(
            trainer=self.trainer, sha256=self.sha256, architecture=dict(self.block.networks.architecture)
        )


def find_pretext(default: str, own: str, asked: Asked) -> Pretext:
    """The finished training of the asker's length, else of the trainer's own, else any of it, on the same fold.

    Args:
        default: the pretext trainer.
        own: name of the asking trainer, whose length is tried first.
        asked: dataset, plans, configuration and fold.

    Raises:
        UHFError: there is none.
    """
    plans, configuration, fold = str(asked.plans["plans_name"]), asked.configuration, asked.fold
    length = base_and_length(own)
    names = [f"{default}{suffix_of_length(length[1])}"] if length else []
    names.append(default)
    there = [model.name.trainer for model in ModelFolder.of_every_trainer(asked.dataset, plans, configuration)]
    names += [name for name in there if (found := base_and_length(name)) is not None and found[0] == default]
    names += [name for name in there if name.startswith(f"{default}_")]
    for name in dict.fromkeys(names):
        checkpoint = ModelFolder.of(asked.dataset, name, plans, configuration).fold(fold).checkpoint
        if checkpoint.is_file():
            content = load_checkpoint_weights(checkpoint)
            block = TrainingBlock.of(content["init_args"]["plans"], configuration, where=checkpoint)
            data = TrainingData.recorded(content["init_args"])
            return Pretext(name, checkpoint, block, content["network_weights"], data)
    wanted = ModelFolder.of(asked.dataset, default, plans, configuration).fold(fold).checkpoint
    raise UHFError(
        f"{wanted}: {own} needs it; train it first: nnUNetv2_train {asked.dataset} {configuration} {fold} "
        f"-tr {names[0]} -p {plans}"
    )


def require_same_data(pretext: Pretext, data: TrainingData) -> None:
    """UHFError when a pretext network learnt from another split, other images, or another preprocessing."""
    refuse_changes(
        pretext.data,
        data,
        summary=FoldFolder(pretext.checkpoint.parent).summary,
        where=pretext.checkpoint,
        advice=f"{pretext.trainer} has to be of the same data: restore what changed, or train it anew",
    )
