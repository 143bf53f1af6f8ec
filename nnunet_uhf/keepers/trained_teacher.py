"""A finished teacher training as a network from image to image: what the teacher keeps of a high-field scan (ours).

Its reconstruction is the ceiling of everything after it: the keeper's image is decoded by the same decoder. On scans
that it has not seen it tells whether the teacher is good enough, and good enough for these scans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nnunet_uhf.keepers.file import network_from_state, weights_sha256
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.trained import describe_keeper
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.networks.contract import EnhancementNet, Keeper
from nnunet_uhf.networks.distillation.segmentation_teacher import build_teacher
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.plans_block import block_in, block_of, role_of
from nnunet_uhf.nnunet.training_data import TrainingData

TEACHER = "teacher: an auto-encoder of high-field images, whose input is such an image"


class TeacherMaps(Keeper):
    """The maps that a teacher makes of its own kind of image, in place of a keeper's."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def features(self, source: Tensor) -> list[Tensor]:
        """Its five maps, finest first."""
        return self.teacher.encode(source)


@dataclass(frozen=True)
class TrainedTeacher:
    """One fold of a teacher trainer's results folder; the header describes what it reads, without cases and metrics."""

    header: KeeperHeader
    network: EnhancementNet


def is_teacher(folder: ModelFolder) -> bool:
    """Whether a model folder is that of a teacher trainer."""
    return any(role_of(block_of(entry)) == "teacher" for entry in folder.plans()["configurations"].values())


def read_trained_teacher(folder: Path, fold: int | str) -> TrainedTeacher:
    """Read one fold of a teacher trainer's results folder, without nnUNet_raw or nnUNet_preprocessed.

    Raises:
        UHFError: files are missing or damaged.
    """
    model = ModelFolder(folder)
    path = model.fold(fold).checkpoint
    checkpoint = load_checkpoint_weights(path)
    plans, dataset_json = model.plans(), model.dataset_json()
    configuration = checkpoint["init_args"]["configuration"]
    block = TrainingBlock.parse(block_in(plans, configuration), where=model.plans_file)
    teacher: Teacher = network_from_state(
        lambda **arguments: build_teacher(arguments), block.networks.architecture, checkpoint["network_weights"], path
    )
    # as a keeper that reads what it learns to make
    described = describe_keeper(
        replace(block, source_channel=block.learnt_channel),
        plans,
        configuration,
        dataset_json,
        fold=fold,
        where=folder,
    )
    data = TrainingData.recorded(checkpoint["init_args"])
    field = described.target_field_T
    header = replace(
        described,
        channel=channel_names(dataset_json)[block.learnt_channel],
        further_channels=(),
        source_field_T=field,
        metrics={"note": TEACHER},
        sha256=weights_sha256(teacher.state_dict()),
        decoder_sha256=weights_sha256(teacher.decoder.state_dict()),
        orientation=None if data is None else data.orientation,
    )
    return TrainedTeacher(header, EnhancementNet(TeacherMaps(teacher), teacher.decoder).eval())
