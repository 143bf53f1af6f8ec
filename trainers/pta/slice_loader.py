"""Batches of slices of two domains, for nnU-Net's augmenters (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import DataLoader
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from numpy.typing import NDArray
from torch import Tensor

from nnunet_uhf.trainers.pta.slices import LabelledSlices, centred_crop, cut_slices

NEARBY = 0.03
"""How far from its relative position a slice may be drawn (PTA's code)."""
DOMAINS = ("source", "target")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The cases of one domain on one side of a fold: nnU-Net's dataset and where their slices are."""

    dataset: Any
    slices: Mapping[str, LabelledSlices]

    @property
    def cases(self) -> list[str]:
        """By name."""
        return sorted(self.slices)


Partners = Mapping[tuple[str, int], tuple[str, int]]
"""High-field case and place of its slice, by low-field case and place of its slice."""


class DomainSliceLoader(DataLoader):
    """Draws a low-field case, a relative position and a high-field case; reads single slices of nnU-Net's arrays.

    A batch has `data` `(B, 2 C, H, W)`, C slices of the source before C of the target, `target` `(B, 2, H, W)`, their
    labels, `position` `(B, 2)`, relative, and `keys`. Crops are centred on the labels: heads that lie elsewhere in one
    domain would teach a generator to shift them.
    """

    def __init__(
        self,
        domains: Mapping[str, Domain],
        *,
        batch_size: int,
        crop: Sequence[int],
        transforms: BasicTransform,
        slices: int = 1,
        apart: bool = False,
        partners: Partners | None = None,
        strangers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Take what to draw from.

        Args:
            domains: source and target.
            batch_size: samples of a batch, spread evenly over relative positions.
            crop: rows and columns that transforms get.
            transforms: nnU-Net's, of images `(C, H, W)`.
            slices: neighbouring slices of an image.
            apart: whether the images of a sample are transformed each by a draw of its own.
            partners: which slices belong together; by position without it.
            strangers: high-field cases of other subjects by low-field case; all without it.
        """
        super().__init__(None, batch_size, 1, None, True, False, True)
        self.domains, self.crop, self.transforms = dict(domains), tuple(int(n) for n in crop), transforms
        self.slices, self.apart, self.partners, self.strangers = slices, apart, partners, strangers
        self.batch_size = batch_size
        self.indices = domains["source"].cases

    def generate_train_batch(self) -> dict[str, Any]:
        """The next batch."""
        random = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 - batchgenerators seeds its workers so
        with torch.no_grad():
            spread = (random.permutation(self.batch_size) + random.uniform(size=self.batch_size)) / self.batch_size
            samples = [self._sample(float(position), random) for position in spread]
        return {
            "data": torch.stack([sample[0] for sample in samples]),
            "target": torch.stack([sample[1] for sample in samples]),
            "position": torch.tensor([sample[2] for sample in samples], dtype=torch.float32),
            "keys": [sample[3] for sample in samples],
        }

    def _sample(self, position: float, random: np.random.Generator) -> tuple[Tensor, Tensor, list[float], str]:
        low = str(random.choice(self.domains["source"].cases))
        place = self.domains["source"].slices[low].at(position)
        if self.partners is not None:
            high, other = self.partners[low, place]
        else:
            candidates = self.domains["target"].cases if self.strangers is None else self.strangers[low]
            high = str(random.choice(candidates))
            near = float(self.domains["source"].slices[low].positions[place]) + random.uniform(-NEARBY, NEARBY)
            other = self.domains["target"].slices[high].at(near)
        images, labels, positions = [], [], []
        for domain, case, number in zip(DOMAINS, (low, high), (place, other), strict=True):
            image, label = self._read(self.domains[domain], case, number)
            images.append(image)
            labels.append(label)
            positions.append(float(self.domains[domain].slices[case].positions[number]))
        if self.apart:
            made = [self._transformed(image, label) for image, label in zip(images, labels, strict=True)]
            return torch.cat([one[0] for one in made]), torch.cat([one[1] for one in made]), positions, low
        data, seg = self._transformed(np.concatenate(images), np.concatenate(labels))
        return data, seg, positions, low

    def _read(self, domain: Domain, case: str, place: int) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        data, labels, _, _ = domain.dataset.load_case(case)
        found = domain.slices[case]
        number, box = int(found.numbers[place]), found.boxes[place]
        image = cut_slices(data, number, self.slices)
        label = np.asarray(labels[0, number])[None].astype(np.int16)
        return (
            centred_crop(image, box, self.crop, fill=0.0),
            centred_crop(label, box, self.crop, fill=-1),
        )

    def _transformed(self, image: NDArray[np.float32], label: NDArray[np.int16]) -> tuple[Tensor, Tensor]:
        done = self.transforms(image=torch.from_numpy(image), segmentation=torch.from_numpy(label))
        return done["image"], done["segmentation"]
