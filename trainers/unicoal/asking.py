"""The data of Uni-COAL's trainers: nnU-Net's hooks, so that its loaders put questions to cases (ours)."""

from __future__ import annotations

from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.image_to_image.transforms import without_intensity
from nnunet_uhf.trainers.unicoal.batches import WriteQuestion, with_question
from nnunet_uhf.trainers.unicoal.reading import AskedDataset, CaseRanges, ReadingPlan, measure_ranges


class AsksCases(SafeCheckpoints):
    """Slices under a question in the place of patches; the rest of the trainer sets what is declared here first."""

    task: ModalityTask
    """What dataset.json asks for."""
    planned: ReadingPlan
    """What plans say of reading."""
    cases: dict[str, CaseRanges]
    """What was measured of cases, by name."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802 - nnU-Net's name
        """As nnU-Net; cases have to know how large the patches are that are cut of them."""
        configured = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self._cut = [int(size) for size in configured[2]]
        return configured

    def get_tr_and_val_datasets(self) -> tuple[AskedDataset, AskedDataset]:
        """nnU-Net's datasets, every case of them under a question."""
        training, validation = super().get_tr_and_val_datasets()
        self.measure(training)
        self.measure(validation)
        asked = (
            AskedDataset(training, self.task, self.planned, self.cases, by_case=False),
            AskedDataset(validation, self.task, self.planned, self.cases, by_case=True),
        )
        for dataset, write, patch in zip(
            asked, (self._write, self._write_fixed), (self._cut, self.configuration_manager.patch_size), strict=True
        ):
            if not dataset.identifiers:
                raise UHFError(
                    f"no case of fold {self.fold} of {self.plans_manager.dataset_name} has two modalities, or one with "
                    "slices enough: nothing can be asked of it"
                )
            dataset.patch = list(patch)
            write.dataset = dataset
        return asked

    def measure(self, dataset: Any) -> None:
        """The ranges of the cases of a dataset, once; UHFError for one without a labelled voxel."""
        for case in dataset.identifiers:
            if case in self.cases:
                continue
            data, labels, _, properties = dataset.load_case(case)
            if not any(len(voxels) for voxels in properties["class_locations"].values()):
                raise UHFError(
                    f"case {case} of {self.plans_manager.dataset_name} has no labelled voxel; its label file must mark "
                    "the brain (any label above 0): correct labelsTr and preprocess again"
                )
            self.cases[case] = measure_ranges(self.task, self.planned, data, labels)

    def _unmasked(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Nothing masks again what is 0 outside already; slices beside the target have masks of their own."""
        count = self.task.modalities.in_channels + (2 if self.task.consistency else 1)
        return {**kwargs, "use_mask_for_norm": [False] * count} if "use_mask_for_norm" in kwargs else kwargs

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """What moves pixels of nnU-Net's augmentation, and behind it the question."""
        self._write = WriteQuestion()
        moved = without_intensity(super().get_training_transforms(*args, **self._unmasked(kwargs)))
        return with_question(moved, self._write)

    def get_validation_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """As nnU-Net, and the question."""
        self._write_fixed = WriteQuestion()
        return with_question(super().get_validation_transforms(*args, **kwargs), self._write_fixed)
