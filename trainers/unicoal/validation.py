"""Validation of Uni-COAL on whole held-out volumes: a row for every task, and files of each (ours).

Super-resolution of every modality at fixed ratios, synthesis of every pair of modalities, and both at once. Thick
slices are made of the held-out volume with the profile of the training. Beside each prediction stands what needs no
network: the cubic spline through the slices, after its best linear fit to the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.restore import restore_grid, write_image
from nnunet_uhf.inference.slice_volumes import SliceVolumes, Wanted
from nnunet_uhf.networks.unicoal.modalities import Slices
from nnunet_uhf.preprocessing.low_field.slice_profile import fill_slices, profile_weights
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.trainers.image_to_image.validation import image_quality_of
from nnunet_uhf.trainers.unicoal.reading import CaseRanges, ReadingPlan
from nnunet_uhf.types import FloatArray

RATIOS = (2, 4)
IMAGES = ("prediction", "prediction_fitted", "input")


@dataclass(frozen=True, kw_only=True)
class JudgedTask:
    """What is asked of every held-out case that has both modalities; ratio 1: slices lie as those of the target."""

    source: str
    target: str
    ratio: int

    @property
    def name(self) -> str:
        """In tables and names of files."""
        kind = "CMS" if self.ratio == 1 else ("SR" if self.source == self.target else "CMSR")
        made = self.source if self.source == self.target else f"{self.source}-{self.target}"
        return f"{kind}_{made}" if self.ratio == 1 else f"{kind}_x{self.ratio}_{made}"


def judged_tasks(task: ModalityTask) -> list[JudgedTask]:
    """All that is judged: super-resolution, synthesis, and both at the largest of the ratios."""
    known = task.modalities
    ratios = [ratio for ratio in RATIOS if known.ratio[0] <= ratio <= known.ratio[1]]
    sources = [name for name in known.sources if name not in task.thick]
    pairs = [(a, b) for a in sources for b in known.targets if a != b]
    return [
        *(JudgedTask(source=a, target=a, ratio=r) for r in ratios for a in sources if a in known.targets),
        *(JudgedTask(source=a, target=b, ratio=1) for a, b in pairs),
        *(JudgedTask(source=a, target=b, ratio=ratios[-1]) for a, b in pairs if ratios),
    ]


@dataclass(frozen=True, kw_only=True)
class HeldOutModalities:
    """What it takes to predict, measure and write whole held-out volumes.

    Attributes:
        volumes: the network.
        task: of the dataset.
        plan: what reading needs of plans.
        cases: ranges of the cases.
        plans, configuration: nnU-Net's.
        file_ending: of the images that are written.
    """

    volumes: SliceVolumes
    task: ModalityTask
    plan: ReadingPlan
    cases: Mapping[str, CaseRanges]
    plans: PlansManager
    configuration: ConfigurationManager
    file_ending: str

    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """Every task of a case as nnU-Net's dataset loads it; files `CASE_TASK` in the folder.

        Raises:
            UHFError: when the case has no labelled brain or nothing to judge.
        """
        data, labels, _, properties = loaded
        mm = float(properties["spacing"][self.plan.transpose[0]])
        tasks = {}
        for asked in judged_tasks(self.task):
            if {asked.source, asked.target} & self.cases[case].missing:
                continue
            source, target = (self._volume(case, name, data, labels) for name in (asked.source, asked.target))
            if asked.ratio > 1 and len(source) < 2 * asked.ratio:
                continue
            row, image = self._judged(case, asked, source, target, np.asarray(labels[0]) > 0, mm)
            tasks[asked.name] = row
            restored = restore_grid(image, properties, self.plans, self.configuration)
            write_image(restored, folder / f"{case}_{asked.name}{self.file_ending}", properties)
        if not tasks:
            raise UHFError(f"case {case} of {self.plans.dataset_name} has no two modalities or too few slices to judge")
        return {"case": case, "tasks": tasks, **_mean(list(tasks.values()))}

    def _judged(
        self, case: str, asked: JudgedTask, source: FloatArray, target: FloatArray, brain: Any, mm: float
    ) -> tuple[dict[str, Any], FloatArray]:
        """The row of a task, and the image on the grid of the whole volume."""
        size, gap = len(target), float(np.mean(self.task.modalities.gap))
        thickness = asked.ratio * (1 - gap) if self.task.profile else 1e-3
        slices, before = source, source
        if asked.ratio > 1:
            positions = list(range(0, size, asked.ratio))
            weights = profile_weights(size, positions, thickness=thickness).astype(np.float32)
            slices = np.tensordot(weights, source, axes=1)
            before = fill_slices(slices, ratio=asked.ratio, size=size, axis=0)
        told = Slices(distance_mm=asked.ratio * mm, thickness_mm=asked.ratio * (1 - gap if asked.ratio > 1 else 1) * mm)
        wanted = Wanted(target=asked.target, slices=told, spacing_mm=mm)
        # behind the last slice nothing is known: its place is held, there as in the spline
        places = [min(k / asked.ratio, len(slices) - 1.0) for k in range(size)]
        image = self.volumes.predict({asked.source: slices}, wanted, places=places)
        judged = slice(0, (len(slices) - 1) * asked.ratio + 1)
        try:
            row = image_quality_of(
                case,
                prediction=image[judged],
                source=before[judged] - 1,
                target=target[judged] - 1,
                brain=brain[judged],
            )
        except ValueError as error:
            raise UHFError(
                f"case {case} of {self.plans.dataset_name} cannot be judged ({error}); check its images and that its "
                "label file marks the brain"
            ) from error
        return {name: row[name] for name in IMAGES}, image

    def _volume(self, case: str, name: str, data: Any, labels: Any) -> FloatArray:
        known = self.cases[case].ranges[name]
        assert known is not None
        inside = np.asarray(labels[0]) >= 0 if self.plan.masked[name] else None
        return known.shifted(np.asarray(data[self.task.channels[name]], dtype=np.float32), inside)


def summarise_tasks(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of summary.json: the mean of all tasks as of pairs, and under ``tasks`` that of each."""
    names = list(dict.fromkeys(name for row in rows for name in row["tasks"]))
    tasks = {}
    for name in names:
        found = [row["tasks"][name] for row in rows if name in row["tasks"]]
        tasks[name] = {"cases": len(found), **_mean(found)}
    mean = _mean(rows)
    foreground = {name: mean["prediction"][f"{name}_brain"] for name in ("psnr", "ssim")}
    shown = {f"{name} {image}": tasks[name][image] for name in names for image in ("prediction", "input")}
    return {"metric_per_case": list(rows), "mean": {**mean, **shown}, "tasks": tasks, "foreground_mean": foreground}


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        image: {name: float(np.mean([row[image][name] for row in rows])) for name in rows[0][image]} for image in IMAGES
    }
