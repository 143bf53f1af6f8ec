"""compare.csv, one score a line, and compare.json with everything that was computed."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_uhf import __version__
from nnunet_uhf.evaluation.label_scores import MEAN, METRICS, VOLUMES
from nnunet_uhf.evaluation.measuring import Measured
from nnunet_uhf.evaluation.statistics import CONFIDENCE, RESAMPLES
from nnunet_uhf.nnunet.labels import Labels
from nnunet_uhf.report.analysis import structure_names
from nnunet_uhf.report.comparison import Comparison
from nnunet_uhf.report.entries import Entry

CSV_NAME, JSON_NAME = "compare.csv", "compare.json"
NOT_MEASURED = "not measured"
DEFINITIONS = {
    "dice": "2 |A and B| / (|A| + |B|); 1 is perfect. Null (undefined) where neither truth nor prediction has the "
    "structure, as in nnU-Net; 0 where one of them has it",
    "hd95_mm": "the larger of the 95th percentiles of the distances from each surface to the other, between voxel "
    "centres; 0 is perfect. The diagonal of the image where only one has the structure, null where neither has",
    "nsd": "normalised surface distance: the part of both surfaces, in voxels, within the tolerance of the other; 1 is "
    "perfect. 0 where only one has the structure, null where neither has",
    "volume_error_mm3": "|predicted volume - true volume|; 0 is perfect",
    "volume_error_percent": "the same in % of the true volume; null where the truth lacks the structure",
    MEAN: "mean over the structures for which the score of this subject and model is defined",
    "difference": "model - baseline, mean over subjects that have the score in both",
    "ci": "95 % bootstrap interval of the mean difference over subjects (scipy.stats.bootstrap); ci_method says BCa, "
    "or percentile where BCa is undefined",
    "repeats": "of models that were trained several times, whose scores are means over their trainings: the main "
    "result of every training, and the percentile bootstrap interval for which trainings are drawn anew, too; where "
    "trainings are paired by seed, the difference of every pair, and the interval of their mean (Student's t)",
    "p": "two-sided Wilcoxon signed-rank test (scipy.stats.wilcoxon); 1 where no subject differs",
    "p_holm": "p after Holm's correction: the main result (primary) over the models, all other pooled results together "
    "over structures, metrics and models. Null in groups (folds, subgroups), whose p are uncorrected",
    "dz": "mean / standard deviation of the differences (Cohen's d for paired samples)",
    "rank_biserial": "matched-pairs rank-biserial correlation, -1 to 1",
    "wins": "subjects on which the model is better than the baseline; losses: worse; ties: equal",
}


def write_csv(
    path: Path, measured: Measured, task: Labels, entries: Sequence[Entry], *, odd: Mapping[str, str]
) -> None:
    """Write case, fold, model, its training, structure, metric, unit, value: one score a line, undefined ones empty.

    A case that could not be measured has one line, with the reason as value.
    """
    folds = entries[0].folds
    trainings = [(entry.name, k, each.name) for entry in entries for k, each in enumerate(entry.trainings, start=1)]
    units = {metric.key: metric.unit for metric in METRICS} | dict.fromkeys(VOLUMES, "mm³")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "fold", "model", "training", "structure", "metric", "unit", "value"))
        for case, scores in measured.items():
            for model, training, name in trainings:
                for structure in structure_names(task):
                    for key, value in scores[name][structure].items():
                        if structure == MEAN and key in VOLUMES:
                            continue  # a mean volume of different structures means nothing
                        shown = "" if math.isnan(value) else repr(value)
                        row = (case, folds.get(case, ""), model, training, structure, key, units[key], shown)
                        writer.writerow(row)
        for case, reason in odd.items():
            writer.writerow((case, folds.get(case, ""), "", "", "", NOT_MEASURED, "", reason))


def record_of(comparison: Comparison, reference: Path, seed: int) -> dict[str, Any]:
    """What compare.json says; single scores are in compare.csv."""
    return {
        "format": 1,
        "package_version": __version__,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "baseline": comparison.entries[0].name,
        "models": [
            {
                "name": entry.name,
                "folder": entry.folder,
                "trainer": entry.trainer,
                "configuration": entry.configuration,
                "again": [each.folder for each in entry.again],
            }
            for entry in comparison.entries
        ],
        "reference": reference,
        "nsd_tolerance_mm": comparison.tolerance_mm,
        "seed": seed,
        "structures": comparison.task.structures,
        "ignore_label": comparison.task.ignore,
        "cases": comparison.cases,
        "left_out": comparison.left_out,
        "not_measured": comparison.odd,
        "groupings": comparison.groupings,
        "warnings": comparison.warnings,
        "verdicts": comparison.verdicts,
        "summaries": comparison.summaries,
        "results": comparison.results,
        "repeats": comparison.repeats,
        "found_in_one_only": comparison.missed,
        "costs": comparison.costs,
        "keepers": comparison.keepers,
        "trainings": comparison.trainings,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the record, and return it as it is in the file: NaN and infinity are null."""
    statistics = {"confidence": CONFIDENCE, "resamples": RESAMPLES}
    record: dict[str, Any] = plain({**content, "statistics": statistics, "definitions": DEFINITIONS})
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return record


def plain(value: Any) -> Any:
    """Dataclasses, mappings, sequences, paths and numbers as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
