"""nnU-Net trainer classes: everything nnU-Net may be asked for with -tr, and the mixins for one's own trainers.

Every trainer exists at every length: ``UHFTrainer_1epoch``, ``UHFTrainer_50epochs``.
"""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _nnUNetTrainer

from nnunet_uhf.trainers.demo import (
    UHFKeeperTrainer_demo,
    UHFTeacherTrainer_demo,
    UHFTrainer_demo,
    nnUNetTrainer_demo,
)
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer, UHFKeeperTrainerNoAdversarial
from nnunet_uhf.trainers.distillation.same_field import UHFKeeperTrainerSameField, UHFTeacherTrainerSameField
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.guided.baseline import StartFromBaseline, UHFTrainerFromBaseline
from nnunet_uhf.trainers.guided.controls import (
    UHFTrainerEnhancedInput,
    UHFTrainerRandomKeeper,
    UHFTrainerTrainableKeeper,
    UHFTrainerUnfrozenKeeper,
    UHFTrainerZeroGuide,
)
from nnunet_uhf.trainers.guided.guidance import UHFGuidance, UHFTrainer, UHFTrainerNoMirroring
from nnunet_uhf.trainers.lengths import base_and_length as _base_and_length
from nnunet_uhf.trainers.lengths import fixed_length as _fixed_length
from nnunet_uhf.trainers.siqt.trainers import (
    SIQTTrainer,
    SIQTTrainerAugmented,
    SIQTTrainerHuber,
    SIQTTrainerMAE,
    SIQTTrainerMasksembles,
    SIQTTrainerSSIM,
)
from nnunet_uhf.trainers.space_to_depth.direct import UHFKeeperTrainerDirect
