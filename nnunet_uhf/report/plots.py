"""The plots of the report: paired differences, forest, distribution and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nnunet_uhf.evaluation.label_scores import Metric
from nnunet_uhf.evaluation.statistics import PairedResult
from nnunet_uhf.report.formatting import interval, number, p_value, tick_label
from nnunet_uhf.report.svg import Drawing, Scale

WIDTH = 860.0
COLOURS = 8  # entry colours of the style sheet; more entries begin again


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot: what it is of, its numbers, and whether it is the main one."""

    label: str
    paired: PairedResult
    main: bool = False


def paired_plot(differences: Mapping[str, float], paired: PairedResult, metric: Metric, *, model: str) -> Markup:
    """The difference of every subject, sorted, with mean and confidence interval; NaN is left out."""
    ranked = sorted((case for case, d in differences.items() if not math.isnan(d)), key=lambda case: differences[case])
    ranked = ranked if metric.higher_is_better else ranked[::-1]
    height, left, right, top, bottom = 270.0, 70.0, WIDTH - 20, 18.0, 232.0
    drawing = Drawing(WIDTH, height, f"{metric.title}: difference of every subject, {model} minus baseline")
    y = Scale.of([differences[case] for case in ranked], bottom, top, include=(0.0, *(paired.ci or ())))
    _y_axis(drawing, y, left, right)
    if paired.ci is not None:
        upper, lower = y(paired.ci[1]), y(paired.ci[0])
        drawing.box(left, upper, right - left, max(lower - upper, 1.0), "band")
    if paired.difference is not None:
        drawing.line(left, y(paired.difference), right, y(paired.difference), "mean")
    drawing.line(left, y(0), right, y(0), "zero")
    step = (right - left) / max(len(ranked), 1)
    radius = min(5.5, max(2.0, step / 3))
    for index, case in enumerate(ranked):
        value = differences[case]
        gain = value if metric.higher_is_better else -value
        style = "win" if gain > 0 else "loss" if gain < 0 else "tie"
        x = left + (index + 0.5) * step
        drawing.line(x, y(0), x, y(value), f"stem {style}")
        drawing.dot(
            x, y(value), radius, style, f"{case}: {number(value, metric.digits, sign=True)} {metric.unit}".strip()
        )
    drawing.text(
        (left + right) / 2,
        height - 12,
        f"subjects, from the largest loss to the largest gain of {_short(model)}",
        "quiet",
        "middle",
    )
    return drawing.svg()


def forest_plot(rows: Sequence[ForestRow], metric: Metric, *, baseline: str, model: str) -> Markup:
    """Mean difference and confidence interval of every row, with numbers beside them."""
    line, head, foot = 25.0, 34.0, 46.0
    left, right = 236.0, 540.0
    height = head + line * len(rows) + foot
    drawing = Drawing(WIDTH, height, f"{metric.title}: mean differences with confidence intervals")
    bounds = [b for row in rows for b in (*(row.paired.ci or ()), *_some(row.paired.difference))]
    x = Scale.of(bounds, left, right, include=(0.0,))
    bottom = height - foot
    for tick in x.ticks(6):
        drawing.line(x(tick), head - 8, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 14, tick_label(tick), "quiet", "middle")
    drawing.line(x(0), head - 8, x(0), bottom, "zero")
    for place, words, anchor in (
        (right + 16, "difference [95 % CI]", "start"),
        (WIDTH - 4, "better / worse / equal", "end"),
    ):
        drawing.text(place, head - 14, words, "quiet", anchor)
    for index, row in enumerate(rows):
        y = head + line * (index + 0.5)
        weight = "strong" if row.main else ""
        drawing.text(left - 14, y + 4, _short(row.label), weight, "end")
        paired = row.paired
        if paired.difference is None:
            drawing.text(right + 16, y + 4, "undefined", "quiet")
            continue
        if paired.ci is not None:
            drawing.line(x(paired.ci[0]), y, x(paired.ci[1]), y, "interval main" if row.main else "interval")
        title = f"{row.label}: n = {paired.n}, p = {p_value(paired.p)}"
        drawing.dot(x(paired.difference), y, 6 if row.main else 4.5, "point main" if row.main else "point", title)
        numbers = f"{number(paired.difference, metric.digits, sign=True)} {interval(paired.ci, metric.digits)}"
        drawing.text(right + 16, y + 4, numbers, f"digits {weight}")
        drawing.text(WIDTH - 4, y + 4, f"{paired.wins} / {paired.losses} / {paired.ties}", "digits quiet", "end")
    worse, better = (baseline, model) if metric.higher_is_better else (model, baseline)
    drawing.text(x(0) - 8, height - 10, f"← {_short(worse)} better", "quiet", "end")
    drawing.text(x(0) + 8, height - 10, f"{_short(better)} better →", "quiet", "start")
    return drawing.svg()


def distribution_plot(values: Mapping[str, Mapping[str, float]], metric: Metric) -> Markup:
    """Every subject's score in every entry, lines joining those of a subject, with quartiles and median beside them.

    Args:
        values: score by entry and case; NaN is left out.
        metric: what the scores are of.
    """
    row, head, foot, left, right = 62.0, 8.0, 40.0, 236.0, WIDTH - 20
    height = head + row * len(values) + foot
    unit = f" ({metric.unit})" if metric.unit else ""
    drawing = Drawing(WIDTH, height, f"{metric.title}{unit} of every subject, by model")
    x = Scale.of([v for scores in values.values() for v in scores.values()], left, right)
    bottom = height - foot
    for tick in x.ticks(8):
        drawing.line(x(tick), head, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 15, tick_label(tick), "quiet", "middle")
    drawing.text((left + right) / 2, height - 6, f"{metric.title}{unit}", "quiet", "middle")
    middle = {name: head + row * (index + 0.5) for index, name in enumerate(values)}
    for case in dict.fromkeys(case for scores in values.values() for case in scores):
        points = [
            (x(scores[case]), middle[name])
            for name, scores in values.items()
            if case in scores and not math.isnan(scores[case])
        ]
        drawing.path(points, "join")
    for index, (name, scores) in enumerate(values.items()):
        y, colour = middle[name], f"c{index % COLOURS}"
        drawing.text(left - 14, y + 4, _short(name), "strong" if index == 0 else "", "end")
        known = {case: value for case, value in scores.items() if not math.isnan(value)}
        if known:
            low, median, high = (x(float(q)) for q in np.percentile(list(known.values()), [25, 50, 75]))
            drawing.box(low, y - 13, max(high - low, 1.0), 26, f"quartiles {colour}")
            drawing.line(median, y - 13, median, y + 13, f"median {colour}")
        for case, value in known.items():
            drawing.dot(x(value), y, 4, f"score {colour}", f"{name}, {case}: {number(value, metric.digits)}")
    return drawing.svg()


def curve_plot(curves: Mapping[str, Sequence[Sequence[float]]], title: str) -> Markup:
    """One curve a fold, by entry, over epochs counted from 1; a training of one epoch is a dot."""
    width, height, left, right, top, bottom = 420.0, 250.0, 52.0, 408.0, 26.0, 212.0
    drawing = Drawing(width, height, f"{title} by epoch")
    every = [value for folds in curves.values() for fold in folds for value in fold]
    longest = max((len(fold) for folds in curves.values() for fold in folds), default=1)
    y = Scale.of(every, bottom, top)
    x = Scale(1 - 0.02 * longest, longest + 0.02 * longest, left, right)
    _y_axis(drawing, y, left, right)
    for tick in x.ticks(5):
        if tick >= 1 and tick == int(tick):
            drawing.text(x(tick), bottom + 15, tick_label(tick), "quiet", "middle")
    drawing.text(left, 15, title, "strong")
    drawing.text((left + right) / 2, height - 4, "epoch", "quiet", "middle")
    for index, (name, folds) in enumerate(curves.items()):
        colour = f"c{index % COLOURS}"
        for fold in folds:
            finite = [(x(epoch), y(value)) for epoch, value in enumerate(fold, 1) if math.isfinite(value)]
            if len(finite) == 1:
                drawing.dot(*finite[0], 4, f"score {colour}", f"{name}: {fold[0]:.4g}")
            else:
                drawing.path(finite, f"curve {colour}")
    return drawing.svg()


def _y_axis(drawing: Drawing, y: Scale, left: float, right: float) -> None:
    for tick in y.ticks(5):
        drawing.line(left, y(tick), right, y(tick), "grid")
        drawing.text(left - 8, y(tick) + 4, tick_label(tick), "quiet", "end")


def _some(value: float | None) -> tuple[float, ...]:
    return () if value is None else (value,)


def _short(label: str, length: int = 26) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
