"""The networks of UHF guidance (arXiv 2402.08409) and of SIQT (Lin et al. 2023): 2D and 3D from one class."""

from nnunet_uhf.networks.contract import EnhancementNet
from nnunet_uhf.networks.distillation.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation.gate import PositionAwareGate
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.teacher import TeacherDecoder, TeacherOutput, UHFTeacher
from nnunet_uhf.networks.distillation.training import DistillationNet, DistillationOutput
from nnunet_uhf.networks.guided.fusion import AdaptiveFusion
from nnunet_uhf.networks.guided.network import UHFGuidedNet, build_guided_net
from nnunet_uhf.networks.siqt.blocks import ImageHead
from nnunet_uhf.networks.siqt.unet import AnisotropicKeeper, AnisotropicUNet

__all__ = [
    "AdaptiveFusion",
    "AnisotropicKeeper",
    "AnisotropicUNet",
    "DistillationNet",
    "DistillationOutput",
    "EnhancementNet",
    "ImageHead",
    "KnowledgeKeeper",
    "PatchDiscriminator",
    "PositionAwareGate",
    "TeacherDecoder",
    "TeacherOutput",
    "UHFGuidedNet",
    "UHFTeacher",
    "build_guided_net",
]
