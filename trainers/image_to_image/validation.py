"""Validation of an image-to-image training on whole held-out volumes: NIfTI files and summary.json (ours).

All numbers compare normalised intensities on nnU-Net's preprocessed grid. The prediction is measured as it comes, and
after its best linear intensity fit to the truth: a low-field image does not tell its subject's high-field scale. The
input's row is the low-field image after such a fit, the strongest baseline that changes no structure. Fits are found
over the whole grid for the values of the whole grid, and in the brain for those of the brain. Thick slices are brought
to the grid by cubic interpolation first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from numpy.typing import NDArray
from torch import distributed, nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.image_metrics import fitted_quality, image_quality
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.imageio.restore import restore_grid, write_image
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.types import FloatArray

if TYPE_CHECKING:
    from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer

Quality = dict[str, float]


def validate(trainer: ImageToImageTrainer, network: nn.Module) -> None:
    """Predict, measure and write every held-out case; the ranks share the cases, rank 0 writes summary.json.

    Raises:
        UHFError: when a case has no labelled brain or a constant target.
    """
    folder = Path(trainer.output_folder) / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    _, cases = trainer.do_split()
    ranks = distributed.get_world_size() if trainer.is_ddp else 1
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(cases[trainer.local_rank :: ranks]))
    rows = [_validate_case(trainer, network, dataset.load_case(case), case, folder) for case in dataset.identifiers]
    if trainer.is_ddp:
        gathered: list[Any] = [None] * ranks
        distributed.all_gather_object(gathered, rows)
        rows = sorted((row for part in gathered for row in part), key=lambda row: row["case"])
    compute_gaussian.cache_clear()
    if trainer.local_rank != 0:
        return
    summary = summarise(rows)
    with written_whole(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2))
    for name, quality in summary["mean"].items():
        trainer.print_to_log_file(f"held-out {name}: {', '.join(f'{k} {v:.4f}' for k, v in quality.items())}")
        for key, value in quality.items():
            trainer.logger.log_summary(f"final_val/{name}_{key}", value)
    trainer.print_to_log_file("Validation complete")


def _validate_case(
    trainer: ImageToImageTrainer, network: nn.Module, loaded: Sequence[Any], case: str, folder: Path
) -> dict[str, Any]:
    """Predict one volume, write it, and measure it."""
    trainer.print_to_log_file(f"predicting {case}")
    data, labels, _, properties = loaded
    block = trainer.block
    source, target = trainer.volume_pair(case, data, labels)
    brain = np.asarray(labels[0]) > 0
    prediction = predict_volume(trainer, network, target if block.role == "teacher" else source)
    prediction = prediction[tuple(map(slice, target.shape))]  # the last block may reach beyond the volume
    ceiling = trainer.ceiling()
    best = None if ceiling is None else predict_volume(trainer, ceiling, target)
    try:
        low_field = trainer.on_target_grid(case, data, labels, source)
        row = image_quality_of(case, prediction=prediction, source=low_field, target=target, brain=brain, ceiling=best)
    except ValueError as error:
        raise UHFError(
            f"case {case} of {trainer.plans_manager.dataset_name} cannot be judged ({error}); "
            "check its target image and that its label file marks the brain"
        ) from error
    if block.same_field:
        del row["input"]  # it is the target itself
    restored = restore_grid(prediction, properties, trainer.plans_manager, trainer.configuration_manager)
    write_image(restored, folder / f"{case}{trainer.dataset_json['file_ending']}", properties)
    return row


def predict_volume(trainer: ImageToImageTrainer, network: nn.Module, image: FloatArray) -> FloatArray:
    """Sliding-window prediction of a whole volume `(Z, Y, X)`, without mirroring; r times the slices from thick ones.

    A guided segmentation uses the features of one pass, so the quality reported is that of one pass, too.
    """
    predictor = ImagePredictor(device=trainer.device)
    slices = None if trainer.pairs is None else trainer.pairs.slices
    stretch = None if slices is None else slices.stretch(image.ndim)
    predictor.set_network(network, trainer.configuration_manager, stretch=stretch)
    predicted: FloatArray = predictor.predict_image(torch.from_numpy(image)[None])[0].numpy()
    return predicted


def image_quality_of(
    case: str,
    *,
    prediction: FloatArray,
    source: FloatArray,
    target: FloatArray,
    brain: NDArray[np.bool_],
    ceiling: FloatArray | None = None,
) -> dict[str, Any]:
    """One entry of `metric_per_case`; all volumes are `(Z, Y, X)`. Raises ValueError on an empty brain.

    The volumes are z-scores, around 0 in the brain, where the luminance term of SSIM means nothing: all are counted
    from the target's smallest value, the absence of signal. PSNR does not depend on it.
    """
    floor = target.min()
    prediction, source, target = prediction - floor, source - floor, target - floor
    ceiling = None if ceiling is None else ceiling - floor
    row = {
        "case": case,
        "prediction": image_quality(target, prediction, brain),
        "prediction_fitted": fitted_quality(target, prediction, brain),
        "input": fitted_quality(target, source, brain),
    }
    if ceiling is not None:
        row["teacher"] = image_quality(target, ceiling, brain)
    return row


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of summary.json: all cases and their means; `foreground_mean` is the prediction's in the brain."""
    images = [name for name in rows[0] if name != "case"]
    mean: dict[str, Quality] = {
        image: {name: float(np.mean([row[image][name] for row in rows])) for name in rows[0][image]} for image in images
    }
    foreground = {name: mean["prediction"][f"{name}_brain"] for name in ("psnr", "ssim")}
    return {"metric_per_case": list(rows), "mean": mean, "foreground_mean": foreground}
