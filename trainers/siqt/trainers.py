"""nnU-Net trainers of SIQT: high field from low field by an anisotropic U-Net (Lin et al., Med Image Anal 2023)."""

from __future__ import annotations

from typing import ClassVar

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.siqt.kind import KIND
from nnunet_uhf.networks.siqt.unet import AnisotropicUNet
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.image_to_image.earlier_folds import of_folds
from nnunet_uhf.trainers.image_to_image.image_trainer import Plans, checked_config
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.patch_quality import data_range, patch_ssim
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer

HUBER_DELTA = 0.1  # ours; in standard deviations of the target, which is z-scored
SSIM_WEIGHT = 0.84  # Zhao et al., IEEE Trans Comput Imaging 2017, there of MS-SSIM beside L1


class SIQTTrainer(ImageToImageTrainer):
    """Source in, target out, by mean squared error.

    `regrid`: source and target on one grid, as pairs or simulated, in 2D or 3D; the model is a keeper, too.
    `native` (`"mode": "native"` in `uhf.simulate`): thick slices in, r times as many out; it enhances only.

    Adam at 1e-3 is the original's; batch, patches, schedule and augmentation are nnU-Net's, without intensity
    augmentation of simulated scans, which the original has not either. Patches that hold little brain are not thrown
    away, as the original does; nnU-Net's oversampling of labelled voxels prefers the others.
    """

    role: ClassVar[TrainingRole] = "keeper"
    takes_thick_slices: ClassVar[bool] = True
    augments_simulated: ClassVar[bool] = False
    masks: ClassVar[int | None] = None

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """`architecture`: all arguments of the anisotropic U-Net."""
        dim = len(planned.patch_size)
        folder = ModelFolder.of(plans["dataset_name"], type(self).__name__, plans["plans_name"], configuration)
        stretch = self.pairs.stretch(dim)
        ratio = max(stretch)
        options = {
            "dim": dim,
            "ratio": ratio,
            "slice_axis": None if ratio == 1 else stretch.index(ratio),
            "masks": self.masks,
            **of_folds(task.architecture_of(AnisotropicUNet), folder, configuration),
        }
        architecture = checked_config(AnisotropicUNet, options, dataset=plans["dataset_name"])
        return NetworksEntry(network=KIND.name, architecture=architecture)

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """An anisotropic U-Net with random weights."""
        return AnisotropicUNet(**block.networks.architecture)

    def compute(self, pair: Pair) -> Outcome:
        """The difference of the network's image and the target, in single precision."""
        image = self.network(pair.source)
        terms = self.difference(image.float(), pair.target.float())
        return Outcome(losses={EVERYTHING: torch.stack(list(terms.values())).sum()}, terms=terms, image=image)

    @staticmethod
    def difference(image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The parts of the loss by name; image and target are `(B, 1, *S)`."""
        return {"mse": F.mse_loss(image, target)}


class SIQTTrainerAugmented(SIQTTrainer):
    """SIQTTrainer with nnU-Net's intensity augmentation of simulated scans, too: for scans unlike the simulator's."""

    augments_simulated: ClassVar[bool] = True


class SIQTTrainerMAE(SIQTTrainer):
    """SIQTTrainer by mean absolute error, which forgives few large errors."""

    @staticmethod
    def difference(image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Mean absolute error."""
        return {"mae": F.l1_loss(image, target)}


class SIQTTrainerHuber(SIQTTrainer):
    """SIQTTrainer by Huber loss: squared below a tenth of the target's standard deviation, absolute above."""

    @staticmethod
    def difference(image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Huber loss."""
        return {"huber": F.huber_loss(image, target, delta=HUBER_DELTA)}


class SIQTTrainerSSIM(SIQTTrainer):
    """SIQTTrainer by structural similarity beside mean absolute error, weighted as Zhao et al. 2017 (ours)."""

    @staticmethod
    def difference(image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """0.84 (1 - SSIM) + 0.16 MAE; the SSIM of patches without contrast is not defined and left out."""
        terms = {"mae": (1 - SSIM_WEIGHT) * F.l1_loss(image, target)}
        judged = data_range(target) > 0
        dissimilarity = 1 - patch_ssim(target[judged], image[judged])
        terms["dssim"] = SSIM_WEIGHT * dissimilarity.sum() / target.shape[0]
        return terms


class SIQTTrainerMasksembles(SIQTTrainer):
    """SIQTTrainer of an ensemble of 16 masks in one network: its image is their mean, their spread the uncertainty.

    In training each patch meets one mask at random. Validation and prediction compute all 16.
    """

    masks: ClassVar[int | None] = 16
