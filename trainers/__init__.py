"""nnU-Net trainer classes: everything nnU-Net may be asked for with -tr, and the mixins for one's own trainers.

Every trainer exists at every length: ``UHFTrainer_1epoch``, ``UHFTrainer_50epochs``; nnU-Net's own, too, so that plain
and guided can be of one length: ``nnUNetTrainer_7epochs``.
"""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _nnUNetTrainer

from nnunet_uhf.trainers.demo import (
    UHFKeeperTrainer_demo,
    UHFTeacherTrainer_demo,
    UHFTrainer_demo,
    UHFTrainerRandomKeeper_demo,
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
from nnunet_uhf.trainers.guided.privileged import UHFPrivilegedTrainer
from nnunet_uhf.trainers.lengths import base_and_length as _base_and_length
from nnunet_uhf.trainers.lengths import fixed_length as _fixed_length
from nnunet_uhf.trainers.pta.contrastive import CUTTrainer
from nnunet_uhf.trainers.pta.local_structure import LSCTrainer
from nnunet_uhf.trainers.pta.paired import PTATrainerPaired
from nnunet_uhf.trainers.pta.pta import PTATrainer
from nnunet_uhf.trainers.pta.slice_gap import SGPTrainer
from nnunet_uhf.trainers.pta.variants import (
    PTATrainer25D,
    PTATrainerHybrid,
    PTATrainerPaper,
    PTATrainerStructure,
    PTATrainerUNet,
)
from nnunet_uhf.trainers.seeded import SeededTraining, nnUNetTrainerSeeded
from nnunet_uhf.trainers.siqt.trainers import (
    SIQTTrainer,
    SIQTTrainerAugmented,
    SIQTTrainerHuber,
    SIQTTrainerMAE,
    SIQTTrainerMasksembles,
    SIQTTrainerSSIM,
)
from nnunet_uhf.trainers.space_to_depth.direct import UHFKeeperTrainerDirect
from nnunet_uhf.trainers.unicoal.trainers import UniCOALTrainer, UniCOALTrainerNoAdversarial, UniCOALTrainerNoSAM
from nnunet_uhf.trainers.weighted_loss import UHFTrainerWeightedLoss, WeightedLoss, nnUNetTrainerWeightedLoss

__all__ = [
    "CUTTrainer",
    "LSCTrainer",
    "PTATrainer",
    "PTATrainer25D",
    "PTATrainerHybrid",
    "PTATrainerPaired",
    "PTATrainerPaper",
    "PTATrainerStructure",
    "PTATrainerUNet",
    "SGPTrainer",
    "SIQTTrainer",
    "SIQTTrainerAugmented",
    "SIQTTrainerHuber",
    "SIQTTrainerMAE",
    "SIQTTrainerMasksembles",
    "SIQTTrainerSSIM",
    "SeededTraining",
    "StartFromBaseline",
    "UHFGuidance",
    "UHFKeeperTrainer",
    "UHFKeeperTrainerDirect",
    "UHFKeeperTrainerNoAdversarial",
    "UHFKeeperTrainerSameField",
    "UHFKeeperTrainer_demo",
    "UHFPrivilegedTrainer",
    "UHFTeacherTrainer",
    "UHFTeacherTrainerSameField",
    "UHFTeacherTrainer_demo",
    "UHFTrainer",
    "UHFTrainerEnhancedInput",
    "UHFTrainerFromBaseline",
    "UHFTrainerNoMirroring",
    "UHFTrainerRandomKeeper",
    "UHFTrainerRandomKeeper_demo",
    "UHFTrainerTrainableKeeper",
    "UHFTrainerUnfrozenKeeper",
    "UHFTrainerWeightedLoss",
    "UHFTrainerZeroGuide",
    "UHFTrainer_demo",
    "UniCOALTrainer",
    "UniCOALTrainerNoAdversarial",
    "UniCOALTrainerNoSAM",
    "WeightedLoss",
    "nnUNetTrainerSeeded",
    "nnUNetTrainerWeightedLoss",
    "nnUNetTrainer_demo",
]


def __getattr__(name: str) -> type[_nnUNetTrainer]:
    """A trainer of a fixed length, made when it is asked for and kept, so that pickle finds it again."""
    asked = _base_and_length(name)
    if asked and name in globals():  # asked for by nnU-Net's search, which looks in another module
        made: type[_nnUNetTrainer] = globals()[name]
        return made
    # nnU-Net has its own trainer at some lengths, which are found first; here it is at all the others
    known = {_nnUNetTrainer.__name__: _nnUNetTrainer, **{each: globals()[each] for each in __all__}}
    trainer = known.get(asked[0]) if asked else None
    if asked is None or trainer is None or not issubclass(trainer, _nnUNetTrainer):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _fixed_length(trainer, asked[1], name=name, module=__name__)
    globals()[name] = made
    return made
