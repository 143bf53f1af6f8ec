"""Pairs of high-field scans and their low-field partners, simulated while training (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.artefacts import Artefacts
from nnunet_uhf.preprocessing.low_field.on_the_fly import CaseIntensities, PairSimulation
from nnunet_uhf.preprocessing.low_field.presets import LowFieldPreset, find_preset, profile_for_ratio
from nnunet_uhf.preprocessing.low_field.simulator import LowFieldSimulator
from nnunet_uhf.preprocessing.low_field.tissues import check_tissue_labels
from nnunet_uhf.routes.simulation import SimulationTask
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.trainers.image_to_image.pair_source import PairSource, image_and_labels
from nnunet_uhf.trainers.image_to_image.simulate_source import (
    VALIDATION_SEED,
    RememberedCase,
    SimulateSource,
    behind_spatial,
)
from nnunet_uhf.trainers.image_to_image.transforms import intensity_on, without_intensity
from nnunet_uhf.types import FloatArray

METHOD = "SIQT stochastic low-field simulator (Lin et al., Medical Image Analysis 2023), re-implemented"


class SimulatedPairs(PairSource):
    """The source is simulated from the only channel of the dataset, which is the target, on the target's grid.

    Every patch has a draw of its own; validation patches and whole cases are drawn by the name of the case.

    Attributes:
        simulation: how a pair is made.
        cases: what was measured of each case.
        left_out: axes that the dataset names and the configuration cannot simulate.
    """

    source_channels = (0,)
    target_channel = 1
    record: dict[str, Any]

    def __init__(
        self, task: SimulationTask, *, channel: int = 0, patch_size: Sequence[int], masked: bool, where: str
    ) -> None:
        """Build the simulator.

        Args:
            task: `uhf.simulate` of dataset.json.
            channel: of the dataset, its high-field image.
            patch_size: of the configuration, two or three axes.
            masked: normalisation counts the nonzero mask only.
            where: the dataset, for errors.

        Raises:
            UHFError: a preset, ratio or value that does not exist, slices that do not fit into the patch, or axes that
                all run through the plane of a 2d configuration.
        """
        try:
            preset = find_preset(task.preset)
            simulator = _simulator(task, preset, patch_size)
        except UHFError as error:
            raise UHFError(f"uhf.simulate in dataset.json of {where}: {error}") from error
        self.channel = channel
        self.simulation = PairSimulation(simulator=simulator, tissues=task.tissues, masked=masked)
        self.left_out = tuple(axis for axis in task.axes if axis not in simulator.axes)
        self.cases: dict[str, CaseIntensities] = {}
        self.record = _record(task, preset, simulator)

    def log_lines(self) -> list[str]:
        """That the source is simulated, and how."""
        return [simulation_line(self.record, left_out=self.left_out)]

    # ---- cases

    def datasets(self, training: Any, validation: Any) -> tuple[RememberedCase, RememberedCase]:
        """nnU-Net's datasets, which tell the simulation which case a patch is of."""
        remembered = RememberedCase(training), RememberedCase(validation)
        self._training.current, self._validation.current = remembered
        return remembered

    measured = "the intensities of the cases for the simulation"

    def measure(self, case: str, data: Any, labels: Any) -> None:
        """Measure a whole preprocessed case, once; UHFError when nothing can be simulated from it."""
        if case in self.cases:
            return
        try:
            self.cases[case] = self.simulation.measure(*image_and_labels(self.channel, data, labels))
        except UHFError as error:
            raise UHFError(f"case {case}: no low-field image can be simulated: {error}") from error

    # ---- batches

    def masks(self, use_mask_for_norm: list[bool]) -> list[bool]:
        """The one channel becomes two."""
        return use_mask_for_norm * 2

    def augmentation(self, transform: BasicTransform, *, augments_simulated: bool) -> BasicTransform:
        """nnU-Net's augmentation with the simulation behind its spatial part."""
        kept = intensity_on(transform, self.on_source) if augments_simulated else without_intensity(transform)
        self._training = self._simulate(by_case=False)
        return behind_spatial(kept, self._training)

    def unaugmented(self, transform: BasicTransform) -> BasicTransform:
        """The simulation before nnU-Net's transforms."""
        self._validation = self._simulate(by_case=True)
        return ComposeTransforms([self._validation, transform])

    def _simulate(self, *, by_case: bool) -> SimulateSource:
        return SimulateSource(self.simulation, self.cases, by_case=by_case)

    # ---- whole volumes

    def of_case(self, case: str, data: Any, labels: Any) -> tuple[FloatArray, FloatArray]:
        """The case and a source drawn by its name."""
        self.measure(case, data, labels)
        draw = self.simulation.simulator.draw(case_generator(VALIDATION_SEED, case))
        source, target = self.simulation.of_case(*image_and_labels(self.channel, data, labels), draw, self.cases[case])
        return source[None], target


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


def _simulator(task: SimulationTask, preset: LowFieldPreset, patch_size: Sequence[int]) -> LowFieldSimulator:
    check_tissue_labels(task.tissues)
    # a single slice knows nothing of its neighbours, so its thickness cannot be simulated
    axes = tuple(axis for axis in task.axes if axis >= 3 - len(patch_size))
    if not axes:
        raise UHFError(
            "a 2d configuration can simulate slices along its own two axes only: name axis 1 or 2 in axes, or train 3d"
        )
    for axis in axes:
        size = patch_size[axis - 3]
        if size < 2 * max(task.ratios):
            raise UHFError(
                f"the patch has {size} voxels along axis {axis}, fewer than two slices of ratio {max(task.ratios)}: "
                "leave that axis or ratio out"
            )
    return LowFieldSimulator(
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


def _record(task: SimulationTask, preset: LowFieldPreset, simulator: LowFieldSimulator) -> dict[str, Any]:
    """All parameters of the simulation, ready for JSON."""
    return {
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
        "axes": list(simulator.axes),
        "fixed": task.fixed,
        "noise": task.noise,
        "noise_scale": list(task.noise_scale),
        "noise_mask": task.noise_mask,
        "reject_outliers": task.reject_outliers,
        "tissues": {name: list(v) if isinstance(v, tuple) else v for name, v in task.tissues.items()},
        **({"artefacts": asdict(simulator.artefacts)} if simulator.artefacts.enabled else {}),
    }
