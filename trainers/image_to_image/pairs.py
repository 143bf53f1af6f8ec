"""The data of a trainer of images: nnU-Net's hooks, answered by the source of its pairs (ours)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.image_to_image.pair_source import Pair, PairSource


class ImagePairs(SafeCheckpoints):
    """The data of an image-to-image trainer; the rest of it must set `block` and `pairs` before anything here runs."""

    block: TrainingBlock
    """The `uhf` block of this training."""
    pairs: PairSource
    augments_simulated: ClassVar[bool] = True
    """Whether nnU-Net's intensity augmentation follows a simulation, which draws contrast and noise itself."""

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's augmentation, with the source's part in it."""
        if kwargs.get("use_mask_for_norm") is not None:
            kwargs["use_mask_for_norm"] = self.pairs.masks(kwargs["use_mask_for_norm"])
        transform = super().get_training_transforms(*args, **kwargs)
        return self.pairs.augmentation(transform, augments_simulated=self.augments_simulated)

    def get_validation_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """As nnU-Net, with the source's part in it."""
        return self.pairs.unaugmented(super().get_validation_transforms(*args, **kwargs))

    def do_split(self) -> tuple[list[str], list[str]]:
        """Training and validation cases of the fold."""
        return self.pairs.split(*super().do_split())

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """nnU-Net's datasets, once it is sure that every case shows a brain to sample patches from."""
        datasets = super().get_tr_and_val_datasets()
        if self.pairs.measured:
            self.print_to_log_file(f"Measuring {self.pairs.measured}")
        for dataset in datasets:
            for case in dataset.identifiers:
                data, labels, _, properties = dataset.load_case(case)
                if not any(len(voxels) for voxels in properties["class_locations"].values()):
                    raise UHFError(
                        f"case {case} of {self.plans_manager.dataset_name} has no labelled voxel; its label file must "
                        "mark the brain (any label above 0): correct labelsTr and preprocess again"
                    )
                self.pairs.measure(case, data, labels)
        return self.pairs.datasets(*datasets)

    def check_checkpoint(self, checkpoint: Path) -> None:
        """UHFError when :meth:`check_block` has one."""
        plans = load_checkpoint_weights(checkpoint)["init_args"]["plans"]
        self.check_block(TrainingBlock.of(plans, self.configuration_name, where=checkpoint), checkpoint)

    def check_block(self, before: TrainingBlock, checkpoint: Path) -> None:
        """UHFError when a checkpoint with this block cannot be gone on with, since the pairs are others."""
        dataset = self.plans_manager.dataset_name
        self.pairs.check_continues(before, checkpoint=str(checkpoint), dataset=dataset)

    def pair_of(self, batch: dict[str, Any]) -> Pair:
        """The pairs of a batch with labels where it has them, on the trainer's device."""
        pair, labels = self.pairs.of_batch(batch, self.device), batch.get("target")
        return pair if labels is None else replace(pair, labels=labels.to(self.device, non_blocking=True))
