"""The networks of UHF guidance (arXiv 2402.08409) and of SIQT (Lin et al. 2023): 2D and 3D from one class."""

from nnunet_uhf.networks.anisotropic_blocks import ImageHead
from nnunet_uhf.networks.anisotropic_unet import AnisotropicKeeper, AnisotropicUNet
from nnunet_uhf.networks.discriminator import PatchDiscriminator
from nnunet_uhf.networks.distillation import DistillationNet, DistillationOutput, EnhancementNet
from nnunet_uhf.networks.fusion import AdaptiveFusion
from nnunet_uhf.networks.gate import PositionAwareGate
from nnunet_uhf.networks.guided import UHFGuidedNet, build_guided_net
from nnunet_uhf.networks.keeper import KnowledgeKeeper
from nnunet_uhf.networks.teacher import TeacherDecoder, TeacherOutput, UHFTeacher

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
