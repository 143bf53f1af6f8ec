"""Statistics of a keeper's features over the cases of its training, taken when it is exported (ours)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.statistics import FEWEST_CASES, channel_means, features_of, source_patch, summarise_features
from nnunet_uhf.networks.contract import Keeper
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.trainers.image_to_image.sources import Planned, pair_source

CASES = 50  # of training and of held-out cases at most: means and deviations need no more


def keeper_statistics(
    header: KeeperHeader,
    keeper: Keeper,
    preprocessed: Path,
    *,
    dataset_json: Mapping[str, Any],
    training: Sequence[str],
    held_out: Sequence[str],
    console: Console | None = None,
) -> dict[str, Any] | None:
    """Run the keeper once over the sources of its cases; the header's ``feature_statistics``.

    A source that was simulated while training is simulated again, drawn by the name of the case as in validation.

    Args:
        header: of the keeper, which says how it sees images.
        keeper: with its weights.
        preprocessed: folder of the preprocessed cases of its configuration.
        dataset_json: of its model folder.
        training: cases that the statistics are of, at most 50 of them, evenly spread.
        held_out: cases that show what distances are usual; the same.
        console: shows a progress bar when given.

    Returns:
        As :func:`nnunet_uhf.keepers.statistics.summarise_features`; None, with a warning, of fewer than 3 training
        cases.

    Raises:
        UHFError: a case that is not preprocessed or shows no contrast, a preset of the simulation that is gone.
    """
    if len(training) < FEWEST_CASES:
        warnings.warn(
            f"{len(training)} training cases are too few for feature statistics: check-input will not work with this "
            "keeper",
            stacklevel=2,
        )
        return None
    chosen = [_spread(cases) for cases in (training, held_out)]
    sources: Iterable[tuple[str, NDArray[np.float32]]] = _sources(
        header, preprocessed, dataset_json, [*chosen[0], *chosen[1]]
    )
    if console is not None:
        sources = track(sources, description="statistics", total=sum(map(len, chosen)), console=console)
    features = features_of(keeper)
    means = []
    for case, source in sources:
        try:
            means.append(channel_means(features, source[None], source_patch(header)))
        except ValueError as error:
            raise UHFError(f"case {case} in {preprocessed} is {error}; preprocess it again") from error
    return summarise_features(means[: len(chosen[0])], means[len(chosen[0]) :])


def _sources(
    header: KeeperHeader,
    preprocessed: Path,
    dataset_json: Mapping[str, Any],
    cases: Sequence[str],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Case names with their preprocessed source images `(Z, Y, X)`."""
    task = read_task(dataset_json, dataset=header.dataset)
    planned = Planned(patch_size=header.patch_size, masked=header.use_mask_for_norm, dataset=header.dataset)
    pairs = pair_source(task, planned)
    advice = "preprocess again, or leave the statistics out with --no-statistics"
    if not preprocessed.is_dir():
        raise UHFError(f"{preprocessed} does not exist, and feature statistics need the cases; {advice}")
    dataset = infer_dataset_class(str(preprocessed))(str(preprocessed), list(cases))
    for case in cases:
        try:
            data, labels, _, _ = dataset.load_case(case)
        except (OSError, RuntimeError, ValueError):
            raise UHFError(f"case {case} is missing in {preprocessed} or damaged; {advice}") from None
        source, _ = pairs.of_case(case, data, labels)
        yield case, source[0]


def _spread(cases: Sequence[str]) -> list[str]:
    """At most CASES of them, evenly spread."""
    return [cases[int(i)] for i in np.linspace(0, len(cases) - 1, min(CASES, len(cases)))]
