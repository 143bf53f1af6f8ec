"""Models that were trained several times: their mean, and what another training might have given (ours).

Training the same network again, from another seed, changes every score. Where a model is given with several trainings,
its score of a subject is the mean over them, and the main difference gets a second interval, for which trainings are
drawn anew as well as subjects. Where the trainings are paired, the first of each from one seed, the second of each from
another, and so on, the difference of every pair counts: it spreads far less than the trainings do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.label_scores import Scores
from nnunet_uhf.evaluation.measuring import Measured
from nnunet_uhf.evaluation.statistics import CONFIDENCE, RESAMPLES
from nnunet_uhf.report.entries import Entry, read_model, read_predictions

BLOCK = 500  # resamples drawn at a time: memory


@dataclass(frozen=True)
class Repeats:
    """The main result of a model against the baseline, training by training.

    Attributes:
        baseline: mean score over the subjects of each of the baseline's trainings.
        model: likewise.
        ci: 95 % percentile bootstrap interval of the mean difference, trainings of each and subjects drawn anew.
        pairs: where trainings are paired by seed, their differences.
    """

    baseline: tuple[float, ...]
    model: tuple[float, ...]
    ci: tuple[float, float]
    pairs: PairedTrainings | None = None


@dataclass(frozen=True)
class PairedTrainings:
    """Differences of the main result, model - baseline, of trainings that share a seed.

    Attributes:
        seeds: as the checkpoints record them; None of folders of predictions.
        differences: mean over the subjects, one a seed.
        mean: of them.
        ci: 95 % interval of their mean over seeds, Student's t; None below two.
    """

    seeds: tuple[int | None, ...]
    differences: tuple[float, ...]
    mean: float
    ci: tuple[float, float] | None


def parse_again(options: Sequence[str]) -> list[tuple[str, Path]]:
    """``["plain=RESULTS/MODEL"]`` -> ``[("plain", Path("RESULTS/MODEL"))]``; UHFError for anything else."""
    found = []
    for option in options:
        name, equals, folder = option.partition("=")
        if not (name.strip() and equals and folder):
            raise UHFError(f"--again {option}: write NAME=FOLDER, the name of a model and another training of it")
        found.append((name.strip(), Path(folder)))
    return found


def with_repeats(entries: Sequence[Entry], again: Sequence[tuple[str, Path]]) -> list[Entry]:
    """The entries with their further trainings: `again` holds the name of an entry and a folder of the same kind.

    Raises:
        UHFError: no entry of that name, a folder given twice, another configuration, or as :func:`read_model` and
            :func:`read_predictions`.
    """
    names = [entry.name for entry in entries]
    used = {entry.folder.resolve() for entry in entries}
    further: dict[str, list[Entry]] = {name: [] for name in names}
    for name, folder in again:
        option = f"--again {name}={folder}"
        if name not in further:
            raise UHFError(f"{option}: nothing is called {name!r}; choose among {', '.join(names)} (-names)")
        called = f"{name} #{len(further[name]) + 2}"
        if folder.resolve() in used or called in names:
            raise UHFError(f"{option}: this folder or the name {called!r} is in use already; give every training once")
        used.add(folder.resolve())
        first = entries[names.index(name)]
        read = (read_model if first.is_model else read_predictions)(folder)
        if read.configuration != first.configuration:
            raise UHFError(f"{option}: it is {read.configuration}, {name} is {first.configuration}: name one of that")
        further[name].append(replace(read, name=called, warnings=(*read.warnings, *_unlike(read, first, called))))
    return [replace(entry, again=tuple(further[entry.name])) for entry in entries]


def _unlike(training: Entry, first: Entry, called: str) -> list[str]:
    """A warning where the trainer is another one: right for trainers of one's own that set a seed, else a mistake."""
    if training.trainer == first.trainer:
        return []
    both = f"{called} was trained by {training.trainer}, {first.name} by {first.trainer}"
    return [f"{both}: their mean is that of one model only if these trainers differ in nothing but the seed."]


def check_pairs(entries: Sequence[Entry], seeds: Mapping[str, int | None]) -> None:
    """UHFError unless the trainings of all entries come in pairs.

    Args:
        entries: the baseline first.
        seeds: by the name of a training, as its checkpoints record it.
    """
    first = entries[0]
    for entry in entries[1:]:
        if len(entry.trainings) != len(first.trainings):
            raise UHFError(
                f"--paired: {first.name} has {len(first.trainings)} trainings and {entry.name} {len(entry.trainings)}; "
                "give each as many (--again), in the same order of seeds"
            )
        for one, other in zip(first.trainings, entry.trainings, strict=True):
            known = seeds.get(one.name), seeds.get(other.name)
            if one.is_model and other.is_model and (None in known or known[0] != known[1]):
                shown = [f"{each.folder} has {_seed(seed)}" for each, seed in zip((one, other), known, strict=True)]
                raise UHFError(
                    f"--paired: {', '.join(shown)}: a pair is trained with one nnUNet_UHF_SEED; give the trainings in "
                    "the same order of seeds"
                )


def _seed(seed: int | None) -> str:
    return "no seed" if seed is None else f"seed {seed}"


def mean_of_trainings(measured: Measured, entries: Sequence[Entry]) -> Measured:
    """Scores by the names of the entries: of each subject the mean over all trainings, NaN where one has no score."""
    return {
        case: {
            entry.name: {
                structure: _mean([scores[each.name][structure] for each in entry.trainings])
                for structure in scores[entry.name]
            }
            for entry in entries
        }
        for case, scores in measured.items()
    }


def repeats_of(
    measured: Measured,
    baseline: Entry,
    model: Entry,
    *,
    structure: str,
    metric: str,
    seed: int,
    seeds: Sequence[int | None] | None = None,
) -> Repeats | None:
    """The main result training by training; None where neither was trained again, or no subject has the score.

    `seeds` are those of the pairs, in order, where the trainings are paired.
    """
    if not baseline.again and not model.again:
        return None
    scores = [
        np.array([[measured[case][each.name][structure][metric] for case in measured] for each in entry.trainings])
        for entry in (baseline, model)
    ]
    known = ~np.isnan(np.concatenate(scores)).any(axis=0)
    if not known.any():
        return None
    first, second = (values[:, known] for values in scores)
    return Repeats(
        tuple(first.mean(axis=1).tolist()),
        tuple(second.mean(axis=1).tolist()),
        interval_over_trainings(first, second, seed=seed),
        None if seeds is None else paired_trainings(second.mean(axis=1) - first.mean(axis=1), seeds),
    )


def paired_trainings(differences: NDArray[np.float64], seeds: Sequence[int | None]) -> PairedTrainings:
    """What the differences of pairs say, one a seed."""
    mean = float(differences.mean())
    ci = None
    if len(differences) > 1:
        error = float(differences.std(ddof=1)) / np.sqrt(len(differences))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
        ci = (mean - half, mean + half)
    return PairedTrainings(tuple(seeds), tuple(differences.tolist()), mean, ci)


def interval_over_trainings(
    first: NDArray[np.float64], second: NDArray[np.float64], *, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(second) - mean(first), both `(trainings, subjects)`.

    Subjects are drawn once for both, the trainings of each by themselves: they are not paired.
    """
    rng = np.random.default_rng(seed)
    drawn: list[NDArray[np.float64]] = []
    for start in range(0, RESAMPLES, BLOCK):
        count = min(BLOCK, RESAMPLES - start)
        subjects = rng.integers(first.shape[1], size=(count, 1, first.shape[1]))
        means = [
            values[rng.integers(len(values), size=(count, len(values), 1)), subjects].mean(axis=(1, 2))
            for values in (first, second)
        ]
        drawn.append(means[1] - means[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    return float(low), float(high)


def _mean(scores: Sequence[Mapping[str, float]]) -> Scores:
    """The mean of every score over the trainings; NaN where it is undefined in one, so that all keep their weight."""
    return {key: float(np.mean([each[key] for each in scores])) for key in scores[0]}
