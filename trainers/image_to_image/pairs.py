"""Where the two images of a pair come from: two channels of the dataset, or one and its simulation (ours)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from numpy.typing import NDArray
from torch import Tensor

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.image_to_image.simulated_pairs import (
    RememberedCase,
    SimulatedPairs,
    SimulateSource,
    behind_spatial,
)
from nnunet_uhf.trainers.image_to_image.thick_slices import OnSlices
from nnunet_uhf.trainers.image_to_image.transforms import OnChannels, intensity_on, without_intensity
from nnunet_uhf.types import FloatArray

SIMULATED_CHANNELS = (0, 1)


class ImagePairs(SafeCheckpoints):
    """The data of an image-to-image trainer; the rest of it must set `block` and `pairs` before anything here runs."""

    block: TrainingBlock
    """The `uhf` block of this training."""
    pairs: SimulatedPairs | None
    """None for a dataset of pairs."""
    augments_simulated: ClassVar[bool] = True
    """Whether nnU-Net's intensity augmentation follows the simulation, which draws contrast and noise itself."""

    @property
    def batch_channels(self) -> tuple[int, int]:
        """Channels of source and target in a batch: those of the dataset, or those of the simulation."""
        return SIMULATED_CHANNELS if self.pairs else (self.block.source_channel, self.block.target_channel)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's augmentation, its intensity part on the source channel alone: the target is the truth."""
        channel = self.batch_channels[0]
        slices = None if self.pairs is None else self.pairs.slices
        if self.pairs is not None and kwargs.get("use_mask_for_norm") is not None:
            # the one channel becomes two; thick slices have a mask of their own, and beside them the target has none
            masked = kwargs["use_mask_for_norm"] if slices is None else [False]
            kwargs["use_mask_for_norm"] = [*masked] * 2

        def restricted(transform: BasicTransform) -> BasicTransform:
            return OnChannels(transform, [channel]) if slices is None else OnSlices(transform, channel, slices)

        transform = super().get_training_transforms(*args, **kwargs)
        if self.pairs is None:
            return intensity_on(transform, restricted)
        kept = intensity_on(transform, restricted) if self.augments_simulated else without_intensity(transform)
        self._simulate_training = SimulateSource(self.pairs, by_case=False)
        return behind_spatial(kept, self._simulate_training)

    def get_validation_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """As nnU-Net; a simulated source is drawn by the name of the case."""
        transform = super().get_validation_transforms(*args, **kwargs)
        if self.pairs is None:
            return transform
        self._simulate_validation = SimulateSource(self.pairs, by_case=True)
        return ComposeTransforms([self._simulate_validation, transform])

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """nnU-Net's datasets, once it is sure that every case shows a brain to sample patches from."""
        datasets = super().get_tr_and_val_datasets()
        if self.pairs is not None:
            self.print_to_log_file("Measuring the intensities of the cases for the simulation")
        for dataset in datasets:
            for case in dataset.identifiers:
                data, labels, _, properties = dataset.load_case(case)
                if not any(len(voxels) for voxels in properties["class_locations"].values()):
                    raise UHFError(
                        f"case {case} of {self.plans_manager.dataset_name} has no labelled voxel; its label file must "
                        "mark the brain (any label above 0): correct labelsTr and preprocess again"
                    )
                if self.pairs is not None:
                    self.pairs.measure(case, *self._image_and_labels(data, labels))
        if self.pairs is None:
            return datasets
        training, validation = (RememberedCase(dataset) for dataset in datasets)
        self._simulate_training.current, self._simulate_validation.current = training, validation
        return training, validation

    @exit_on_user_error
    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continue, unless the simulation is another one since: the keeper file could name only one of them."""
        plans = load_checkpoint_weights(filename_or_checkpoint)["init_args"]["plans"]
        before = TrainingBlock.of(plans, self.configuration_name, where=filename_or_checkpoint).simulation
        if before != self.block.simulation:
            raise UHFError(
                f"{filename_or_checkpoint}: trained with another uhf.simulate than dataset.json of "
                f"{self.plans_manager.dataset_name} has now; restore that entry, or train anew without --c"
            )
        super().load_checkpoint(filename_or_checkpoint)

    def source_and_target(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The two images of a batch on the trainer's device, each `(B, 1, *S)`; thick slices as they are."""
        data = batch["data"].to(self.device, non_blocking=True)
        low, high = (data[:, channel : channel + 1] for channel in self.batch_channels)
        if self.pairs is not None and self.pairs.slices is not None:
            low = self.pairs.slices.of_blocks(low)
        return low, high

    def volume_pair(self, case: str, data: Any, labels: Any) -> tuple[FloatArray, FloatArray]:
        """Source and target of a whole preprocessed case, each `(Z, Y, X)`; the source may have thick slices."""
        if self.pairs is not None:
            return self.pairs.of_case(case, *self._image_and_labels(data, labels))
        source, target = (np.asarray(data[channel], dtype=np.float32) for channel in self.batch_channels)
        return source, target

    def on_target_grid(self, case: str, data: Any, labels: Any, source: FloatArray) -> FloatArray:
        """The source of :meth:`volume_pair`, or the cubic spline through its thick slices in intensities of its own."""
        if self.pairs is None or self.pairs.slices is None:
            return source
        return self.pairs.interpolated(case, *self._image_and_labels(data, labels))

    def _image_and_labels(self, data: Any, labels: Any) -> tuple[FloatArray, NDArray[np.int16]]:
        """The high-field image and the labels of a whole preprocessed case, each `(Z, Y, X)`."""
        image = np.asarray(data[self.block.target_channel], dtype=np.float32)
        return image, np.asarray(labels[0], dtype=np.int16)
