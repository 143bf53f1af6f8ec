"""Everything that a report tells of measured models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_uhf.evaluation.measuring import Measured
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.report.analysis import (
    PRIMARY_METRIC,
    Result,
    Summary,
    analyse,
    missed,
    primary_structure,
    result_of,
    summarise_scores,
)
from nnunet_uhf.report.entries import Entry
from nnunet_uhf.report.pictures import SubjectPictures
from nnunet_uhf.report.provenance import KeeperFacts, keeper_facts, overlap_warning
from nnunet_uhf.report.repeats import Repeats, check_pairs, mean_of_trainings, repeats_of
from nnunet_uhf.report.subgroups import Grouping
from nnunet_uhf.report.trainings import Cost, Training, cost_of, read_trainings, seed_of
from nnunet_uhf.report.verdict import Verdict, verdict


@dataclass(frozen=True)
class Comparison:
    """Everything that a report tells.

    Attributes:
        entries: what is compared, the baseline first.
        task: the structures.
        cases: the compared subjects.
        references: how many true label maps there are, compared or not.
        left_out: subjects that some entries lack, with the entries that lack them.
        odd: subjects that could not be measured, and why.
        tolerance_mm: of NSD.
        measured: every score, the mean over the trainings of an entry.
        summaries: means by entry.
        results: every entry against the baseline.
        groupings: folds, where there are several, and the columns of the table of subgroups.
        repeats: by entry but the baseline, where one of both was trained several times.
        verdicts: by entry but the baseline.
        warnings: what a reader has to know first.
        missed: by entry, how often a structure is in one of truth and prediction alone, over all of its trainings.
        trainings: by entry, of its first training.
        costs: of every entry, likewise.
        keepers: of the guided entries.
        pictures: by entry but the baseline.
    """

    entries: tuple[Entry, ...]
    task: Labels
    cases: tuple[str, ...]
    references: int
    left_out: Mapping[str, tuple[str, ...]]
    odd: Mapping[str, str]
    tolerance_mm: float
    measured: Measured
    summaries: tuple[Summary, ...]
    results: tuple[Result, ...]
    groupings: tuple[Grouping, ...]
    repeats: Mapping[str, Repeats]
    verdicts: Mapping[str, Verdict]
    warnings: tuple[str, ...]
    missed: Mapping[str, int]
    trainings: Mapping[str, Sequence[Training]]
    costs: tuple[Cost, ...]
    keepers: tuple[KeeperFacts, ...]
    pictures: Mapping[str, Sequence[SubjectPictures]] = field(default_factory=dict)


def compare_measured(
    entries: Sequence[Entry],
    task: Labels,
    cases: Sequence[str],
    measured: Measured,
    *,
    groupings: tuple[Grouping, ...],
    left_out: Mapping[str, tuple[str, ...]],
    odd: Mapping[str, str],
    references: int,
    unknown: Mapping[str, Mapping[str, Sequence[int]]],
    tolerance_mm: float,
    seed: int,
    paired: bool = False,
) -> Comparison:
    """Everything but the pictures; see :class:`Comparison`.

    `measured` has every training by its name; `unknown` label values that are no structure, by case and training.
    """
    names = [entry.name for entry in entries]
    singly, measured = measured, mean_of_trainings(measured, entries)
    groups = {(each.column, name): members for each in groupings for name, members in each.groups.items()}
    results = analyse(measured, task, names, groups, seed=seed)
    facts = {
        entry.name: [known for each in entry.trainings for known in keeper_facts(each, cases)] for entry in entries
    }
    trainings = {entry.name: read_trainings(entry) for entry in entries}
    seeds = None
    if paired:
        known = {each.name: seed_of(each) for entry in entries for each in entry.trainings}
        check_pairs(entries, known)
        seeds = [known[each.name] for each in entries[0].trainings]
    structure, verdicts, repeats = primary_structure(task), {}, {}
    for entry in entries[1:]:
        both = (entries[0], entry)
        seen = [case for each in both for known in facts[each.name] for case in known.overlap]
        main = result_of(results, entry.name, structure, PRIMARY_METRIC)
        repeated = repeats_of(singly, *both, structure=structure, metric=PRIMARY_METRIC, seed=seed, seeds=seeds)
        verdicts[entry.name] = verdict(
            main, *both, models=len(entries) - 1, compared=len(cases), overlap=seen, repeats=repeated
        )
        if repeated is not None:
            repeats[entry.name] = repeated
    keepers = [known for each in facts.values() for known in each]
    return Comparison(
        entries=tuple(entries),
        task=task,
        cases=tuple(cases),
        references=references,
        left_out=left_out,
        odd=odd,
        tolerance_mm=tolerance_mm,
        measured=measured,
        summaries=tuple(summarise_scores(measured, task, names)),
        results=tuple(results),
        groupings=groupings,
        repeats=repeats,
        verdicts=verdicts,
        warnings=(
            *_warnings(entries, cases, left_out, keepers, groupings, trainings),
            *(f"{case} is left out, it could not be measured: {reason}." for case, reason in odd.items()),
            *_unknown_labels(unknown),
        ),
        missed={entry.name: missed(singly, task, [each.name for each in entry.trainings]) for entry in entries},
        trainings=trainings,
        costs=tuple(cost_of(entry, trainings[entry.name]) for entry in entries),
        keepers=tuple(keepers),
    )


def _warnings(
    entries: Sequence[Entry],
    cases: Sequence[str],
    left_out: Mapping[str, tuple[str, ...]],
    keepers: Sequence[KeeperFacts],
    groupings: Sequence[Grouping],
    trainings: Mapping[str, Sequence[Training]],
) -> list[str]:
    found = [text for facts in keepers if (text := overlap_warning(facts, len(cases))) is not None]
    found += [text for entry in entries for each in entry.trainings for text in each.warnings]
    if left_out:
        listed = "; ".join(f"{case} (not in {', '.join(lacking)})" for case, lacking in left_out.items())
        count = f"{len(left_out)} subject{'s are' if len(left_out) > 1 else ' is'}"
        found.append(f"{count} left out for not being everywhere: {listed}.")
    folds = entries[0].folds
    for entry in [each for arm in entries for each in arm.trainings][1:]:
        moved = [case for case in cases if case in folds and entry.folds.get(case, folds[case]) != folds[case]]
        if moved:
            found.append(
                f"{entry.name} was trained on other folds than {entries[0].name}: {len(moved)} subjects, such as "
                f"{moved[0]}, are in another fold. Folds below are those of {entries[0].name}."
            )
    for grouping in groupings:
        if grouping.unknown:
            listed = ", ".join(grouping.unknown)
            count = f"{len(grouping.unknown)} subject{'s' * (len(grouping.unknown) > 1)}"
            found.append(f"{grouping.column} of {count} is not in the table: {listed}.")
    for name, folds_of in trainings.items():
        found += [f"{name}, fold {each.fold}: {each.problem}." for each in folds_of if each.problem is not None]
    return found


def _unknown_labels(unknown: Mapping[str, Mapping[str, Sequence[int]]]) -> list[str]:
    """A sentence for everybody whose label maps hold values that are no structure of the task."""
    values: dict[str, set[int]] = {}
    cases: dict[str, list[str]] = {}
    for case, by_name in unknown.items():
        for name, found in by_name.items():
            values.setdefault(name, set()).update(found)
            cases.setdefault(name, []).append(case)
    return [
        f"Label maps of {name} hold values that are no structure of the task, in {len(cases[name])} of {len(unknown)} "
        f"subjects, such as {cases[name][0]}: {', '.join(map(str, sorted(found)[:10]))}"
        f"{', ...' if len(found) > 10 else ''}. They count as background: are these labels of the same task?"
        for name, found in values.items()
    ]
