"""Validation of a translation on whole held-out volumes: with the truth where a pair is held out, and without (ours).

Numbers are of z-scores on the grid of the scans. With the truth there are, beside the prediction and its best linear
fit, the fitted input and the input whose histogram is that of the high-field scans: what intensities alone can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.image_metrics import fitted_quality, image_quality
from nnunet_uhf.evaluation.translation import (
    histogram_matched,
    local_correlation,
    mean_of,
    mean_shift,
    slice_roughness,
    tissue_contrast,
)
from nnunet_uhf.imageio.restore import restore_grid, write_image
from nnunet_uhf.inference.neighbours import with_neighbours
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.networks.pta.training import PTANet
from nnunet_uhf.trainers.pta.slices import labelled_values
from nnunet_uhf.types import FloatArray, Mask

CHANGES = "changes"
"""Folder in that of the images: how far each is from its input with matched histogram, in standard deviations."""
MATCHED_CASES = 20
"""High-field cases whose values histograms are matched to, at most."""


class _Back(nn.Module):
    """The way back of a trained network alone."""

    def __init__(self, network: PTANet) -> None:
        super().__init__()
        self.back = network.back

    def forward(self, image: Tensor) -> Tensor:
        translated: Tensor = self.back(image)
        return translated


@dataclass(frozen=True, kw_only=True)
class HeldOutTranslations:
    """What it takes to translate, measure and write whole held-out low-field volumes.

    Attributes:
        network: of the training.
        dataset: nnU-Net's, of all cases of the fold.
        learnt: high-field cases of the training side.
        held_out: high-field cases of the other.
        truth: high-field case of the same subject by low-field case.
        slices: neighbouring slices that the network is given.
        plans, configuration: nnU-Net's, of the preprocessed cases.
        file_ending: of the images that are written.
        device: where to predict.
    """

    network: PTANet
    dataset: Any
    learnt: Sequence[str]
    held_out: Sequence[str]
    truth: Mapping[str, str]
    slices: int
    plans: PlansManager
    configuration: ConfigurationManager
    file_ending: str
    device: torch.device

    @cached_property
    def high_field_values(self) -> FloatArray:
        """Values of labelled voxels of high-field cases that were learnt from."""
        cases = self.learnt[:MATCHED_CASES]
        return np.concatenate([labelled_values(*self.dataset.load_case(case)[:2]) for case in cases])

    @cached_property
    def high_field(self) -> dict[str, float]:
        """Roughness and contrast of held-out high-field scans: what a translation should have."""
        rows = []
        for case in self.held_out:
            data, labels = self.dataset.load_case(case)[:2]
            image, brain = np.asarray(data[0]), np.asarray(labels[0]) > 0
            rows.append(_texture(image, brain))
        return mean_of(rows)

    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """Translate a case, write it into a folder, and measure it.

        Returns:
            An entry of `metric_per_case`.

        Raises:
            UHFError: a held-out pair is not on one grid.
        """
        data, labels, _, properties = loaded
        source = np.asarray(data, dtype=np.float32)
        brain = np.asarray(labels[0]) > 0
        made = self._predicted(self.network, source, self.slices)
        again = self._predicted(_Back(self.network), made[None], 1)
        row: dict[str, Any] = {
            "case": case,
            "translation": {
                "shift_pixels": mean_shift(made, source[0], brain),
                "local_correlation": local_correlation(made, source[0], brain),
                **_texture(made, brain),
                "cycle_error": float(np.abs(again - source[0])[brain].mean()),
            },
            "low_field": {
                "roughness": slice_roughness(source[0], brain),
                "contrast": tissue_contrast(source[0], brain),
            },
            "high_field": self.high_field,
        }
        if case in self.truth:
            row.update(self._against_truth(case, source[0], made, brain, properties))
        changed = np.abs(made - self._matched(source[0], brain)) * brain
        (folder / CHANGES).mkdir(exist_ok=True)
        for image, place in ((made, folder), (changed, folder / CHANGES)):
            write_image(self._restored(image, properties), place / f"{case}{self.file_ending}", properties)
        return row

    def _against_truth(
        self, case: str, source: FloatArray, made: FloatArray, brain: Mask, properties: Mapping[str, Any]
    ) -> dict[str, Any]:
        partner = self.truth[case]
        data, labels, _, other = self.dataset.load_case(partner)
        truth = self._restored(np.asarray(data[0], dtype=np.float32), other)
        inside = self._restored((np.asarray(labels[0]) > 0).astype(np.float32), other) > 0.5
        matched = self._matched(source, brain)
        images = {
            name: self._restored(image, properties)
            for name, image in (("prediction", made), ("input", source), ("matched", matched))
        }
        if truth.shape != images["prediction"].shape:
            raise UHFError(
                f"uhf.unpaired.held_out_pairs: {case} and {partner} are not on one grid, nothing can be compared; "
                "convert them as pairs first (convert paired) and take these images"
            )
        floor = truth.min()
        truth, moved = truth - floor, {name: image - floor for name, image in images.items()}
        return {
            "prediction": image_quality(truth, moved["prediction"], inside) | _mae(truth, moved["prediction"], inside),
            "prediction_fitted": fitted_quality(truth, moved["prediction"], inside),
            "input": fitted_quality(truth, moved["input"], inside) | _mae(truth, moved["input"], inside),
            "matched": image_quality(truth, moved["matched"], inside) | _mae(truth, moved["matched"], inside),
            "matched_fitted": fitted_quality(truth, moved["matched"], inside),
        }

    def _matched(self, source: FloatArray, brain: Mask) -> FloatArray:
        matched: FloatArray = histogram_matched(source, brain, self.high_field_values).astype(np.float32)
        return matched

    def _predicted(self, network: nn.Module, image: FloatArray, slices: int) -> FloatArray:
        predictor = ImagePredictor(device=self.device)
        predictor.set_network(network, self.configuration)
        predicted: FloatArray = predictor.predict_image(with_neighbours(torch.from_numpy(image), slices))[0].numpy()
        return predicted

    def _restored(self, image: FloatArray, properties: Mapping[str, Any]) -> FloatArray:
        restored: FloatArray = restore_grid(image, dict(properties), self.plans, self.configuration)
        return restored


def _texture(image: FloatArray, brain: Mask) -> dict[str, float]:
    return {"roughness": slice_roughness(image, brain), "contrast": tissue_contrast(image, brain)}


def _mae(truth: FloatArray, image: FloatArray, inside: Mask) -> dict[str, float]:
    """Mean absolute error in the brain, in standard deviations of a scan."""
    return {"mae_brain": float(np.abs(image - truth)[inside].mean())}


def summarise_translations(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The content of summary.json: all cases, and means over those that have an image; none has `foreground_mean`."""
    names = dict.fromkeys(name for row in rows for name in row if name != "case")
    mean = {name: mean_of([row[name] for row in rows if name in row]) for name in names}
    return {"metric_per_case": list(rows), "mean": mean}
