"""index.html: one page that needs nothing but itself."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nnunet_uhf import __version__
from nnunet_uhf.evaluation.label_scores import MEAN, METRICS, Metric
from nnunet_uhf.evaluation.statistics import RESAMPLES
from nnunet_uhf.pages.engine import render_page
from nnunet_uhf.report.analysis import (
    PRIMARY_METRIC,
    metric_of,
    primary_structure,
    result_of,
    scores_of,
    structure_names,
)
from nnunet_uhf.report.comparison import Comparison
from nnunet_uhf.report.formatting import NOT_RECORDED, breakable, interval, number, p_value
from nnunet_uhf.report.plots import COLOURS, ForestRow, curve_plot, distribution_plot, forest_plot, paired_plot
from nnunet_uhf.report.records import DEFINITIONS
from nnunet_uhf.report.slices import BOTH_WRONG, ONLY_BASELINE_WRONG, ONLY_MODEL_WRONG
from nnunet_uhf.report.trainings import CURVES, Cost
from nnunet_uhf.report.verdict import VerdictKind

TEMPLATE = "compare.html"
MEAN_TITLE = "mean over structures"
BADGES: dict[VerdictKind, str] = {
    "better": "better",
    "worse": "worse",
    "unclear": "not shown to differ",
    "equal": "no difference",
    "spoiled": "not valid",
}


@dataclass(frozen=True)
class Forest:
    """A forest plot and what it is of."""

    title: str
    model: str
    plot: Markup


@dataclass(frozen=True)
class Cell:
    """A mean difference as the table shows it; `mark` is win, loss or nothing."""

    text: str
    interval: str
    p: str
    mark: str


def render(comparison: Comparison) -> str:
    """The page as HTML text. It refers to no other file: pictures are data URIs, plots and styles are inline."""
    main = primary_structure(comparison.task)
    return render_page(
        "nnunet_uhf.report",
        TEMPLATE,
        filters={"number": number, "p_value": p_value, "breakable": breakable},
        c=comparison,
        version=__version__,
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        baseline=comparison.entries[0].name,
        models=[entry.name for entry in comparison.entries[1:]],
        colour={
            each.name: f"c{index % COLOURS}"
            for index, entry in enumerate(comparison.entries)
            for each in entry.trainings
        },
        main=_title(main),
        badges=BADGES,
        metrics=METRICS,
        structures=[(name, _title(name)) for name in structure_names(comparison.task)],
        means={(s.entry, s.structure, s.metric): s for s in comparison.summaries},
        cells=_cells(comparison),
        results={
            entry.name: result_of(comparison.results, entry.name, main, PRIMARY_METRIC)
            for entry in comparison.entries[1:]
        },
        family=sum(result.group is None and not result.primary for result in comparison.results),
        parts=_parts(comparison),
        paired=_paired(comparison),
        named={entry.name: _named(comparison, entry.name) for entry in comparison.entries[1:]},
        distributions=_distributions(comparison),
        forests=_structure_forests(comparison),
        group_forests=_group_forests(comparison),
        curves=_curves(comparison),
        cost_rows=_cost_rows(comparison.costs),
        errors={
            name: "#{:02x}{:02x}{:02x}".format(*colour)
            for name, colour in (("baseline", ONLY_BASELINE_WRONG), ("model", ONLY_MODEL_WRONG), ("both", BOTH_WRONG))
        },
        definitions=DEFINITIONS,
        resamples=RESAMPLES,
    )


def _title(structure: str) -> str:
    return MEAN_TITLE if structure == MEAN else structure


def _metric_title(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def _cells(comparison: Comparison) -> dict[tuple[str, str, str], Cell]:
    """The pooled differences by model, structure and metric; coloured where the interval leaves out 0."""
    cells = {}
    for result in comparison.results:
        if result.group is not None:
            continue
        metric, paired = metric_of(result.metric), result.paired
        mark = ""
        if paired.ci is not None and paired.difference is not None and not paired.ci[0] <= 0 <= paired.ci[1]:
            mark = "win" if (paired.difference > 0) == metric.higher_is_better else "loss"
        cells[result.model, result.structure, result.metric] = Cell(
            number(paired.difference, metric.digits, sign=True),
            interval(paired.ci, metric.digits),
            p_value(result.p_holm),
            mark,
        )
    return cells


def _scores(comparison: Comparison, entry: str, structure: str, metric: str) -> dict[str, float]:
    values = scores_of(comparison.measured, entry, structure, metric, comparison.cases)
    return dict(zip(comparison.cases, values, strict=True))


def _parts(comparison: Comparison) -> list[tuple[str, str]]:
    """The contents of the page: anchor and title of each part that it has."""
    has_curves = any(each.curves for trainings in comparison.trainings.values() for each in trainings)
    parts = {
        "conclusions": ("What can be concluded", True),
        "scores": ("Scores", True),
        "structures": ("Structure by structure", True),
        "groups": ("Folds and subgroups", bool(comparison.groupings)),
        "subjects": ("Subjects: pictures", True),
        "training": ("Training", has_curves),
        "cost": ("Cost", any(entry.is_model for entry in comparison.entries)),
        "keepers": ("What the keepers were trained on", True),
        "methods": ("How it was computed", True),
    }
    return [(key, title) for key, (title, there) in parts.items() if there]


def _named(comparison: Comparison, model: str) -> list[tuple[str, float, float]]:
    """Every subject by name: its score with the baseline and with a model, for those who cannot point at a dot."""
    main, baseline = primary_structure(comparison.task), comparison.entries[0].name
    first, second = (_scores(comparison, name, main, PRIMARY_METRIC) for name in (baseline, model))
    return [(case, first[case], second[case]) for case in comparison.cases]


def _paired(comparison: Comparison) -> dict[str, Markup]:
    main, baseline = primary_structure(comparison.task), comparison.entries[0].name
    plots = {}
    for entry in comparison.entries[1:]:
        first, second = (_scores(comparison, name, main, PRIMARY_METRIC) for name in (baseline, entry.name))
        differences = {case: second[case] - first[case] for case in comparison.cases}
        paired = result_of(comparison.results, entry.name, main, PRIMARY_METRIC).paired
        plots[entry.name] = paired_plot(differences, paired, metric_of(PRIMARY_METRIC), model=entry.name)
    return plots


def _distributions(comparison: Comparison) -> list[tuple[str, Markup]]:
    main = primary_structure(comparison.task)
    return [
        (
            _metric_title(metric),
            distribution_plot(
                {entry.name: _scores(comparison, entry.name, main, metric.key) for entry in comparison.entries}, metric
            ),
        )
        for metric in METRICS
    ]


def _structure_forests(comparison: Comparison) -> list[tuple[str, list[Forest]]]:
    """By metric: a plot of every structure for every model."""
    names, main = structure_names(comparison.task), primary_structure(comparison.task)
    baseline = comparison.entries[0].name
    found = []
    for metric in METRICS:
        plots = []
        for entry in comparison.entries[1:]:
            rows = [
                ForestRow(
                    _title(name), result_of(comparison.results, entry.name, name, metric.key).paired, name == main
                )
                for name in names
            ]
            plot = forest_plot(rows, metric, baseline=baseline, model=entry.name)
            plots.append(Forest(_metric_title(metric), entry.name, plot))
        found.append((_metric_title(metric), plots))
    return found


def _group_forests(comparison: Comparison) -> list[tuple[str, list[Forest]]]:
    """By grouping: a plot of every group for every model, of the main structure's Dice."""
    main, metric = primary_structure(comparison.task), metric_of(PRIMARY_METRIC)
    baseline = comparison.entries[0].name
    found = []
    for grouping in comparison.groupings:
        plots = []
        for entry in comparison.entries[1:]:
            rows = [
                ForestRow("all subjects", result_of(comparison.results, entry.name, main, metric.key).paired, main=True)
            ]
            for name, cases in grouping.groups.items():
                group = (grouping.column, name)
                paired = result_of(comparison.results, entry.name, main, metric.key, group).paired
                label = f"{grouping.column} {name}" if grouping.column == "fold" else name
                rows.append(ForestRow(f"{label} (n = {len(cases)})", paired))
            plots.append(
                Forest(grouping.column, entry.name, forest_plot(rows, metric, baseline=baseline, model=entry.name))
            )
        found.append((grouping.column, plots))
    return found


def _curves(comparison: Comparison) -> list[Markup]:
    """A plot for every curve that any training recorded."""
    plots = []
    for key, title in CURVES.items():
        curves = {
            name: [list(each.curves.get(key, ())) for each in trainings]
            for name, trainings in comparison.trainings.items()
        }
        if any(values for folds in curves.values() for values in folds):
            plots.append(curve_plot(curves, title))
    return plots


def _cost_rows(costs: Sequence[Cost]) -> list[tuple[str, list[str]]]:
    """(what, value by entry); memory is in the list because readers look for it, and nnU-Net does not record it."""

    def shown(value: float | int | str | None, digits: int | None = None, scale: float = 1.0) -> str:
        if value is None:
            return NOT_RECORDED
        return str(value) if digits is None or isinstance(value, str) else number(value * scale, digits)

    return [
        ("trainer", [shown(cost.trainer) for cost in costs]),
        ("configuration", [shown(cost.configuration) for cost in costs]),
        ("folds compared", [shown(cost.folds) for cost in costs]),
        ("epochs", [shown(cost.epochs) for cost in costs]),
        ("seconds an epoch (median)", [shown(cost.epoch_seconds, 1) for cost in costs]),
        ("hours of training, all these folds", [shown(cost.training_hours, 2) for cost in costs]),
        ("parameters, millions", [shown(cost.parameters, 2, 1e-6) for cost in costs]),
        ("of these in a keeper, millions", [shown(cost.keeper_parameters, 2, 1e-6) for cost in costs]),
        ("loudness of the guidance, |added| / |skip|, finest stage first", [shown(cost.loudness) for cost in costs]),
        ("patch", [shown(cost.patch_size) for cost in costs]),
        ("batch", [shown(cost.batch_size) for cost in costs]),
        ("device", [shown(cost.device) for cost in costs]),
        ("peak memory", [NOT_RECORDED for _ in costs]),
    ]
