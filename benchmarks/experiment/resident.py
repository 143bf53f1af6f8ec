"""The fast lane: nnU-Net's own sampling and augmentation on cases that lie in the memory of the device.

nnU-Net reads every patch from the disk and augments it in worker processes, more of them than cores where trainings run
side by side. Here all cases of a fold are on the device once, and nnU-Net's loader and transforms work there. What is
drawn, and how, is nnU-Net's: on a CPU the batches of a seed are, bit for bit, those of its own loop. On a card images
are held in half precision and noise comes from the card's generator, seeded for every batch. A training on a card may
have its batches made on the CPU: small ones are ready sooner there, and many trainings share a card better.
"""

from __future__ import annotations

import copy
import resource
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunet_uhf.errors import UHFError
from nnunet_uhf.trainers.image_to_image.simulate_source import RememberedCase

SHARE_OF_MEMORY = 0.6
"""Of what is free on a card, at most so much is taken for cases: network and augmentation need the rest."""


class ResidentCases:
    """nnU-Net's dataset with all its cases on a device.

    Raises:
        UHFError: they do not fit into the memory of the card.
        NotImplementedError: a source that is simulated while training, which numpy does case by case.
    """

    def __init__(self, dataset: Any, device: torch.device) -> None:
        if isinstance(dataset, RememberedCase):
            raise NotImplementedError("a source that is simulated while training needs --lane nnunet")
        self.identifiers: list[str] = dataset.identifiers
        half = device.type == "cuda"
        self.cases: dict[str, tuple[Any, ...]] = {}
        room = SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0] if half else float("inf")
        for name in self.identifiers:
            data, labels, previous, properties = dataset.load_case(name)
            image = torch.from_numpy(np.array(data[:])).to(device, torch.float16 if half else torch.float32)
            parts = [_resident(one, device) for one in (labels, previous)]
            self.cases[name] = (image, *parts, properties)
            room -= sum(one.nbytes for one in (image, *parts) if one is not None)
            if room < 0:
                raise UHFError(
                    f"the {len(self.identifiers)} cases do not fit into the card's memory: train fewer at a time, or "
                    "with --lane nnunet"
                )

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """As nnU-Net's, without the disk."""
        return self.cases[identifier]


def _resident(array: Any, device: torch.device) -> Tensor | None:
    return None if array is None else torch.from_numpy(np.array(array[:])).to(device)


class SpatialOnDevice(SpatialTransform):
    """nnU-Net's spatial transform of an image that need not be on the CPU, where its grid is made."""

    def __init__(self, transform: SpatialTransform) -> None:
        self.__dict__.update(transform.__dict__)

    def get_parameters(self, **data: Any) -> dict[str, Any]:
        """As nnU-Net, with the grid where the image is."""
        found: dict[str, Any] = super().get_parameters(**data)
        if found["grid"] is not None:
            found["grid"] = found["grid"].to(data["image"].device)
        return found


class BlurOnDevice(GaussianBlurTransform):
    """nnU-Net's blur of an image that need not be on the CPU, where its kernel is made."""

    def __init__(self, transform: GaussianBlurTransform) -> None:
        self.__dict__.update(transform.__dict__)

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        with img.device:
            blurred: Tensor = super()._apply_to_image(img, **params)
        return blurred


def on_device(transform: Any) -> Any:
    """nnU-Net's transforms, those that make tensors on the CPU alone replaced; the given ones stay as they are."""
    if isinstance(transform, SpatialTransform):
        return SpatialOnDevice(transform)
    if isinstance(transform, GaussianBlurTransform):
        return BlurOnDevice(transform)
    found = copy.copy(transform)
    for name, value in vars(transform).items():
        if isinstance(value, BasicTransform):
            setattr(found, name, on_device(value))
        elif isinstance(value, list | tuple) and any(isinstance(one, BasicTransform) for one in value):
            setattr(found, name, [on_device(one) for one in value])
    return found


class ResidentLoader(nnUNetDataLoader):
    """nnU-Net's loader on resident cases: its choice of cases and patches, its transforms."""

    def __init__(self, loader: nnUNetDataLoader, device: torch.device) -> None:
        self.__dict__.update(loader.__dict__)
        self.device = device
        self._data = ResidentCases(loader._data, device)
        if device.type != "cpu":
            self.transforms = on_device(loader.transforms)

    def generate_train_batch(self) -> dict[str, Any]:
        """A batch on the device: `data` `(B, C, *P)`, `target` of as many resolutions as the network has outputs."""
        names = self.get_indices()
        cards = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=cards, enabled=bool(cards)):
            if cards:
                torch.cuda.manual_seed(int(torch.randint(2**31, ())))
            samples = [self._sample(number, name) for number, name in enumerate(names)]
            images, labels = zip(*samples, strict=True)
            if isinstance(labels[0], list):
                target: Any = [torch.stack(level) for level in zip(*labels, strict=True)]
            else:
                target = torch.stack(labels)
            return {"data": torch.stack(images).float(), "target": target, "keys": names}

    def _sample(self, number: int, name: str) -> tuple[Tensor, Any]:
        image, labels, previous, properties = self._data.load_case(name)
        low, high = self.get_bbox(image.shape[1:], self.get_do_oversample(number), properties["class_locations"])
        box = [list(ends) for ends in zip(low, high, strict=True)]
        image = crop_and_pad_nd(image, box, 0).float()
        labels = crop_and_pad_nd(labels, box, -1).to(torch.int16)
        if previous is not None:
            labels = torch.cat((labels, crop_and_pad_nd(previous, box, -1).to(torch.int16)[None]))
        if self.patch_size_was_2d:
            image, labels = image[:, 0], labels[:, 0]
        # transforms work in place: a whole slice would be changed for good
        made = self.transforms(image=image.clone(), segmentation=labels.clone())
        return made["image"], made["segmentation"]


class Resident(nnUNetTrainer):
    """Mixin before any nnUNetTrainer subclass, behind SeededTraining: its batches are made from resident cases.

    Attributes:
        resident: whether they are; else nnU-Net's own loop makes them.
        batches_on_cpu: whether cases and augmentation stay on the CPU where the training is on a card.
    """

    resident = True
    batches_on_cpu = False

    def get_dataloaders(self) -> tuple[Any, Any]:
        """As nnU-Net without worker processes (nnUNet_n_proc_DA=0), on resident cases."""
        loaders = super().get_dataloaders()
        if not self.resident:
            return loaders
        if not all(isinstance(one, SingleThreadedAugmenter) for one in loaders):
            raise UHFError("the resident lane has no worker processes: set nnUNet_n_proc_DA=0")
        place = torch.device("cpu") if self.batches_on_cpu else self.device
        made = [SingleThreadedAugmenter(ResidentLoader(one.data_loader, place), None) for one in loaders]
        return made[0], made[1]


def forget_peak(device: torch.device) -> None:
    """Count the peak of memory from here on; of a CPU it is that of the process, from its start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Most memory in use: on the card, since :func:`forget_peak`, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
