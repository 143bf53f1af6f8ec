"""nnU-Net trainer of the keeper: a frozen teacher's features from the low-field channel (arXiv 2402.08409)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.training_block import NetworksEntry, TeacherEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.losses import (
    DISCRIMINATOR_WEIGHTS,
    KEEPER_WEIGHTS,
    LABELLED_KEEPER_WEIGHTS,
    Weights,
    discriminator_loss,
    distillation_loss,
)
from nnunet_uhf.networks.distillation.segmentation_teacher import build_teacher
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.networks.presets import PRESETS
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import FoldFolder, ModelFolder
from nnunet_uhf.nnunet.training_data import TrainingData, refuse_changes
from nnunet_uhf.routes.task import EnhancementTask, Task
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.distillation.finished_teacher import DEFAULT, find_teacher, read_teacher
from nnunet_uhf.trainers.distillation.students import STUDENTS, Learning
from nnunet_uhf.trainers.distillation.teacher import SEGMENTATION
from nnunet_uhf.trainers.image_to_image.earlier_folds import of_folds, require_network
from nnunet_uhf.trainers.image_to_image.image_trainer import Plans, checked_config
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.players import Outcome, Player, trainable
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer

KEEPER, DISCRIMINATOR = "keeper", "discriminator"  # players; the second is a part in the block, too


class UHFKeeperTrainer(ImageToImageTrainer):
    """Source in, the teacher's features and (through its decoder) the target out. The second stage of pretraining.

    The teacher is found like a cascade finds its previous stage: same dataset, plans, configuration and fold.

    Raises:
        SystemExit: status 2 with one line on stderr when there is no teacher, or one too bad to learn from.
    """

    role: ClassVar[TrainingRole] = "keeper"
    learners: ClassVar[tuple[str, ...]] = (KEEPER, DISCRIMINATOR)
    own_weights: ClassVar[Weights] = {**KEEPER_WEIGHTS, **DISCRIMINATOR_WEIGHTS}
    follows_preset: ClassVar[bool] = True
    teacher_trainer: ClassVar[str] = DEFAULT
    """Where there is no teacher of the keeper's own name."""
    adversarial: ClassVar[bool] = True
    """Train against a discriminator. Realistic detail may be invented detail: report features with and without."""
    clips_apart: ClassVar[bool] = True
    """Whether keeper and discriminator are clipped each by its own norm of the gradients, or by their joint one, as in
    version 0.1.0, where the keeper's long gradients cut those of the discriminator to a thirtieth."""

    def weights_for(self, task: Task) -> Weights:
        """With those of soft labels, and less of the image, where the teacher segments."""
        segments = isinstance(task, EnhancementTask) and task.teacher == SEGMENTATION
        return {**super().weights_for(task), **(LABELLED_KEEPER_WEIGHTS if segments else {})}

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """`architecture` of the keeper, `teacher` with its provenance, and `discriminator`, null without one."""
        dataset = plans["dataset_name"]
        teacher = find_teacher(
            type(self).__name__,
            dataset=dataset,
            plans=plans["plans_name"],
            configuration=configuration,
            fold=fold,
            default=self.teacher_trainer,
            of_images=False,  # of its kind first
        )
        teacher_architecture, weights = read_teacher(teacher.checkpoint, configuration)
        if ("classes" in teacher_architecture) != (task.teacher == SEGMENTATION):
            raise UHFError(
                f"{teacher.checkpoint}: this is not a teacher of the kind {task.teacher!r}, which uhf.teacher of "
                f"{dataset} asks for; restore that entry, or train the teacher again"
            )
        if task.teacher != SEGMENTATION:
            teacher.require_good(FoldFolder(teacher.checkpoint.parent).summary, self.teacher_trainer)
        self.teacher_checkpoint = teacher.checkpoint  # not in the block, which travels to other people's machines
        folder = ModelFolder.of(dataset, type(self).__name__, plans["plans_name"], configuration)
        student = STUDENTS[PRESETS[task.preset].network]
        require_network(student.network, folder, configuration)
        options = {
            **student.options(planned, teacher_architecture),
            **of_folds(task.architecture_of(student.keeper), folder, configuration),
        }
        keeper = checked_config(student.keeper, options, dataset=dataset)
        differing = student.differing(keeper, teacher_architecture)
        if differing:
            raise UHFError(
                f"{teacher.checkpoint}: the teacher was trained with another value of {', '.join(differing)} than "
                "dataset.json and plans ask of the keeper; train the teacher again or restore the entry of "
                "uhf.architecture"
            )
        judge = {"dim": keeper["dim"], "base_features": teacher_architecture["base_features"]}
        return NetworksEntry(
            architecture=keeper,
            network=student.network,
            teacher=TeacherEntry(
                architecture=teacher_architecture,
                trainer=teacher.trainer,
                sha256=weights_sha256(weights),
                psnr=teacher.psnr,
                input_psnr=teacher.input_psnr,
            ),
            parts={
                DISCRIMINATOR: checked_config(PatchDiscriminator, judge, dataset=dataset) if self.adversarial else None
            },
        )

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """Keeper, teacher and discriminator with random weights."""
        judge = block.networks.part(DISCRIMINATOR)
        return STUDENTS[block.networks.network].build(
            block.networks.architecture,
            build_teacher(block.teacher_of("the keeper's training").architecture),
            None if judge is None else PatchDiscriminator(**judge),
        )

    @property
    def teacher(self) -> TeacherEntry:
        """What the `uhf` block says of the teacher."""
        return self.block.teacher_of(type(self).__name__)

    @property
    def distillation(self) -> Learning:
        """The network without the wrappers of DDP and torch.compile."""
        return cast(Learning, unwrap(self.network))

    @property
    def teacher_network(self) -> Teacher:
        """The frozen teacher in the network."""
        teacher = self.distillation.teacher
        assert teacher is not None
        return teacher

    @exit_on_user_error
    def initialize(self) -> None:
        """Build everything as nnU-Net does, then load the teacher: the weight initialiser must not touch it."""
        super().initialize()
        teacher = self.teacher
        _, weights = read_teacher(self.teacher_checkpoint, self.configuration_name)
        self.teacher_network.load_state_dict(weights)
        low_field = "" if teacher.input_psnr is None else f", the low-field input {teacher.input_psnr:.2f} dB"
        self.print_to_log_file(
            f"Learning from {teacher.trainer} {teacher.sha256[:8]}: {teacher.psnr:.2f} dB on held-out images"
            f"{low_field}; adversarial term {'on' if self.block.networks.part(DISCRIMINATOR) else 'off'}"
        )

    def check_block(self, before: TrainingBlock, checkpoint: Path) -> None:
        """No going on when the teacher was trained anew since, either: half of the features would be another's."""
        learnt_from, now = before.teacher_of(checkpoint).sha256, self.teacher.sha256
        if learnt_from != now:
            raise UHFError(
                f"{checkpoint}: this keeper learnt from teacher {learnt_from[:8]}, {self.teacher_checkpoint} is "
                f"{now[:8]}; train the keeper anew without --c, or bring the old teacher back"
            )
        super().check_block(before, checkpoint)

    @exit_on_user_error
    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split, which has to be the teacher's: what it has seen is nothing new to its keeper."""
        split = super().do_split()
        fold = FoldFolder(self.teacher_checkpoint.parent)
        refuse_changes(
            TrainingData.recorded(load_checkpoint_weights(fold.checkpoint)["init_args"]),
            self.data,
            summary=fold.summary,
            where=fold.checkpoint,
            advice="the teacher has to be of the keeper's split: restore what changed, or train the teacher anew",
        )
        return split

    @exit_on_user_error
    def on_train_start(self) -> None:
        """Check the teacher that is really in the network (-pretrained_weights may have replaced it), then start."""
        if not self.was_initialized:
            self.initialize()
        self.check_teacher()
        super().on_train_start()

    @exit_on_user_error
    def on_train_end(self) -> None:
        """Make sure that training left the teacher alone, then finish."""
        self.check_teacher()
        super().on_train_end()

    def check_teacher(self) -> None:
        """UHFError unless the teacher in memory is, bit for bit, the one the `uhf` block names."""
        wanted = self.teacher.sha256
        present = weights_sha256(self.teacher_network.state_dict())
        if present != wanted:
            raise UHFError(
                f"the network in memory holds teacher {present[:8]}, this training's is {wanted[:8]}; "
                "train without -pretrained_weights, or with a checkpoint that learnt from this teacher"
            )

    def players(self) -> tuple[Player, ...]:
        """The keeper and, where there is one, the discriminator; alike but for what they move."""
        network = self.distillation
        judging = () if network.discriminator is None else trainable(network.discriminator)
        judged = {id(parameter) for parameter in judging}
        # the keeper, and what is trained along with it: its image head and what makes the teacher's maps of its own
        learning = tuple(parameter for parameter in trainable(network) if id(parameter) not in judged)
        parts = {KEEPER: learning, **({DISCRIMINATOR: judging} if judging else {})}
        return tuple(self.player(name, part, clips_apart=self.clips_apart) for name, part in parts.items())

    def compute(self, pair: Pair) -> Outcome:
        """L_K for the keeper, the discriminator's loss for the discriminator."""
        output = self.network(pair.source, pair.target)
        terms = {
            KEEPER: distillation_loss(output, pair.target, weights=self.weights),
            DISCRIMINATOR: discriminator_loss(output, weights=self.weights),
        }
        losses = {name: torch.stack(list(part.values())).sum() for name, part in terms.items() if part}
        return Outcome(losses=losses, terms={**terms[KEEPER], **terms[DISCRIMINATOR]}, image=output.image)

    def ceiling(self) -> nn.Module | None:
        """The teacher: the keeper's image is decoded by its decoder."""
        return self.teacher_network


class UHFKeeperTrainerNoAdversarial(UHFKeeperTrainer):
    """Without a discriminator: for reporting what the adversarial term adds, or where invented detail is a risk."""

    adversarial = False
    learners = (KEEPER,)
    own_weights = {name: weight for name, weight in KEEPER_WEIGHTS.items() if name != "adversarial"}  # noqa: RUF012
