"""Everything that a report tells of measured models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_uhf.report.analysis import (
    PRIMARY_METRIC,
    Result,
    Summary,
    analyse,
    find,
    missed,
    primary_structure,
    summarise,
)
from nnunet_uhf.report.entries import Entry
from nnunet_uhf.report.measuring import Measured
from nnunet_uhf.report.pictures import SubjectPictures
from nnunet_uhf.report.provenance import KeeperFacts, keeper_facts, overlap_warning
from nnunet_uhf.report.structures import Task
from nnunet_uhf.report.subgroups import Grouping
from nnunet_uhf.report.trainings import Cost, Training, cost_of, read_trainings
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
        tolerance_mm: of NSD.
        measured: every score.
        summaries: means by entry.
        results: every entry against the baseline.
        groupings: folds, where there are several, and the columns of the table of subgroups.
        verdicts: by entry but the baseline.
        warnings: what a reader has to know first.
        missed: by entry, how often a structure is in one of truth and prediction alone.
        trainings: by entry.
        costs: of every entry.
        keepers: of the guided entries.
        pictures: by entry but the baseline.
    """

    entries: tuple[Entry, ...]
    task: Task
    cases: tuple[str, ...]
    references: int
    left_out: Mapping[str, tuple[str, ...]]
    tolerance_mm: float
    measured: Measured
    summaries: tuple[Summary, ...]
    results: tuple[Result, ...]
    groupings: tuple[Grouping, ...]
    verdicts: Mapping[str, Verdict]
    warnings: tuple[str, ...]
    missed: Mapping[str, int]
    trainings: Mapping[str, Sequence[Training]]
    costs: tuple[Cost, ...]
    keepers: tuple[KeeperFacts, ...]
    pictures: Mapping[str, Sequence[SubjectPictures]] = field(default_factory=dict)


def compare_measured(
    entries: Sequence[Entry],
    task: Task,
    cases: Sequence[str],
    measured: Measured,
    *,
    groupings: tuple[Grouping, ...],
    left_out: Mapping[str, tuple[str, ...]],
    references: int,
    tolerance_mm: float,
    seed: int,
) -> Comparison:
    """Everything but the pictures; see :class:`Comparison`."""
    names = [entry.name for entry in entries]
    groups = {(each.column, name): members for each in groupings for name, members in each.groups.items()}
    results = analyse(measured, task, names, groups, seed=seed)
    facts = {entry.name: keeper_facts(entry, cases) for entry in entries}
    trainings = {entry.name: read_trainings(entry) for entry in entries}
    verdicts = {}
    for entry in entries[1:]:
        seen = [case for each in (entries[0], entry) if (known := facts[each.name]) for case in known.overlap]
        main = find(results, entry.name, primary_structure(task), PRIMARY_METRIC)
        verdicts[entry.name] = verdict(main, entries[0], entry, models=len(entries) - 1, overlap=seen)
    keepers = [each for each in facts.values() if each is not None]
    return Comparison(
        entries=tuple(entries),
        task=task,
        cases=tuple(cases),
        references=references,
        left_out=left_out,
        tolerance_mm=tolerance_mm,
        measured=measured,
        summaries=tuple(summarise(measured, task, names)),
        results=tuple(results),
        groupings=groupings,
        verdicts=verdicts,
        warnings=tuple(_warnings(entries, cases, left_out, keepers, groupings, trainings)),
        missed=missed(measured, task, names),
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
    found += [text for entry in entries for text in entry.warnings]
    if left_out:
        listed = "; ".join(f"{case} (not in {', '.join(lacking)})" for case, lacking in left_out.items())
        found.append(f"{len(left_out)} subjects are left out because they are not everywhere: {listed}.")
    folds = entries[0].folds
    for entry in entries[1:]:
        moved = [case for case in cases if case in folds and entry.folds.get(case, folds[case]) != folds[case]]
        if moved:
            found.append(
                f"{entry.name} was trained on other folds than {entries[0].name}: {len(moved)} subjects, such as "
                f"{moved[0]}, are in another fold. Folds below are those of {entries[0].name}."
            )
    for grouping in groupings:
        if grouping.unknown:
            listed = ", ".join(grouping.unknown)
            found.append(f"{grouping.column} of {len(grouping.unknown)} subjects is not in the table: {listed}.")
    for name, folds_of in trainings.items():
        found += [f"{name}, fold {each.fold}: {each.problem}." for each in folds_of if each.problem is not None]
    return found
