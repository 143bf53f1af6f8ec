"""Which question a training asks of a case: drawn anew for every sample (spec 2 and 3; E2, E4, E5: ours)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from nnunet_uhf.networks.unicoal.question import SLICES
from nnunet_uhf.routes.modalities import ModalityTask

SAME_SLICES = 0.25
"""Share of the samples of another modality than the target whose slices lie as those of the target: pure synthesis."""
SMALLEST = 1.25
"""Ratio; below it slices of the target's own modality leave next to nothing to be asked."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A question to a case, for whichever slice it will be.

    Attributes:
        target: what is asked for.
        sources: what is given.
        ratio: distance of the slices of the sources in voxels.
        gap: share of it that no slice covers.
        delta: place of the target between two slices, 0 to 1; None where the slices lie on a grid of their own.
    """

    target: str
    sources: tuple[str, ...]
    ratio: float
    gap: float
    delta: float | None

    def positions(self, index: int) -> tuple[list[float], float]:
        """Where the four slices lie around slice ``index`` of the target, in voxels, and the place between them."""
        if self.delta is None:
            first = float(index // round(self.ratio) * round(self.ratio))
            delta = (index - first) / self.ratio
        else:
            first, delta = index - self.delta * self.ratio, self.delta
        return [first + (step - 1) * self.ratio for step in range(SLICES)], delta


def draw_question(task: ModalityTask, missing: Collection[str], size: int, rng: np.random.Generator) -> Draw | None:
    """A question about a case; None when it has nothing to ask.

    Args:
        task: of the dataset.
        missing: modalities that the case lacks.
        size: slices of the case.
        rng: of the sample.
    """
    known = task.modalities
    sources = [name for name in known.sources if name not in missing]
    largest = _largest_ratio(task, size)
    apart = largest > SMALLEST if task.profile else largest >= 2
    # slices of the target that lie as it does would be the answer
    answers = {
        name: [source for source in sources if apart or source != name] for name in known.targets if name not in missing
    }
    targets = [name for name, given in answers.items() if given]
    if not targets:
        return None
    target = str(rng.choice(targets))
    given = _given(task, answers[target], rng)
    thick = [task.thick[name] for name in given if name in task.thick]
    if thick:
        return Draw(target=target, sources=given, ratio=float(thick[0]), gap=0.0, delta=None)
    if target not in given and (not apart or rng.random() < SAME_SLICES):
        return Draw(target=target, sources=given, ratio=1.0, gap=0.0, delta=0.0)
    if not task.profile:
        whole = int(rng.integers(2, math.floor(largest) + 1))
        first = 1 if task.no_identity and target in given else 0
        delta = float(rng.integers(first, whole)) / whole
        return Draw(target=target, sources=given, ratio=float(whole), gap=0.0, delta=delta)
    smallest = min(max(known.ratio[0], SMALLEST), largest)
    return Draw(
        target=target,
        sources=given,
        ratio=float(np.exp(rng.uniform(math.log(smallest), math.log(largest)))),
        gap=float(rng.uniform(*known.gap)),
        delta=float(rng.uniform(0, 1)),
    )


def _largest_ratio(task: ModalityTask, size: int) -> float:
    """Two slices at least lie within the case."""
    return float(max(1.0, min(task.modalities.ratio[1], (size - 1) / 2)))


def _given(task: ModalityTask, sources: list[str], rng: np.random.Generator) -> tuple[str, ...]:
    """One source, or any of them that lie alike."""
    if not task.modalities.several_sources:
        return (str(rng.choice(sources)),)
    chosen = [str(name) for name in rng.permutation(sources)[: rng.integers(1, len(sources) + 1)]]
    first = next((name for name in chosen if name in task.thick), None)
    if first is not None:
        chosen = [name for name in chosen if task.thick.get(name, task.thick[first]) == task.thick[first]]
    return tuple(name for name in task.modalities.sources if name in chosen)
