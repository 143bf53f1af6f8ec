"""Validation of an image-to-image training on whole held-out volumes: NIfTI files and summary.json (ours).

All numbers compare normalised intensities on nnU-Net's preprocessed grid. The prediction is measured as it comes, and
after its best linear intensity fit to the truth: a low-field image does not tell its subject's high-field scale. The
input's row is the low-field image after such a fit, the strongest baseline that changes no structure. Fits are found
over the whole grid for the values of the whole grid, and in the brain for those of the brain. Thick slices are brought
to the grid by cubic interpolation first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray
from torch import nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.image_metrics import fitted_quality, image_quality
from nnunet_uhf.imageio.restore import restore_grid, write_image
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.trainers.image_to_image.pair_source import PairSource
from nnunet_uhf.types import FloatArray

Quality = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class HeldOutImages:
    """What it takes to predict, measure and write whole held-out volumes.

    Attributes:
        network: whose images are judged.
        ceiling: a network whose image of the target no prediction can be expected to surpass; None without one.
        pairs: where source and target come from.
        sees_target: the network is given the target and not the source.
        same_field: the target is the source itself, which then is not measured beside the prediction.
        plans, configuration: nnU-Net's, of the preprocessed cases.
        file_ending: of the images that are written.
        device: where to predict.
    """

    network: nn.Module
    ceiling: nn.Module | None
    pairs: PairSource
    sees_target: bool
    same_field: bool
    plans: PlansManager
    configuration: ConfigurationManager
    file_ending: str
    device: torch.device

    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """Predict a case as nnU-Net's dataset loads it, write it into a folder, and measure it.

        Returns:
            An entry of `metric_per_case`.

        Raises:
            UHFError: when the case has no labelled brain or a constant target.
        """
        data, labels, _, properties = loaded
        source, target = self.images_of(case, data, labels)
        prediction = self.predict(self.network, target[None] if self.sees_target else source)
        prediction = prediction[tuple(map(slice, target.shape))]  # the last block may reach beyond the volume
        try:
            row = image_quality_of(
                case,
                prediction=prediction,
                source=None if self.same_field else self.pairs.before_enhancing(case, data, labels),
                target=target,
                brain=np.asarray(labels[0]) > 0,
                ceiling=None if self.ceiling is None else self.predict(self.ceiling, target[None]),
            )
        except ValueError as error:
            raise UHFError(
                f"case {case} of {self.plans.dataset_name} cannot be judged ({error}); "
                "check its target image and that its label file marks the brain"
            ) from error
        restored = restore_grid(prediction, properties, self.plans, self.configuration)
        write_image(restored, folder / f"{case}{self.file_ending}", properties)
        return row

    def images_of(self, case: str, data: Any, labels: Any) -> tuple[FloatArray, FloatArray]:
        """Source `(C, Z, Y, X)` and target `(Z, Y, X)` of a whole preprocessed case."""
        source, target = self.pairs.of_case(case, data, labels)
        return source, source[0] if self.same_field else target

    def predict(self, network: nn.Module, image: FloatArray) -> FloatArray:
        """Sliding-window prediction `(Z, Y, X)` of a whole volume `(C, Z, Y, X)`, without mirroring.

        r times the slices from thick ones. A guided segmentation uses the features of one pass, so the quality reported
        is that of one pass, too.
        """
        predictor = ImagePredictor(device=self.device)
        predictor.set_network(network, self.configuration, stretch=self.pairs.stretch(dim=3))
        predicted: FloatArray = predictor.predict_image(torch.from_numpy(image))[0].numpy()
        return predicted


def image_quality_of(
    case: str,
    *,
    prediction: FloatArray,
    source: FloatArray | None,
    target: FloatArray,
    brain: NDArray[np.bool_],
    ceiling: FloatArray | None = None,
) -> dict[str, Any]:
    """One entry of `metric_per_case`; all volumes are `(Z, Y, X)`. Raises ValueError on an empty brain.

    Without a source there is no row of the input.

    The volumes are z-scores, around 0 in the brain, where the luminance term of SSIM means nothing: all are counted
    from the target's smallest value, the absence of signal. PSNR does not depend on it.
    """
    floor = target.min()
    prediction, target = prediction - floor, target - floor
    row = {
        "case": case,
        "prediction": image_quality(target, prediction, brain),
        "prediction_fitted": fitted_quality(target, prediction, brain),
    }
    if source is not None:
        row["input"] = fitted_quality(target, source - floor, brain)
    if ceiling is not None:
        row["teacher"] = image_quality(target, ceiling - floor, brain)
    return row


def summarise_images(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of summary.json: all cases and their means; `foreground_mean` is the prediction's in the brain."""
    images = [name for name in rows[0] if name != "case"]
    mean: dict[str, Quality] = {
        image: {name: float(np.mean([row[image][name] for row in rows])) for name in rows[0][image]} for image in images
    }
    foreground = {name: mean["prediction"][f"{name}_brain"] for name in ("psnr", "ssim")}
    return {"metric_per_case": list(rows), "mean": mean, "foreground_mean": foreground}
