"""Is an image like those a keeper was trained on? Its features held against the statistics in the keeper's header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from nnunet_uhf.errors import UHFError
from nnunet_uhf.feature_statistics import (
    Features,
    Verdict,
    channel_means,
    distances_of,
    features_of,
    overall_distance,
    source_patch,
    verdict,
)
from nnunet_uhf.keeper_header import KeeperHeader
from nnunet_uhf.networks.kinds import EnhancingNet

ALL_LEVELS = "all"


@dataclass(frozen=True)
class LevelCheck:
    """One level of one image; `level` counts from 1, the finest, or is "all": the root mean square over the levels.

    `usual_p95` and `usual_max` are of the distances of the keeper's own cases, held out or left out one by one.
    """

    level: int | str
    distance: float
    usual_p95: float
    usual_max: float
    verdict: Verdict


@dataclass(frozen=True)
class InputCheck:
    """All levels of one image, and the line for all of them, which decides."""

    levels: tuple[LevelCheck, ...]
    overall: LevelCheck

    @property
    def verdict(self) -> Verdict:
        """That of the image."""
        return self.overall.verdict

    def sentence(self) -> str:
        """What to tell a person."""
        one = self.overall
        if one.verdict == "within":
            return f"like the images the keeper was trained on (distance {one.distance:.2f})"
        return (
            f"{one.verdict} what the keeper was trained on: distance {one.distance:.2f}; 95 % of its own cases are "
            f"below {one.usual_p95:.2f}, all below {one.usual_max:.2f}"
        )

    def note(self) -> dict[str, Any]:
        """The same for a JSON note."""
        return {
            "verdict": self.verdict,
            **{name: getattr(self.overall, name) for name in ("distance", "usual_p95", "usual_max")},
            "levels": [
                {name: getattr(level, name) for name in ("distance", "usual_p95", "usual_max", "verdict")}
                for level in self.levels
            ],
        }


def check_image(
    header: KeeperHeader, features: Features, image: NDArray[np.float32], *, device: torch.device | str, name: str
) -> InputCheck:
    """Measure how far the features of an image are from those of the keeper's training.

    Args:
        header: with feature statistics.
        features: the keeper, on the device.
        image: preprocessed for the keeper, `(Z, Y, X)`.
        device: where to run it.
        name: the file, for errors.

    Raises:
        UHFError: no statistics in the header, or an image without contrast.
    """
    statistics = header.feature_statistics
    if statistics is None:
        raise UHFError(without_statistics(header))
    if not image.max() > image.min():
        raise UHFError(f"{name} has one intensity wherever it is not 0: give a scan")
    means = channel_means(features, image, source_patch(header), device=device)
    distances = distances_of(means, statistics)
    levels = tuple(
        _level(number, distance, entry["distances"])
        for number, (distance, entry) in enumerate(zip(distances, statistics["levels"], strict=True), start=1)
    )
    return InputCheck(levels, _level(ALL_LEVELS, overall_distance(distances), statistics["distances"]))


def check_for_enhancing(
    header: KeeperHeader,
    network: EnhancingNet,
    image: NDArray[np.float32],
    device: torch.device,
    source: Path,
    console: Console,
) -> InputCheck | None:
    """:func:`check_image`, with a warning on the console when the image is not within; None without statistics."""
    if header.feature_statistics is None:
        return None
    check = check_image(header, features_of(network.keeper.to(device)), image, device=device, name=str(source))
    if check.verdict != "within":
        console.print(f"warning: {source.name} is {check.sentence()}", style="yellow", highlight=False, markup=False)
    return check


def without_statistics(header: KeeperHeader) -> str:
    """What to say of a keeper that cannot check its input."""
    return (
        f"keeper {header.sha256[:8]} ({header.dataset}, {header.configuration}, fold {header.fold}) holds no feature "
        "statistics, so nobody can say whether an image is like those it was trained on; export it with this version "
        "(nnunet-uhf export-keeper) and use that file"
    )


def _level(level: int | str, distance: float, usual: dict[str, float]) -> LevelCheck:
    return LevelCheck(level, distance, usual["p95"], usual["max"], verdict(distance, usual))
