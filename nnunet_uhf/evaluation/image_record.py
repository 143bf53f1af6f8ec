"""The record of an image evaluation: JSON and CSV files for programs, a table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nnunet_uhf import __version__
from nnunet_uhf.imageio.output import write_table

RECORD_NAME = "image_metrics.json"
NOT_MEASURED = "not measured"
DEFINITIONS = {
    "psnr": "10 log10(data_range^2 / mean squared error), dB; higher is better",
    "ssim": "Wang et al. 2004, uniform window of 7 voxels, K1 0.01, K2 0.03 (scikit-image); 1 is perfect. whole: "
    "mean of the map less its border of half a window; brain: mean of the map inside the mask",
    "ms_ssim": "Wang et al. 2003, Gaussian window (11 voxels, sigma 1.5) at ms_ssim_scales scales, the weights of the "
    "finest scales divided by their sum; 1 is perfect. Values of different numbers of scales do not compare",
    "nrmse": "norm of the error / norm of the reference; 0 is perfect",
    "mae": "mean absolute error in the units of the reference; 0 is perfect",
    "data_range": "used by psnr, ssim and ms_ssim, for the brain as for the whole image",
    "whole": "all voxels of the image",
    "brain": "voxels of the mask above 0",
    "ci": "bounds of the 95 % bootstrap interval of the mean; null for a single case",
    "null": "a psnr of null is infinite: prediction and reference are equal",
}
TITLES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "nrmse": "NRMSE", "mae": "MAE"}
DIGITS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "nrmse": 4}


def write_record(
    folder: Path,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    mean: Mapping[str, Any],
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `image_metrics.json`, `per_case.csv` and `mean.csv` into `folder`; returns the content of the first.

    `rows` has a mapping of metrics for each region, `mean` the same with "mean", "std" and "ci". What is infinite or
    missing is null in JSON and empty in CSV.
    """
    record: dict[str, Any] = _finite(
        {
            "format": 1,
            "package_version": __version__,
            "settings": dict(settings),
            "bootstrap": dict(bootstrap),
            "definitions": DEFINITIONS,
            "metric_per_case": list(rows),
            "mean": dict(mean),
        }
    )
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RECORD_NAME).write_text(text + "\n", encoding="utf-8")
    scales = settings["ms_ssim_scales"]
    cases = [
        {
            "case": row["case"],
            "region": region,
            **row[region],
            "data_range": row["data_range"],
            "ms_ssim_scales": scales,
            **row.get("linear_fit", {}).get(region, {}),
        }
        for row in record["metric_per_case"]
        for region in record["mean"]
    ]
    for case, reason in record["settings"].get("not_measured", {}).items():
        cases.append({"case": case, "region": f"{NOT_MEASURED}: {reason}"})
    means = [
        {
            "region": region,
            "metric": name,
            "mean": value["mean"],
            "ci_low": value["ci"][0] if value["ci"] else None,
            "ci_high": value["ci"][1] if value["ci"] else None,
            "std": value["std"],
            "cases": len(rows),
        }
        for region, metrics in record["mean"].items()
        for name, value in metrics.items()
    ]
    for name, lines in (("per_case.csv", cases), ("mean.csv", means)):
        write_table(folder / name, lines)
    return record


def metrics_table(record: Mapping[str, Any]) -> Group:
    """The means with their intervals as a rich table, and below it how they were computed."""
    settings, bootstrap = record["settings"], record["bootstrap"]
    count = len(record["metric_per_case"])
    fitted = ", after the best linear intensity fit" if settings["linear_fit"] else ""
    table = Table(title=Text(f"Mean of {count} case{'s' if count != 1 else ''}{fitted}"), title_justify="left")
    table.add_column("")
    for region in record["mean"]:
        table.add_column({"whole": "whole image", "brain": "brain mask"}[region], justify="right")
    for metric, title in TITLES.items():
        table.add_row(title, *(_shown(record["mean"][region][metric], DIGITS.get(metric)) for region in record["mean"]))
    note = f"Data range: {settings['data_range']}. MS-SSIM of {settings['ms_ssim_scales']} scales."
    if count > 1:
        note += (
            f" In brackets: {100 * bootstrap['confidence']:g} % confidence interval, {bootstrap['resamples']} "
            f"bootstrap samples of the cases, seed {bootstrap['seed']}."
        )
    left_out = settings["predictions_without_reference"]
    if left_out:
        note += f" Left out: {len(left_out)} predictions without a reference ({left_out[0]}, ...)."
    return Group(table, Text(note))


def _shown(value: Mapping[str, Any], digits: int | None) -> str:
    """Mean and interval as text; `digits` after the point, or four significant ones."""

    def number(x: float) -> str:
        return f"{x:.4g}" if digits is None else f"{x:.{digits}f}"

    if value["mean"] is None:
        return "infinite"
    interval = f" [{number(value['ci'][0])}, {number(value['ci'][1])}]" if value["ci"] else ""
    return number(value["mean"]) + interval


def _finite(value: Any) -> Any:
    """The same with None for infinite numbers, which JSON has not."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
