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
from torch import nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.feature_network import FeatureNetwork
from nnunet_uhf.evaluation.image_metrics import fitted_quality, image_quality
from nnunet_uhf.evaluation.image_sets import CaseSlices, case_slices, set_metrics
from nnunet_uhf.evaluation.multiscale import ms_ssim
from nnunet_uhf.evaluation.translation import (
    local_correlation,
    mean_of,
    mean_shift,
    slice_roughness,
    tissue_contrast,
)
from nnunet_uhf.imageio.restore import restore_grid, write_image
from nnunet_uhf.inference.changes import histogram_matched
from nnunet_uhf.inference.neighbours import with_neighbours
from nnunet_uhf.inference.predictor import ImagePredictor
from nnunet_uhf.trainers.pta.slices import labelled_values
from nnunet_uhf.types import FloatArray, Mask

CHANGES = "changes"
"""Folder in that of the images: how far each is from its input with matched histogram, in standard deviations."""
SLICES = "slices"
"""Of a row, until it is summarised."""
MATCHED_CASES = 20
"""High-field cases whose values histograms are matched to, at most."""


@dataclass(frozen=True, kw_only=True)
class HeldOutTranslations:
    """What it takes to translate, measure and write whole held-out low-field volumes.

    Attributes:
        network: of the training.
        back: its way back; None of one direction alone.
        dataset: nnU-Net's, of all cases of the fold.
        learnt: high-field cases of the training side.
        held_out: high-field cases of the other.
        truth: high-field case of the same subject by low-field case.
        ranges: z-scores of each domain that stand for black and white.
        features: describes slices, for distances of sets; None without it.
        slices: neighbouring slices that the network is given.
        plans, configuration: nnU-Net's, of the preprocessed cases.
        file_ending: of the images that are written.
        device: where to predict.
    """

    network: nn.Module
    back: nn.Module | None
    dataset: Any
    learnt: Sequence[str]
    held_out: Sequence[str]
    truth: Mapping[str, str]
    ranges: Mapping[str, Sequence[float]]
    features: FeatureNetwork | None
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
        return mean_of([_texture(*self._loaded(case)) for case in self.held_out])

    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """Translate a case, write it into a folder, and measure it.

        Returns:
            An entry of `metric_per_case`, for :meth:`summary`, which takes the slices out of it.

        Raises:
            UHFError: a held-out pair is not on one grid.
        """
        data, labels, _, properties = loaded
        source = np.asarray(data, dtype=np.float32)
        brain = np.asarray(labels[0]) > 0
        made, matched = self._predicted(self.network, source, self.slices), self._matched(source[0], brain)
        row: dict[str, Any] = {
            "case": case,
            "translation": {
                "shift_pixels": mean_shift(made, source[0], brain),
                "local_correlation": local_correlation(made, source[0], brain),
                **_texture(made, brain),
                **self._cycle(made, source[0], brain),
            },
            "low_field": _texture(source[0], brain),
            "high_field": self.high_field,
            SLICES: {
                "translation": self._slices(made, brain, "target"),
                "matched": self._slices(matched, brain, "target"),
                "low_field": self._slices(source[0], brain, "source"),
            },
        }
        if case in self.truth:
            row.update(
                self._against_truth(case, {"prediction": made, "input": source[0], "matched": matched}, properties)
            )
        changed = np.abs(made - matched) * brain
        (folder / CHANGES).mkdir(exist_ok=True)
        for image, place in ((made, folder), (changed, folder / CHANGES)):
            write_image(self._restored(image, properties), place / f"{case}{self.file_ending}", properties)
        return row

    def summary(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The content of summary.json: all cases, means over those that have an image, and the sets against each other.

        In `mean` each set of all slices has its diversity, and with a feature network its distance from the held-out
        high-field scans; `floor` has that of two halves of these.
        """
        slices = [row[SLICES] for row in rows]
        kept = [{name: value for name, value in row.items() if name != SLICES} for row in rows]
        names = dict.fromkeys(name for row in kept for name in row if name != "case")
        mean = {name: mean_of([row[name] for row in kept if name in row]) for name in names}
        sets = {name: [one[name] for one in slices] for name in slices[0]}
        sets["high_field"] = [self._slices(*self._loaded(case), "target") for case in self.held_out]
        measured = set_metrics(sets, real="high_field", network=None if self.features is None else self.features.name)
        for name, numbers in measured.items():
            mean[name] = {**mean.get(name, {}), **numbers}
        return {"metric_per_case": kept, "mean": {name: numbers for name, numbers in mean.items() if numbers}}

    def _cycle(self, made: FloatArray, source: FloatArray, brain: Mask) -> dict[str, float]:
        if self.back is None:
            return {}
        again = self._predicted(self.back, made[None], 1)
        return {"cycle_error": float(np.abs(again - source)[brain].mean())}

    def _loaded(self, case: str) -> tuple[FloatArray, Mask]:
        data, labels = self.dataset.load_case(case)[:2]
        return np.asarray(data[0], dtype=np.float32), np.asarray(labels[0]) > 0

    def _slices(self, image: FloatArray, brain: Mask, domain: str) -> CaseSlices:
        side = int(max(self.configuration.patch_size))
        return case_slices(image, brain, self.ranges[domain], side=side, network=self.features)

    def _against_truth(
        self, case: str, images: Mapping[str, FloatArray], properties: Mapping[str, Any]
    ) -> dict[str, Any]:
        partner = self.truth[case]
        data, labels, _, other = self.dataset.load_case(partner)
        truth = self._restored(np.asarray(data[0], dtype=np.float32), other)
        inside = self._restored((np.asarray(labels[0]) > 0).astype(np.float32), other) > 0.5
        moved = {name: self._restored(image, properties) for name, image in images.items()}
        if truth.shape != moved["prediction"].shape:
            raise UHFError(
                f"uhf.unpaired.held_out_pairs: {case} and {partner} are not on one grid, nothing can be compared; "
                "convert them as pairs first (convert paired) and take these images"
            )
        floor = truth.min()
        truth, moved = truth - floor, {name: image - floor for name, image in moved.items()}
        as_they_come = {name: _quality(truth, moved[name], inside) for name in ("prediction", "matched")}
        return {
            **as_they_come,
            "prediction_fitted": fitted_quality(truth, moved["prediction"], inside),
            "input": fitted_quality(truth, moved["input"], inside) | _mae(truth, moved["input"], inside),
            "matched_fitted": fitted_quality(truth, moved["matched"], inside),
        }

    def _matched(self, source: FloatArray, brain: Mask) -> FloatArray:
        return histogram_matched(source, brain, self.high_field_values)

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


def _quality(truth: FloatArray, image: FloatArray, inside: Mask) -> dict[str, float]:
    """Of an image as it comes; `ms_ssim_reference` is of the whole image against its truth."""
    quality = image_quality(truth, image, inside) | _mae(truth, image, inside)
    try:
        return {**quality, "ms_ssim_reference": ms_ssim(truth, image)}
    except ValueError:  # too small an image for the window
        return quality


def _mae(truth: FloatArray, image: FloatArray, inside: Mask) -> dict[str, float]:
    """Mean absolute error in the brain, in standard deviations of a scan."""
    return {"mae_brain": float(np.abs(image - truth)[inside].mean())}
