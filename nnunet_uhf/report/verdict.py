"""What can and what cannot be concluded from a comparison, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nnunet_uhf.evaluation.label_scores import MEAN
from nnunet_uhf.evaluation.statistics import smallest_p
from nnunet_uhf.report.analysis import Result, metric_of
from nnunet_uhf.report.entries import Entry
from nnunet_uhf.report.formatting import interval, number, p_value
from nnunet_uhf.report.repeats import PairedTrainings, Repeats

ALPHA = 0.05
FEW = 10  # subjects below which bootstrap intervals are known to be too narrow

VerdictKind = Literal["better", "worse", "unclear", "equal", "spoiled"]


@dataclass(frozen=True)
class Verdict:
    """A headline, what it rests on, and what it leaves open."""

    kind: VerdictKind
    headline: str
    sentences: tuple[str, ...]


def verdict(
    result: Result,
    baseline: Entry,
    model: Entry,
    *,
    models: int,
    compared: int,
    overlap: Sequence[str],
    repeats: Repeats | None = None,
) -> Verdict:
    """Judge the main result of one model against the baseline.

    A difference is called one only where the confidence interval leaves out 0 and Wilcoxon's corrected p is below 0.05;
    with repeated trainings only where the interval that draws them anew leaves out 0, too.

    Args:
        result: the pooled result of the main structure and metric.
        baseline: the first entry.
        model: the other entry.
        models: how many models are compared with the baseline, over which p is corrected.
        compared: how many subjects are.
        overlap: compared cases that a keeper of either was trained on.
        repeats: the same training by training, where one of both was trained several times.
    """
    metric, paired = metric_of(result.metric), result.paired
    what = (
        f"{metric.title} (mean over structures)"
        if result.structure == MEAN
        else f"{metric.title} of {result.structure}"
    )
    sentences = []
    kind: VerdictKind = "unclear"
    if paired.difference is None or paired.baseline_mean is None or paired.model_mean is None:
        return Verdict(kind, f"No subject has the {what} in both models.", ("Nothing can be concluded.",))
    subjects = f"{paired.n} subject{'s' * (paired.n != 1)}"
    if paired.ties == paired.n:
        kind, headline = "equal", f"{model.name} and {baseline.name} have exactly the same {what} on {subjects}."
    else:
        values = f"{number(paired.baseline_mean, metric.digits)} → {number(paired.model_mean, metric.digits)}"
        change = f"{number(paired.difference, metric.digits, sign=True)} {interval(paired.ci, metric.digits)}".strip()
        headline = f"{model.name} against {baseline.name}: {what} {values}, {change} on {subjects}."
        kind, sentence = _judge(result, baseline.name, models, repeated=repeats is not None)
        sentences.append(sentence)
    if paired.n < compared:
        sentences.append(
            f"{compared - paired.n} of {compared} subjects are not in it: a model has no score where neither the truth "
            "nor its prediction holds the structure. What the other one has there does not count."
        )
    if 1 < paired.n < FEW:
        differing = paired.n - paired.ties
        floor = smallest_p(differing)
        unable = f"; no signed-rank test of {differing} can give a p below {floor:g}" if floor > ALPHA else ""
        sentences.append(f"{paired.n} subjects are few: the interval is narrower than it ought to be{unable}.")
    if repeats is None:
        sentences.append(_training_noise(baseline, model))
    else:
        sentences.append(_trained_again(repeats, baseline.name, model.name, metric.digits))
        low, high = _decisive(repeats)
        if kind in ("better", "worse") and low <= 0 <= high:
            kind = "unclear"
            sentences.append("That interval contains 0: other trainings may end the other way.")
    if overlap:
        kind = "spoiled"
        sentences.insert(0, "Subjects of this comparison were in the training of a keeper: nothing can be concluded.")
    return Verdict(kind, headline, tuple(sentences))


def _judge(result: Result, baseline: str, models: int, *, repeated: bool) -> tuple[VerdictKind, str]:
    paired = result.paired
    test = f"Wilcoxon's p is {p_value(paired.p)}"
    if models > 1:
        test += f", {p_value(result.p_holm)} after Holm's correction over {models} models"
    better = (paired.difference or 0) > 0 if metric_of(result.metric).higher_is_better else (paired.difference or 0) < 0
    if paired.ci is None:
        return "unclear", "One subject says nothing about others."
    if paired.ci[0] <= 0 <= paired.ci[1]:
        return "unclear", (
            f"The 95 % interval contains 0 ({test}): these subjects do not show that the models differ, nor that they "
            "are equal; any difference inside the interval is compatible with them."
        )
    if result.p_holm is None or result.p_holm >= ALPHA:
        return "unclear", (
            f"The 95 % interval leaves out 0, but the signed-rank test does not confirm it ({test}): treat the "
            "difference as not shown."
        )
    kind: VerdictKind = "better" if better else "worse"
    return kind, (
        f"The 95 % interval leaves out 0 and {test}: on subjects like these {result.model} is {kind} than {baseline}, "
        f"as far as {'the mean of these trainings goes' if repeated else 'these very trainings go'}."
    )


def _trained_again(repeats: Repeats, baseline: str, model: str, digits: int) -> str:
    trained = []
    for name, values in ((baseline, repeats.baseline), (model, repeats.model)):
        times = f"{len(values)} time{'s' * (len(values) > 1)}"
        trained.append(f"{name} was trained {times} ({', '.join(number(value, digits) for value in values)})")
    if repeats.pairs is not None:
        return f"{', '.join(trained)}, in pairs of one seed. {_in_pairs(repeats.pairs, digits)}"
    few = "few trainings make it narrower than it ought to be"
    return (
        f"{', '.join(trained)}. Drawing trainings as well as subjects anew, the 95 % interval of the difference is "
        f"{interval(repeats.ci, digits)}; {few}."
    )


def _in_pairs(pairs: PairedTrainings, digits: int) -> str:
    """``The differences are +1.1, +0.7: mean +0.9, 95 % interval over seeds [.., ..].``"""
    each = ", ".join(number(value, digits, sign=True) for value in pairs.differences)
    said = f"The differences of the pairs are {each}: mean {number(pairs.mean, digits, sign=True)}"
    if pairs.ci is None:
        return f"{said}; one pair says nothing about other seeds."
    return f"{said}, 95 % interval over seeds {interval(pairs.ci, digits)}, on these subjects."


def _decisive(repeats: Repeats) -> tuple[float, float]:
    """The interval over trainings that has to leave out 0: that of the pairs, where there are."""
    if repeats.pairs is None:
        return repeats.ci
    return repeats.pairs.ci or (-math.inf, math.inf)


def _training_noise(baseline: Entry, model: Entry) -> str:
    if not (baseline.is_model and model.is_model):
        behind = "How many trainings stand behind predictions is not recorded"
    else:
        counts = [len(entry.fold_folders) for entry in (baseline, model)]
        behind = (
            "Each model was trained once"
            if counts == [1, 1]
            else f"The models were trained {counts[0]} and {counts[1]} times, once a fold, each time on other subjects"
        )
    return (
        f"{behind}. Training the same network again changes such numbers, too; by how much is not known here, and "
        "nothing in this report corrects for it."
    )
