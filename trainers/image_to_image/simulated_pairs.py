"""Low-field partners simulated while training: from dataset.json to a transform in nnU-Net's data pipeline (ours).

The transform stands after spatial and before intensity augmentation. Before the spatial part it would work on nnU-Net's
larger initial patches, and rotating and scaling would smooth the noise below the drawn SNR and change the thickness of
the slices. Behind it, slices lie along the grid however the head is turned, as they do for a scan that nnU-Net
preprocessed; the labels it needs are still labels then: nnU-Net moves them by a vote of the neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.artefacts import Artefacts
from nnunet_uhf.preprocessing.low_field.on_the_fly import CaseIntensities, PairSimulation
from nnunet_uhf.preprocessing.low_field.presets import find_preset, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator
from nnunet_uhf.preprocessing.low_field.tissues import check_tissue_labels
from nnunet_uhf.routes.simulation import SimulationTask
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.trainers.image_to_image.thick_slices import ThickSlices

VALIDATION_SEED = 0
METHOD = "SIQT stochastic low-field simulator (Lin et al., Medical Image Analysis 2023), re-implemented"
LARGEST_SEED = 2**63 - 1
_SPATIAL = (Convert3DTo2DTransform, SpatialTransform, Convert2DTo3DTransform)


class SimulatedPairs:
    """The simulation of a training with what is known of its cases; its copies go to nnU-Net's worker processes.

    Attributes:
        simulation: how a pair is made.
        slices: how the source lies in its channel of a batch when it keeps its thick slices, else None.
        record: all parameters, ready for JSON: they travel in plans, checkpoints and keeper files.
        cases: what was measured of each case.
    """

    def __init__(self, task: SimulationTask, *, patch_size: Sequence[int], masked: bool, where: str) -> None:
        """Build the simulator.

        Args:
            task: `uhf.simulate` of dataset.json.
            patch_size: of the configuration, two or three axes.
            masked: normalisation counts the nonzero mask only.
            where: the dataset, for errors.

        Raises:
            UHFError: a preset, ratio or value that does not exist, slices that do not fit into the patch, or axes that
                all run through the plane of a 2d configuration.
        """
        try:
            check_tissue_labels(task.tissues)
            preset = find_preset(task.preset)
            # a single slice knows nothing of its neighbours, so its thickness cannot be simulated
            axes = tuple(axis for axis in task.axes if axis >= 3 - len(patch_size))
            if not axes:
                raise UHFError(
                    "a 2d configuration can simulate slices along its own two axes only: name axis 1 or 2 in axes, "
                    "or train 3d"
                )
            simulator = LowFieldSimulator(
                snr=preset.snr,
                profiles=tuple(profile_for_ratio(ratio) for ratio in task.ratios),
                axes=axes,
                grid=task.mode,
                fixed=task.fixed,
                noise=task.noise,
                noise_scale=task.noise_scale,
                noise_mask=task.noise_mask,
                reject_outliers=task.reject_outliers,
                artefacts=Artefacts(**task.artefacts),  # type: ignore[arg-type]
            )
            for axis in axes:
                size = patch_size[axis - 3]
                if size < 2 * max(task.ratios):
                    raise UHFError(
                        f"the patch has {size} voxels along axis {axis}, fewer than two slices of ratio "
                        f"{max(task.ratios)}: leave that axis or ratio out"
                    )
        except UHFError as error:
            raise UHFError(f"uhf.simulate in dataset.json of {where}: {error}") from error
        self.simulation = PairSimulation(simulator=simulator, tissues=task.tissues, masked=masked)
        self.slices = ThickSlices(axes[0] - 3, task.ratios[0]) if task.mode == "native" else None
        self.left_out = tuple(axis for axis in task.axes if axis not in axes)
        self.cases: dict[str, CaseIntensities] = {}
        self.record: dict[str, Any] = {
            "method": METHOD,
            "preset": {
                "name": preset.name,
                "contrast": preset.contrast,
                "field_T": preset.field_tesla,
                "mean_snr": list(preset.snr.mean),
                "covariance": [list(row) for row in preset.snr.covariance],
                "source": preset.source,
            },
            "profiles": [asdict(profile) for profile in simulator.profiles],
            "axes": list(axes),
            "fixed": task.fixed,
            "noise": task.noise,
            "noise_scale": list(task.noise_scale),
            "noise_mask": task.noise_mask,
            "reject_outliers": task.reject_outliers,
            "tissues": {name: list(v) if isinstance(v, tuple) else v for name, v in task.tissues.items()},
        }
        if task.mode == "native":
            self.record["mode"] = task.mode
        if simulator.artefacts.enabled:
            self.record["artefacts"] = asdict(simulator.artefacts)

    def measure(self, case: str, image: NDArray[np.float32], labels: NDArray[np.integer]) -> None:
        """Measure a whole normalised case `(Z, Y, X)`, once; UHFError when nothing can be simulated from it."""
        if case in self.cases:
            return
        try:
            self.cases[case] = self.simulation.measure(image, labels)
        except UHFError as error:
            raise UHFError(f"case {case}: no low-field image can be simulated: {error}") from error

    def of_case(
        self, case: str, image: NDArray[np.float32], labels: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Source and target of a whole case `(Z, Y, X)`, drawn by its name: the same in every epoch and training.

        Thick slices come as they are, one for every block begun.
        """
        self.measure(case, image, labels)
        draw = self.simulation.simulator.draw(case_generator(VALIDATION_SEED, case))
        return self.simulation.of_case(image, labels, draw, self.cases[case])

    def interpolated(self, case: str, image: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float32]:
        """The thick slices of :meth:`of_case` on the target's grid by a cubic spline, any intensity scale."""
        draw = self.simulation.simulator.draw(case_generator(VALIDATION_SEED, case))
        return self.simulation.interpolated(image, labels, draw, self.cases[case])


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

    A thick slice fills its block, for the channels of a batch have one shape.
    With `by_case` the draw is that of the case, so that numbers of different epochs compare.
    """

    def __init__(self, pairs: SimulatedPairs, *, by_case: bool) -> None:
        super().__init__()
        self.pairs = pairs
        self.by_case = by_case
        self.current: RememberedCase | None = None

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Simulate; -1 in the labels is outside of the image, as in nnU-Net's preprocessing and padding."""
        if self.current is None:
            raise RuntimeError("SimulateSource was not told which dataset its patches come from")
        case, simulation = self.current.name, self.pairs.simulation
        # nnU-Net seeds numpy's global state in each worker; torch's would be the same in all of them after a fork
        seed = np.random.randint(LARGEST_SEED, dtype=np.int64)  # noqa: NPY002
        rng = case_generator(VALIDATION_SEED, case) if self.by_case else np.random.default_rng(seed)
        source, target = simulation.of_patch(
            data_dict["image"][0].numpy(),
            data_dict["segmentation"][0].numpy(),
            simulation.simulator.draw(rng),
            self.pairs.cases[case],
        )
        low, high = torch.from_numpy(source), torch.from_numpy(target)
        if self.pairs.slices is not None:
            low = self.pairs.slices.as_blocks(low, high.shape[self.pairs.slices.axis])
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


def simulation_line(record: Mapping[str, Any], *, left_out: Sequence[int]) -> str:
    """One line for the log."""
    profiles = ", ".join(f"{p['thickness']:g}+{p['gap']:g}" for p in record["profiles"])
    kept = " (kept thick)" if record.get("mode") == "native" else ""
    noise = f"noise {record['noise']} x {record['noise_scale']}"
    line = (
        f"Low field is SIMULATED while training: preset {record['preset']['name']}, slice thickness+gap {profiles} "
        f"voxels{kept} along axis {', '.join(map(str, record['axes']))}, {noise}, {record['fixed']} fixed"
    )
    if left_out:
        line += (
            f". Axis {', '.join(map(str, left_out))} is left out: it runs through the slices of a 2d configuration, "
            "whose thickness cannot be simulated from one slice"
        )
    return line
