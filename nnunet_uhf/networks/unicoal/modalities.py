"""Which modalities a Uni-COAL network knows, and how a question about them becomes its input (E1, E3, E4: ours).

The same description stands in dataset.json's task, in plans and in the header of a keeper file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nnunet_uhf.checks import is_list, is_number, is_text
from nnunet_uhf.networks.unicoal.question import (
    FEATURES,
    NUMBERS,
    SLICES,
    encoded,
    interpolation_weights,
    numbers_of,
)
from nnunet_uhf.networks.unicoal.slice_filter import slice_filter

MOST = 16
"""Modalities of one network."""
LARGEST_RATIO = 16.0
LARGEST_GAP = 0.8
_SWITCHES = ("conditions", "interpolation", "several_sources", "position")
_LATER = frozenset({"slice_filter"})
"""Switches that files of version 0.2.0 do not have; there they are off."""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """How the slices of a source lie, in mm.

    Attributes:
        distance_mm: between their centres.
        thickness_mm: full width at half maximum of their profile.
    """

    distance_mm: float
    thickness_mm: float


@dataclass(frozen=True, kw_only=True)
class Modalities:
    """What a network was trained to make of what.

    Attributes:
        tesla: field strength of every modality, by name: a modality is a contrast at a field strength.
        sources: names that may be given.
        targets: names that may be asked for.
        ratio: distances of slices that were drawn, over the spacing of the target.
        gap: shares of the distance between two slices that no slice covers.
        conditions: the network is told source, field strengths, distance, thickness and spacing (E1), and not only
            target and place.
        interpolation: where the target is among the sources, the network adds to the spline through its slices (E3).
        several_sources: every source has slices of its own, and any of them may be given together (E4).
        position: the waves of the network follow the place of a window in the slice (E6).
        slice_filter: what the network adds to is the best linear estimate under the profile of the slices, in the place
            of a spline (E11).
    """

    tesla: Mapping[str, float]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ratio: tuple[float, float] = (1.0, 8.0)
    gap: tuple[float, float] = (0.0, 0.34)
    conditions: bool = True
    interpolation: bool = True
    several_sources: bool = False
    position: bool = True
    slice_filter: bool = False

    def as_json(self) -> dict[str, Any]:
        """Ready for JSON; :meth:`of` gives it back."""
        content = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """From :meth:`as_json`, whose content :func:`is_modalities` has approved."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name in known
        }
        return cls(**values)

    # ---- sizes of the network

    @property
    def slots(self) -> int:
        """Sources that the network reads together."""
        return len(self.sources) if self.several_sources else 1

    @property
    def in_channels(self) -> int:
        """Slices that come in."""
        return SLICES * self.slots

    @property
    def code(self) -> int:
        """Length of the code: a place for every target, and with the conditions for every source."""
        return len(self.targets) + (len(self.sources) if self.conditions else 0)

    @property
    def numbers(self) -> int:
        """Features of the numbers."""
        return FEATURES * (NUMBERS if self.conditions else 1)

    # ---- questions

    def slot(self, source: str) -> int:
        """Where the slices of a source come in."""
        return self.sources.index(source) if self.several_sources else 0

    def condition(
        self, target: str, sources: Sequence[str], *, delta: float, slices: Slices, spacing_mm: float
    ) -> Tensor:
        """Code and numbers of a question, `(code + numbers,)`.

        Args:
            target: what is asked for.
            sources: what is given.
            delta: place between the second and the third slice, 0 to 1.
            slices: of the sources.
            spacing_mm: of the target.
        """
        code = torch.zeros(self.code)
        code[self.targets.index(target)] = 1
        if self.conditions:
            for source in sources:
                code[len(self.targets) + self.sources.index(source)] = 1
        numbers = numbers_of(
            delta=delta,
            distance_mm=slices.distance_mm,
            thickness_mm=slices.thickness_mm,
            spacing_mm=spacing_mm,
            source_tesla=float(np.exp(np.mean([np.log(self.tesla[source]) for source in sources]))),
            target_tesla=self.tesla[target],
        )
        return torch.cat([code, encoded(torch.tensor([numbers[: NUMBERS if self.conditions else 1]]))[0]])

    def weights(
        self,
        target: str,
        sources: Sequence[str],
        *,
        delta: float,
        present: Sequence[bool],
        slices: Slices,
        spacing_mm: float,
    ) -> Tensor:
        """Weights of the slices in the image that the network adds to, `(in_channels,)`; see :meth:`condition`."""
        weights = torch.zeros(self.in_channels)
        if self.interpolation and target in sources:
            first = SLICES * self.slot(target)
            if self.slice_filter:
                found = slice_filter(
                    delta,
                    present,
                    distance_mm=slices.distance_mm,
                    thickness_mm=slices.thickness_mm,
                    spacing_mm=spacing_mm,
                )
            else:
                found = interpolation_weights(delta, present)
            weights[first : first + SLICES] = torch.tensor(found)
        return weights


def is_modalities(content: object) -> bool:
    """Whether a JSON object describes modalities; what else it may hold is for others to judge."""
    if not isinstance(content, Mapping):
        return False
    tesla, sources, targets = (content.get(name) for name in ("tesla", "sources", "targets"))
    if not isinstance(tesla, Mapping) or not 1 <= len(tesla) <= MOST:
        return False
    return (
        all(is_text(name) and is_number(value, 1e-3, 30) for name, value in tesla.items())
        and all(is_list(names, lambda name: name in list(tesla), 1, MOST) for names in (sources, targets))
        and _is_increasing(content.get("ratio"), 1, LARGEST_RATIO)
        and _is_increasing(content.get("gap"), 0, LARGEST_GAP)
        and all(isinstance(content.get(name), bool) for name in _SWITCHES)
        and all(isinstance(content.get(name, False), bool) for name in _LATER)
    )


def is_described(content: object, *, is_hash: Callable[[object], bool]) -> bool:
    """Whether a JSON object is all that a header says of modalities: also the prior, and intensities of the targets."""
    own = {field.name for field in fields(Modalities)}
    if not isinstance(content, dict) or content.keys() | _LATER != own | {"sam_sha256", "intensity"}:
        return False
    known, sam, intensity = is_modalities(content), content["sam_sha256"], content["intensity"]
    return (
        known
        and (sam is None or is_hash(sam))
        and isinstance(intensity, dict)
        and intensity.keys() == set(content["targets"])
        and all(is_list(ends, lambda end: is_number(end, -1e9, 1e9), 2, 2) for ends in intensity.values())
        and all(low < high for low, high in intensity.values())
    )


def _is_increasing(value: object, low: float, high: float) -> bool:
    return is_list(value, lambda item: is_number(item, low, high), 2, 2) and value[0] <= value[1]  # type: ignore[index]
