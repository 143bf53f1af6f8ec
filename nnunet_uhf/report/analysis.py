"""All comparisons of a report: every model against the baseline, per structure and metric, pooled and in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_uhf.evaluation.label_scores import MEAN, METRICS, VOLUMES, Metric
from nnunet_uhf.evaluation.measuring import Measured
from nnunet_uhf.evaluation.statistics import PairedResult, compare_paired, holm
from nnunet_uhf.nnunet.labels import Labels

PRIMARY_METRIC = "dice"


@dataclass(frozen=True)
class Result:
    """One comparison of a model with the baseline.

    Attributes:
        model: name of the entry.
        structure: or :data:`~nnunet_uhf.evaluation.label_scores.MEAN`.
        metric: key of a metric.
        group: None where all subjects are pooled, else (column, group), such as ("fold", "0") or ("sex", "F").
        paired: the numbers.
        p_holm: p corrected over its family; None in groups, whose p-values are uncorrected.
        primary: whether it is the report's main question.
    """

    model: str
    structure: str
    metric: str
    group: tuple[str, str] | None
    paired: PairedResult
    p_holm: float | None = None
    primary: bool = False


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of a metric of an entry over the `n` subjects that have it."""

    entry: str
    structure: str
    metric: str
    n: int
    mean: float | None
    std: float | None


def structure_names(task: Labels) -> list[str]:
    """The names under which scores are kept: the mean first, where there is more than one structure."""
    names = [structure.name for structure in task.structures]
    return [MEAN, *names] if len(names) > 1 else names


def primary_structure(task: Labels) -> str:
    """The structure of the report's main question: the mean, or the only one there is."""
    return structure_names(task)[0]


def scores_of(measured: Measured, entry: str, structure: str, metric: str, cases: Sequence[str]) -> list[float]:
    """The scores of an entry in the order of the cases."""
    return [measured[case][entry][structure][metric] for case in cases]


def analyse(
    measured: Measured,
    task: Labels,
    entries: Sequence[str],
    groups: Mapping[tuple[str, str], Sequence[str]],
    *,
    seed: int = 0,
) -> list[Result]:
    """Compare every entry with the first, pooled and in every group.

    Main question: the primary structure's Dice, corrected (Holm) over the models. All else that is pooled, structures
    by metrics by models, is one family of its own. Groups overlap and are small: their p-values stay as they are.
    """
    results = []
    main = primary_structure(task)
    wanted: list[tuple[tuple[str, str] | None, Sequence[str]]] = [(None, list(measured)), *groups.items()]
    for model in entries[1:]:
        for group, cases in wanted:
            for structure in structure_names(task):
                for metric in METRICS:
                    baseline, values = (
                        scores_of(measured, entry, structure, metric.key, cases) for entry in (entries[0], model)
                    )
                    paired = compare_paired(baseline, values, higher_is_better=metric.higher_is_better, seed=seed)
                    primary = group is None and structure == main and metric.key == PRIMARY_METRIC
                    results.append(Result(model, structure, metric.key, group, paired, primary=primary))
    return _corrected(results)


def summarise_scores(measured: Measured, task: Labels, entries: Sequence[str]) -> list[Summary]:
    """Mean and standard deviation over subjects of every metric of every entry and structure."""
    summaries = []
    for entry in entries:
        for structure in structure_names(task):
            for metric in METRICS:
                values = np.array(scores_of(measured, entry, structure, metric.key, list(measured)))
                kept = values[~np.isnan(values)]
                summaries.append(
                    Summary(
                        entry,
                        structure,
                        metric.key,
                        len(kept),
                        float(kept.mean()) if len(kept) else None,
                        float(kept.std(ddof=1)) if len(kept) > 1 else None,
                    )
                )
    return summaries


def missed(measured: Measured, task: Labels, entries: Sequence[str]) -> int:
    """How often a structure was in one of truth and prediction alone, and HD95 is the image's diagonal."""
    names = [structure.name for structure in task.structures]
    found = [scores[entry][name] for scores in measured.values() for entry in entries for name in names]
    return sum(each["dice"] == 0 and 0 in (each[volume] for volume in VOLUMES) for each in found)


def metric_of(key: str) -> Metric:
    """The metric of a key."""
    return next(metric for metric in METRICS if metric.key == key)


def result_of(
    results: Sequence[Result], model: str, structure: str, metric: str, group: tuple[str, str] | None = None
) -> Result:
    """The one result of these."""
    wanted = (model, structure, metric, group)
    return next(r for r in results if (r.model, r.structure, r.metric, r.group) == wanted)


def _corrected(results: Sequence[Result]) -> list[Result]:
    corrected = list(results)
    for primary in (True, False):
        family = [i for i, result in enumerate(results) if result.group is None and result.primary is primary]
        for index, p in zip(family, holm([results[i].paired.p for i in family]), strict=True):
            corrected[index] = replace(results[index], p_holm=p)
    return corrected
