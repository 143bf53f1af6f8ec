"""How good predicted images are against true ones: folders in, JSON, CSV and a table out (`evaluate-images`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from nnunet_uhf.errors import Odd, UHFError, UHFWarning
from nnunet_uhf.evaluation.image_metrics import linear_coefficients, mae, nrmse, peak_of, psnr, ssim
from nnunet_uhf.evaluation.image_record import write_record
from nnunet_uhf.evaluation.multiscale import ms_ssim, ms_ssim_scales
from nnunet_uhf.evaluation.statistics import CONFIDENCE, bootstrap_interval
from nnunet_uhf.imageio.files import CHANNEL_SUFFIX, case_files
from nnunet_uhf.imageio.label_maps import inside
from nnunet_uhf.imageio.nifti import read_grid, read_volume, require_same_grid
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.types import Mask

METRICS = ("psnr", "ssim", "ms_ssim", "nrmse", "mae")
RESAMPLES = 10_000
FEW_CASES = 5  # below: a bootstrap draws the same few cases again and again


@dataclass(frozen=True)
class ImagePair:
    """The files of one case, on one grid; `mask` is None when the whole image alone is compared."""

    name: str
    reference: Path
    prediction: Path
    mask: Path | None


def evaluate_images(
    reference: Path,
    prediction: Path,
    output: Path,
    *,
    mask: Path | None = None,
    linear_fit: bool = False,
    data_range: float | None = None,
    seed: int = 0,
    console: Console | None = None,
    odd: Odd | None = None,
) -> dict[str, Any]:
    """Compare every reference image with its prediction and write `image_metrics.json`, `per_case.csv`, `mean.csv`.

    Files of a case have the same name; a channel suffix (_0000) may differ. The means have percentile bootstrap
    confidence intervals over cases. The output folder appears complete or not at all.

    Args:
        reference: folder of the true images (3D NIfTI).
        prediction: folder of the predicted images, on the grids of the true ones; others in it are left out and named.
        output: new or empty folder.
        mask: folder of brain masks (or label maps: above 0 is inside); the metrics are then given inside them, too.
        linear_fit: bring every prediction to the reference's intensities by the least-squares straight line first,
            found over the whole image for the values of the whole image, and in the mask for those of the mask.
        data_range: peak of PSNR and SSIM; default is max - min of each whole reference.
        seed: of the bootstrap, >= 0.
        console: shows a progress bar when given.
        odd: keeps the cases that cannot be compared, while others can; without it the first of them is an error.

    Returns:
        The content of `image_metrics.json`.

    Raises:
        UHFError: a missing case, a damaged file, unequal grids, an empty mask, a constant reference.
    """
    if seed < 0:
        raise UHFError(f"seed is {seed}: use a whole number >= 0")
    if data_range is not None and not 0 < data_range < float("inf"):
        raise UHFError(f"data range is {data_range:g}: give a number above 0, in the references' units")
    found, unmatched = _match(reference, prediction, mask)
    left_out = Odd()
    scales = min(_scales_of_grids(found, left_out))
    cases = [case for case in found if case.name not in left_out.reasons]
    if len(cases) < FEW_CASES:
        warnings.warn(
            f"{reference}: {len(cases)} case{'s' if len(cases) != 1 else ''}: intervals of the means are drawn from "
            f"so few that they say next to nothing; below {FEW_CASES}, read the cases themselves (per_case.csv)",
            UHFWarning,
            stacklevel=2,
        )
    with appearing_together(output) as (folder,):
        progress = cases if console is None else track(cases, description="comparing images", console=console)
        rows = []
        for case in progress:
            with left_out.kept(case.name):
                rows.append(_measure(case, linear_fit=linear_fit, data_range=data_range, scales=scales))
        left_out.require_others(len(found) if odd is not None else 1)
        if odd is not None:
            odd.reasons.update(left_out.reasons)
        settings: dict[str, Any] = {
            "reference": str(reference),
            "prediction": str(prediction),
            "mask": None if mask is None else str(mask),
            "linear_fit": linear_fit,
            "data_range": "max - min of each whole reference" if data_range is None else data_range,
            "ms_ssim_scales": scales,
            "predictions_without_reference": unmatched,
            **(
                {"not_measured": {case: str(why) for case, why in left_out.reasons.items()}} if left_out.reasons else {}
            ),
        }
        bootstrap = {"resamples": RESAMPLES, "seed": seed, "confidence": CONFIDENCE, "method": "percentile, over cases"}
        return write_record(folder, settings=settings, rows=rows, mean=_means(rows, seed), bootstrap=bootstrap)


def _match(reference: Path, prediction: Path, mask: Path | None) -> tuple[list[ImagePair], list[str]]:
    """The cases of the reference folder with their files, and the predictions that belong to none."""
    references, predictions = case_files(reference), case_files(prediction)
    masks = None if mask is None else case_files(mask)
    found = dict(partners(references, predictions, f"{prediction} holds no prediction"))
    masked = {} if masks is None else dict(partners(references, masks, f"{mask} holds no mask"))
    cases = [
        ImagePair(name, path, predictions[found[name]], None if masks is None else masks[masked[name]])
        for name, path in references.items()
    ]
    return cases, sorted(set(predictions) - set(found.values()))


def partners(references: Mapping[str, Path], others: Mapping[str, Path], lacking: str) -> Iterator[tuple[str, str]]:
    """Name of each reference and of its partner: the same name, else the only one without channel suffix."""
    for name, path in references.items():
        if name in others:
            yield name, name
            continue
        stem = CHANNEL_SUFFIX.sub("", name)
        same = [other for other in others if CHANNEL_SUFFIX.sub("", other) == stem]
        if not same:
            raise UHFError(f"{lacking} of case {name} for {path}: add it or remove the reference")
        rivals = [other for other in references if CHANNEL_SUFFIX.sub("", other) == stem]
        if len(same) > 1 or len(rivals) > 1:
            several = same if len(same) > 1 else rivals
            raise UHFError(
                f"{path} fits several files ({', '.join(several)}): keep one channel of a case in each folder"
            )
        yield name, same[0]


def _scales_of_grids(cases: Sequence[ImagePair], odd: Odd) -> list[int]:
    """Scales of MS-SSIM that fit into each case whose files lie on one grid; `odd` keeps the others."""
    scales = []
    for case in cases:
        with odd.kept(case.name):
            require_same_grid(case.reference, case.prediction)
            if case.mask is not None:
                require_same_grid(case.reference, case.mask)
            scales.append(_scales(case))
    odd.require_others(len(cases))
    return scales


def _scales(case: ImagePair) -> int:
    """Scales of MS-SSIM that fit into the case."""
    try:
        return ms_ssim_scales(read_grid(case.reference)[0])
    except ValueError as error:
        raise UHFError(f"{case.reference} is too small ({error}): compare larger images") from error


def _measure(case: ImagePair, *, linear_fit: bool, data_range: float | None, scales: int) -> dict[str, Any]:
    """One entry of `metric_per_case`."""
    truth, predicted = read_volume(case.reference).data, read_volume(case.prediction).data
    brain = None if case.mask is None else inside(read_volume(case.mask).data)
    if brain is not None and not brain.any():
        raise UHFError(f"{case.mask} is empty: mark the brain, or remove case {case.name}")
    regions: dict[str, Mask | None] = {"whole": None} if brain is None else {"whole": None, "brain": brain}
    row: dict[str, Any] = {
        "case": case.name,
        "reference": case.reference.name,
        "prediction": case.prediction.name,
        "voxels": {name: int(truth.size if region is None else region.sum()) for name, region in regions.items()},
    }
    try:
        row["data_range"] = peak = peak_of(truth.astype(np.float64), data_range)
        for name, region in regions.items():
            compared: NDArray[np.floating[Any]] = predicted
            if linear_fit:
                gain, offset = linear_coefficients(truth, predicted, region)
                compared = gain * predicted.astype(np.float64) + offset
                row.setdefault("linear_fit", {})[name] = {"gain": gain, "offset": offset}
            row[name] = {
                "psnr": psnr(truth, compared, data_range=peak, mask=region),
                "ssim": ssim(truth, compared, data_range=peak, mask=region),
                "ms_ssim": ms_ssim(truth, compared, data_range=peak, mask=region, scales=scales),
                "nrmse": nrmse(truth, compared, mask=region),
                "mae": mae(truth, compared, mask=region),
            }
    except ValueError as error:
        raise UHFError(f"{case.reference} cannot be compared with {case.prediction} ({error})") from error
    return row


def _means(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Mean, standard deviation over cases and confidence interval of every metric in every region."""
    means: dict[str, Any] = {}
    for region in ("whole", "brain"):
        if region not in rows[0]:
            continue
        means[region] = {}
        for metric in METRICS:
            values = np.array([row[region][metric] for row in rows], dtype=np.float64)
            interval, _ = bootstrap_interval(values, seed=seed, methods=("percentile",), resamples=RESAMPLES)
            means[region][metric] = {
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else None,
                "ci": interval,
            }
    return means
