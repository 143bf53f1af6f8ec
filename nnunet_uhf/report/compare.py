"""`nnunet-uhf compare`: finished models or predictions in; compare.csv, compare.json and index.html out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nibabel.affines import voxel_sizes
from rich.console import Console
from rich.progress import track

from nnunet_uhf.errors import Odd, UHFError
from nnunet_uhf.evaluation.measuring import Case, measure_cases
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.imageio.volumes import read_any_grid
from nnunet_uhf.report.analysis import PRIMARY_METRIC, primary_structure, scores_of
from nnunet_uhf.report.comparison import Comparison, compare_measured
from nnunet_uhf.report.entries import Entry, baseline_first, name_entries, read_model, read_predictions
from nnunet_uhf.report.page import render
from nnunet_uhf.report.pictures import BASELINE, MODEL, TRUTH, SubjectPictures, draw_subject
from nnunet_uhf.report.records import CSV_NAME, JSON_NAME, record_of, write_csv, write_json
from nnunet_uhf.report.repeats import with_repeats
from nnunet_uhf.report.slices import subjects_to_show
from nnunet_uhf.report.subgroups import Grouping, read_subgroups
from nnunet_uhf.report.truth import ImageFinder, find_references, find_task

PAGE_NAME = "index.html"
FOLD = "fold"
SHORTEST_TOLERANCE_MM = 1.0


def compare(
    models: Sequence[str | Path],
    predictions: Sequence[str | Path],
    output: str | Path,
    *,
    reference: str | Path | None = None,
    dataset_json: str | Path | None = None,
    images: str | Path | None = None,
    names: Sequence[str] | None = None,
    baseline: str | None = None,
    tolerance_mm: float | None = None,
    subgroups: Path | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    again: Sequence[tuple[str, Path]] = (),
    paired: bool = False,
    seed: int = 0,
    num_processes: int = 1,
    console: Console | None = None,
    odd: Odd | None = None,
) -> dict[str, Any]:
    """Compare models on the subjects that all of them segmented, each against the first.

    Args:
        models: finished nnU-Net model folders.
        predictions: folders of predicted label maps; they come after the models.
        output: new or empty folder; it appears complete or not at all.
        reference: folder of true label maps; without it that of the first model's dataset.
        dataset_json: file that names the labels; without it, that of the folders compared, else the one beside the
            folder of the true label maps.
        images: folder of what was segmented, for the pictures; without it where nnU-Net has them.
        names: one an entry, models first; without them, what tells the folders' names apart.
        baseline: name or folder of the entry that the others are held against; without it, the first.
        tolerance_mm: of NSD, above 0; without it the longest voxel edge of the true label maps, 1 mm at least.
        subgroups: CSV table with a column `case`.
        bins: bounds of numeric columns of the table.
        again: further trainings, each the name of an entry and a folder: scores are means over an entry's trainings.
        paired: the trainings of all entries share their seeds, in this order.
        seed: of the bootstrap, >= 0.
        num_processes: cases measured at the same time.
        console: shows progress and warnings when given.
        odd: keeps the subjects that cannot be measured, while others can; without it the first of them is an error.

    Returns:
        The content of compare.json.

    Raises:
        UHFError: what cannot be compared, with the file and the remedy.

    Examples:
        Two folders of predictions held against the true label maps; finished models are given by their folders:

        >>> from pathlib import Path
        >>> import nibabel
        >>> import numpy as np
        >>> from nnunet_uhf import compare
        >>> rng = np.random.default_rng(0)
        >>> for folder, errors in (("truth", 0.0), ("plain", 0.2), ("guided", 0.1)):
        ...     Path(folder).mkdir()
        ...     for case in range(6):
        ...         labels = np.zeros((12, 12, 12), dtype=np.uint8)
        ...         labels[3:9, 3:9, 3:9] = 1
        ...         labels[rng.random(labels.shape) < errors] = 0
        ...         nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), f"{folder}/case_{case}.nii.gz")
        >>> record = compare([], ["plain", "guided"], "comparison", reference="truth")
        >>> record["cases"][:2], Path("comparison/index.html").exists()
        (['case_0', 'case_1'], True)
        >>> paired = record["results"][0]["paired"]
        >>> record["results"][0]["metric"], paired["difference"] > 0
        ('dice', True)
    """
    if tolerance_mm is not None and not 0 < tolerance_mm < float("inf"):
        raise UHFError(f"--metric-tolerance {tolerance_mm:g}: give a distance in mm above 0")
    if seed < 0:
        raise UHFError(f"--seed {seed}: use a whole number >= 0")
    read = [*(read_model(Path(one)) for one in models), *(read_predictions(Path(one)) for one in predictions)]
    if len(read) < 2:
        raise UHFError("There is nothing to compare with: name two or more folders (-m MODEL or -pred PREDICTIONS)")
    entries = with_repeats(baseline_first(name_entries(read, names), baseline), again)
    folder, references = find_references(entries, None if reference is None else Path(reference))
    cases, left_out = _common_cases(entries, references, folder)
    find_image = ImageFinder(entries, folder, None if images is None else Path(images))
    with appearing_together(Path(output)) as (staged,):
        found_odd = Odd()
        named = None if dataset_json is None else Path(dataset_json)
        task = find_task(entries, folder, {case: references[case] for case in cases}, odd=found_odd, named=named)
        tolerance = tolerance_mm or _default_tolerance({case: references[case] for case in cases}, found_odd)
        trainings = [each for entry in entries for each in entry.trainings]
        jobs = [Case(case, references[case], {each.name: each.files[case] for each in trainings}) for case in cases]
        jobs = [job for job in jobs if job.name not in found_odd.reasons]
        found = measure_cases(
            jobs, task, tolerance_mm=tolerance, num_processes=num_processes, console=console, odd=found_odd
        )
        found_odd.require_others(len(cases) if odd is not None else 1)
        cases = [case for case in cases if case in found]
        groupings = _groupings(entries[0], cases, subgroups, bins)
        measured = {case: each.scores for case, each in found.items()}
        comparison = compare_measured(
            entries,
            task,
            cases,
            measured,
            groupings=groupings,
            left_out=left_out,
            odd={case: str(reason) for case, reason in sorted(found_odd.reasons.items())},
            references=len(references),
            unknown={case: each.unknown for case, each in found.items()},
            tolerance_mm=tolerance,
            paired=paired,
            seed=seed,
        )
        comparison = replace(comparison, pictures=_pictures(comparison, references, find_image, console))
        write_csv(staged / CSV_NAME, measured, task, entries, odd=comparison.odd)
        record = write_json(staged / JSON_NAME, record_of(comparison, folder, seed))
        (staged / PAGE_NAME).write_text(render(comparison), encoding="utf-8")
    if console is not None:
        for warning in comparison.warnings:
            console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if odd is not None:
        odd.reasons.update(found_odd.reasons)
    return record


def _common_cases(
    entries: Sequence[Entry], references: Mapping[str, Path], folder: Path
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The cases that every entry and the references have, and who lacks each of the others."""
    trainings = [each for entry in entries for each in entry.trainings]
    predicted = sorted(set().union(*(each.files for each in trainings)))
    left_out = {}
    for case in predicted:
        lacking = [each.name for each in trainings if case not in each.files]
        lacking += ["the true label maps"] if case not in references else []
        if lacking:
            left_out[case] = tuple(lacking)
    common = [case for case in predicted if case not in left_out]
    if not common:
        raise UHFError(
            f"No subject is in all of {', '.join(entry.name for entry in entries)} and {folder}: the files of a "
            "subject must have one name everywhere"
        )
    return common, left_out


def _groupings(
    baseline: Entry, cases: Sequence[str], table: Path | None, bins: Mapping[str, Sequence[float]] | None
) -> tuple[Grouping, ...]:
    """The folds of the baseline, where there are several, and the columns of the table."""
    if table is None and bins:
        raise UHFError("--bins cuts columns of a table: add --subgroups TABLE.csv")
    folds = sorted({baseline.folds[case] for case in cases if case in baseline.folds})
    groups = {fold: tuple(case for case in cases if baseline.folds.get(case) == fold) for fold in folds}
    found = [Grouping(FOLD, groups, ())] if len(folds) > 1 else []
    return (*found, *(read_subgroups(table, cases, bins) if table is not None else ()))


def _default_tolerance(references: Mapping[str, Path], odd: Odd) -> float:
    longest = [SHORTEST_TOLERANCE_MM]
    for case, path in references.items():
        with odd.kept(case):
            longest.append(round(float(voxel_sizes(read_any_grid(path).affine).max()), 3))
    return max(longest)


def _pictures(
    comparison: Comparison, references: Mapping[str, Path], find_image: ImageFinder, console: Console | None
) -> dict[str, list[SubjectPictures]]:
    baseline = comparison.entries[0]
    structure = primary_structure(comparison.task)
    jobs = []
    for entry in comparison.entries[1:]:
        first, second = (
            scores_of(comparison.measured, each.name, structure, PRIMARY_METRIC, comparison.cases)
            for each in (baseline, entry)
        )
        gains = {case: b - a for case, a, b in zip(comparison.cases, first, second, strict=True)}
        jobs += [(entry, role, case) for role, case in subjects_to_show(gains)]
    drawn: dict[str, list[SubjectPictures]] = {entry.name: [] for entry in comparison.entries[1:]}
    for entry, role, case in track(jobs, description="drawing", console=console, disable=console is None):
        files = {TRUTH: references[case], BASELINE: baseline.files[case], MODEL: entry.files[case]}
        names = baseline.name, entry.name
        drawn[entry.name].append(draw_subject(case, role, files, find_image(case), comparison.task, names=names))
    return drawn
