"""Which intensities a normalised target image stood for, so that a decoded image can be brought back to them (ours)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.image_metrics import linear_coefficients
from nnunet_uhf.keepers.trained import foreground_intensity

CASES = 20  # volumes read at most; the mean of a gain needs no more


def training_intensity(
    raw_dataset: Path | None,
    plans: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    *,
    configuration: str,
    channel: int,
    cases: Sequence[str],
) -> dict[str, float]:
    """The mean over training cases of what maps normalised target values back: ``{"mean", "std"}``, raw units.

    nnU-Net normalises each image by itself, over the crop or its nonzero mask, and keeps neither mean nor standard
    deviation. They are found here by normalising again, which holds for every scheme. The plans' statistics are of
    labelled voxels only; with air in the crop they would turn it grey. They are used, with a warning,
    when the raw images are gone (``raw_dataset`` None or without these cases).
    """
    chosen = [cases[int(i)] for i in np.linspace(0, len(cases) - 1, min(CASES, len(cases)))]
    try:
        if raw_dataset is None:
            raise FileNotFoundError("nnUNet_raw is not set")
        files = get_filenames_of_train_images_and_targets(str(raw_dataset), deepcopy(dict(dataset_json)))
        images = [files[case]["images"] for case in chosen]
        missing = [name for names in images for name in names if not Path(name).is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} is missing")
    except (FileNotFoundError, KeyError) as error:
        warnings.warn(f"target intensities are taken from the plans, and only approximate: {error}", stacklevel=2)
        return foreground_intensity(plans, channel)
    plans_manager = PlansManager(deepcopy(dict(plans)))
    fits = [_fit(names, plans_manager, configuration, channel) for names in images]
    if not any(std > 0 for std, _ in fits):
        raise UHFError(f"the target images under {raw_dataset} have no contrast; restore them")
    std, mean = np.mean([fit for fit in fits if fit[0] > 0], axis=0)
    return {"mean": float(mean), "std": float(std)}


def _fit(images: Sequence[str], plans_manager: PlansManager, configuration: str, channel: int) -> tuple[float, float]:
    """(std, mean) such that raw = std * normalised + mean inside one case's nonzero region."""
    data, _ = plans_manager.image_reader_writer_class().read_images(list(images))
    data, seg, _ = crop_to_nonzero(data)
    normalised = DefaultPreprocessor(verbose=False)._normalize(
        data.copy(),
        seg,
        plans_manager.get_configuration(configuration),
        plans_manager.foreground_intensity_properties_per_channel,
    )
    return linear_coefficients(data[channel], normalised[channel], seg[0] >= 0)
