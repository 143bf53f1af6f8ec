"""What all trainers of unpaired scans share: two domains, their folds, their slices, checks of the plans (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import Tensor

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.pta.generators import to_unit
from nnunet_uhf.nnunet.training_data import cases_of_fold
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.routes.unpaired import UnpairedTask
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, ImageTrainer
from nnunet_uhf.trainers.image_to_image.transforms import without_intensity
from nnunet_uhf.trainers.pta.folds import require_folds
from nnunet_uhf.trainers.pta.slice_loader import DOMAINS, Domain, DomainSliceLoader
from nnunet_uhf.trainers.pta.slices import LabelledSlices, labelled_slices, labelled_values, value_range

LARGEST_BATCH = 16
"""Of slices (PTA's code); nnU-Net plans more of small ones."""
COARSER = 1.1
"""How much coarser than the high-field scans plans may be: what nnU-Net resamples away, no network can learn."""
CUT_OFF = 0.05
"""Share of slices whose labels a patch may not hold: a network with instance norm makes steps at tiles."""
UNLIKE = 1.15
"""Ratio of the labelled volumes of the domains from which the log warns."""
RANGES = "ranges"
"""Part of the `uhf` block: z-scores of each domain that become -1 and 1."""


class UnpairedTrainer(ImageTrainer):
    """Low-field and high-field slices of different subjects; `2d` in any plane.

    Every fold has both domains on both sides; a subject is on one. Augmentation is nnU-Net's spatial part, one draw for
    both images of a sample: how bright a domain is, is what there is to learn.
    """

    task: UnpairedTask
    slices: ClassVar[int] = 1
    """Neighbouring slices of an image."""
    apart: ClassVar[bool] = False
    """Whether both images of a sample are augmented each by a draw of its own."""

    # ---- before a training

    def read_dataset(self, asked: Asked) -> tuple[TrainingBlock, dict[str, Any]]:
        """The block of a training on two domains, with the ranges of both; smaller batches than nnU-Net plans."""
        self.task = read_task_of(UnpairedTask, asked.dataset_json, dataset=asked.dataset)
        self.take_wishes(self.task)
        if len(asked.planned.patch_size) != 2:
            raise UHFError(
                f"{asked.dataset}: {type(self).__name__} trains on slices, {asked.configuration} is not 2d; use 2d, in "
                "another plane by `nnunet-uhf plan --plane`"
            )
        folder = asked.preprocessed / asked.planned.data_identifier
        if not folder.is_dir():
            raise UHFError(f"{folder} does not exist; preprocess first: nnUNetv2_preprocess -d {asked.dataset} -c 2d")
        dataset_class = infer_dataset_class(str(folder))
        require_folds(self.task, asked.preprocessed, dataset_class.get_identifiers(str(folder)))
        training, _ = cases_of_fold(asked.preprocessed, asked.planned.data_identifier, asked.fold)
        training = self.learnable(training)
        dataset = dataset_class(str(folder), list(training))
        self._measure(dataset, asked)
        networks = self.describe_networks(asked)
        parts = {**networks.parts, RANGES: self.ranges}
        block = TrainingBlock(
            role=self.role,
            source_channel=0,
            target_channel=0,
            networks=NetworksEntry(architecture=networks.architecture, network=networks.network, parts=parts),
            training=self.training_record(),
        )
        return block, {"batch_size": self.batch_of(int(asked.planned.batch_size))}

    def describe_networks(self, asked: Asked) -> NetworksEntry:
        """What the network is built from; :attr:`task` and :attr:`ranges` are known."""
        raise NotImplementedError

    @staticmethod
    def batch_of(planned: int) -> int:
        """Slices of a batch, where nnU-Net plans so many."""
        return min(planned, LARGEST_BATCH)

    def learnable(self, cases: Sequence[str]) -> list[str]:
        """Cases without those of held-out pairs and other scans of their subjects."""
        held = {self.task.subject(case) for pair in self.task.held_out_pairs.items() for case in pair}
        return [case for case in cases if self.task.subject(case) not in held]

    def domain_of(self, case: str) -> str:
        """`source` or `target`."""
        return DOMAINS[self.task.domains[case] == self.task.target]

    def _measure(self, dataset: Any, asked: Asked) -> None:
        """Ranges of both domains, and whether plans and patch hold what the high-field scans show."""
        values: dict[str, list[Any]] = {domain: [] for domain in DOMAINS}
        volumes: dict[str, list[float]] = {domain: [] for domain in DOMAINS}
        spacings, cut, total = [], 0, 0
        patch = np.array(asked.planned.patch_size)
        axes = list(asked.plans["transpose_forward"])
        for case in dataset.identifiers:
            data, labels, _, properties = dataset.load_case(case)
            domain = self.domain_of(case)
            values[domain].append(labelled_values(data, labels))
            voxel = float(np.prod([properties["spacing"][axes[0]], *asked.planned.spacing[-2:]]))
            volumes[domain].append(float((np.asarray(labels[0]) > 0).sum()) * voxel / 1000)
            boxes = labelled_slices(case, labels).boxes
            sizes = boxes[:, (1, 3)] - boxes[:, (0, 2)] + 1
            cut, total = cut + int((sizes > patch).any(axis=1).sum()), total + len(sizes)
            if domain == "target":
                spacings.append(np.array(properties["spacing"])[axes])
        finest = np.median(spacings, axis=0)[-2:]
        planned = np.array(asked.planned.spacing)[-2:]
        if (planned > COARSER * finest).any():
            written = " ".join(f"{value:g}" for value in np.median(spacings, axis=0))
            raise UHFError(
                f"plans {asked.plans['plans_name']} of {asked.dataset} resample slices to {planned.round(3).tolist()} "
                f"mm, the high-field scans have {finest.round(3).tolist()} mm: detail would be lost; plan again with "
                f"nnUNetv2_plan_experiment -d {asked.dataset} -overwrite_target_spacing {written}"
            )
        if cut > CUT_OFF * total:
            raise UHFError(
                f"plans {asked.plans['plans_name']} of {asked.dataset}: a patch of {patch.tolist()} does not hold the "
                f"labels of {cut} of {total} slices, and tiles would show steps; plan with more memory "
                "(-gpu_memory_target) or enlarge patch_size"
            )
        self.volumes_ml = {domain: float(np.median(sizes)) for domain, sizes in volumes.items()}
        self.ranges = {domain: value_range(values[domain], getattr(self.task, domain)) for domain in DOMAINS}

    def start_lines(self) -> list[str]:
        """What there is to say of the training, and whether the domains show bodies of different sizes."""
        low, high = (self.volumes_ml[domain] for domain in DOMAINS)
        lines = [f"Labelled volume, median: {self.task.source} {low:.0f} ml, {self.task.target} {high:.0f} ml"]
        if max(low, high) > UNLIKE * min(low, high):
            lines.append(
                "WARNING: the domains differ in what they show: a translation may make up or take away anatomy to fit "
                "(arXiv 1805.08841); take subjects alike in age and disease, and masks drawn alike"
            )
        return [*lines, *super().start_lines()]

    # ---- data

    @exit_on_user_error
    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's, of folds that have both domains; fold "all" leaves held-out pairs out, too."""
        training, validation = super().do_split()
        return self.learnable(training), validation

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Slices of both domains, augmented in nnU-Net's processes."""
        rotation, dummy_2d, crop, mirror = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        patch = self.configuration_manager.patch_size
        augmented = without_intensity(
            self.get_training_transforms(patch, rotation, None, mirror, dummy_2d, use_mask_for_norm=None)
        )
        plain = self.get_validation_transforms(None)
        self.domains = [self._domains(dataset) for dataset in self.get_tr_and_val_datasets()]
        makers = zip(self.domains, (crop, patch), (augmented, plain), strict=True)
        loaders = [self.loader_of(side, crop=size, transforms=transforms) for side, size, transforms in makers]
        processes = get_allowed_n_proc_DA()
        if processes == 0:
            made: list[Any] = [SingleThreadedAugmenter(loader, None) for loader in loaders]
        else:
            made = [
                NonDetMultiThreadedAugmenter(
                    loader, None, count, max(3, count), None, pin_memory=self.device.type == "cuda", wait_time=0.002
                )
                for loader, count in zip(loaders, (processes, max(1, processes // 2)), strict=True)
            ]
        for loader in made:
            next(loader)  # the processes start now
        return made[0], made[1]

    def loader_of(
        self, domains: Mapping[str, Domain], *, crop: Sequence[int], transforms: BasicTransform
    ) -> DomainSliceLoader:
        """The loader of one side of the fold."""
        return DomainSliceLoader(
            domains,
            batch_size=self.batch_size,
            crop=crop,
            transforms=transforms,
            slices=self.slices,
            apart=self.apart,
            strangers=self._strangers(domains),
        )

    def _domains(self, dataset: Any) -> dict[str, Domain]:
        """The cases of a side of the fold by domain; a domain's slices are those of its labels."""
        found: dict[str, dict[str, LabelledSlices]] = {domain: {} for domain in DOMAINS}
        for case in dataset.identifiers:
            found[self.domain_of(case)][case] = labelled_slices(case, dataset.load_case(case)[1])
        return {domain: Domain(dataset=dataset, slices=slices) for domain, slices in found.items()}

    def _strangers(self, domains: Mapping[str, Domain]) -> dict[str, list[str]]:
        """High-field cases of other subjects; of one's own where there are no others."""
        high = domains["target"].cases
        subject = self.task.subject
        return {
            low: [case for case in high if subject(case) != subject(low)] or high for low in domains["source"].cases
        }

    def images_of(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """z-scores of source and target of a batch, each `(B, C, H, W)`, on the trainer's device."""
        data = batch["data"].to(self.device, non_blocking=True)
        return data[:, : self.slices], data[:, self.slices :]

    def unit_images_of(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The middle slices, each `(B, 1, H, W)`, from -1 to 1."""
        middle = self.slices // 2
        images = (image[:, middle : middle + 1] for image in self.images_of(batch))
        source, target = (to_unit(image, self.ranges[domain]) for image, domain in zip(images, DOMAINS, strict=True))
        return source, target
