"""The simulation of low field as a transform in nnU-Net's data pipeline (ours).

The transform stands after spatial and before intensity augmentation. Before the spatial part it would work on nnU-Net's
larger initial patches, and rotating and scaling would smooth the noise below the drawn SNR and change the thickness of
the slices. Behind it, slices lie along the grid however the head is turned, as they do for a scan that nnU-Net
preprocessed; the labels it needs are still labels then: nnU-Net moves them by a vote of the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from torch import Tensor

from nnunet_uhf.preprocessing.low_field.on_the_fly import CaseIntensities, PairSimulation
from nnunet_uhf.seeds import case_generator

VALIDATION_SEED = 0
LARGEST_SEED = 2**63 - 1
_SPATIAL = (Convert3DTo2DTransform, SpatialTransform, Convert2DTo3DTransform)


class RememberedCase:
    """nnU-Net's dataset, which notes the case that was loaded last.

    nnU-Net's data loader loads a case, cuts a patch, and hands it to the transforms without the name of the case.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.identifiers: list[str] = dataset.identifiers
        self.name = ""

    def load_case(self, identifier: str) -> Any:
        """As the dataset's own."""
        self.name = identifier
        return self.dataset.load_case(identifier)

    def __getitem__(self, identifier: str) -> Any:
        return self.load_case(identifier)


class SimulateSource(BasicTransform):
    """High-field image `(1, *S)` and labels `(1, *S)` -> source and target, `(2, *S)`; every patch its own draw.

    With `by_case` the draw is that of the case, so that numbers of different epochs compare. `in_batch` brings a source
    of other sampling to the shape of its target, for the channels of a batch have one.
    """

    def __init__(
        self,
        simulation: PairSimulation,
        cases: Mapping[str, CaseIntensities],
        *,
        by_case: bool,
        in_batch: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.simulation = simulation
        self.cases = cases
        self.by_case = by_case
        self.in_batch = in_batch
        self.current: RememberedCase | None = None

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Simulate; -1 in the labels is outside of the image, as in nnU-Net's preprocessing and padding."""
        if self.current is None:
            raise RuntimeError("SimulateSource was not told which dataset its patches come from")
        case, simulation = self.current.name, self.simulation
        # nnU-Net seeds numpy's global state in each worker; torch's would be the same in all of them after a fork
        seed = np.random.randint(LARGEST_SEED, dtype=np.int64)  # noqa: NPY002
        rng = case_generator(VALIDATION_SEED, case) if self.by_case else np.random.default_rng(seed)
        source, target = simulation.of_patch(
            data_dict["image"][0].numpy(),
            data_dict["segmentation"][0].numpy(),
            simulation.simulator.draw(rng),
            self.cases[case],
        )
        low, high = torch.from_numpy(source), torch.from_numpy(target)
        if self.in_batch is not None:
            low = self.in_batch(low, high)
        return {**data_dict, "image": torch.stack([low, high])}


def behind_spatial(transform: BasicTransform, simulate: SimulateSource) -> BasicTransform:
    """The augmentation with the simulation behind everything that moves voxels, and before all else.

    nnU-Net mirrors last. Mirrored here before the simulation, slices are sampled at the first voxel of their blocks
    whatever way the head faces.
    """
    parts = list(transform.transforms) if isinstance(transform, ComposeTransforms) else [transform]
    spatial = [part for part in parts if isinstance(part, _SPATIAL)]
    mirrors = [part for part in parts if isinstance(part, MirrorTransform)]
    others = [part for part in parts if part not in spatial and part not in mirrors]
    return ComposeTransforms([*spatial, *mirrors, simulate, *others])
