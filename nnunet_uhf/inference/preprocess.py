"""nnU-Net's preprocessing of one image outside a training."""

from __future__ import annotations

from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import read_image
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.inference.inputs import Scan, require_one_grid
from nnunet_uhf.keepers.file import KeeperHeader


def managers(header: KeeperHeader) -> tuple[PlansManager, ConfigurationManager]:
    """The settings nnU-Net's preprocessing needs, for the channels a keeper reads, from its header."""
    plans = {
        "transpose_forward": list(header.transpose_forward),
        "transpose_backward": [int(axis) for axis in np.argsort(header.transpose_forward)],
        "foreground_intensity_properties_per_channel": {str(index): {} for index in range(len(header.inputs))},
    }
    spline = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "architecture": {},
        "patch_size": list(header.patch_size),
        "spacing": list(header.spacing_mm),
        "normalization_schemes": [one.normalisation for one in header.inputs],
        "use_mask_for_norm": [one.use_mask_for_norm for one in header.inputs],
        # nnU-Net's defaults, by the names and arguments its planner writes
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": spline,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**spline, "is_seg": True, "order": 1},
    }
    return PlansManager(plans), ConfigurationManager(configuration)


def preprocess_image(
    scan: Scan,
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    *,
    turn: Turn | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], dict[str, Any]]:
    """The files of a scan -> normalised volume (C, *S), its nonzero mask (*S), and nnU-Net's properties.

    ``turn``: to the axes in which the network knows anatomy; all that is returned is of the turned scan.

    Raises UHFError when a file is damaged, the files do not lie on one grid, or the keeper's normalisation is not at
    hand.
    """
    require_one_grid(scan)
    images = [read_image(path) for path in scan]
    data, properties = np.concatenate([image for image, _ in images]), images[0][1]
    if turn is not None:
        data, properties = turn.turned(data), {"spacing": turn.turned_steps(properties["spacing"])}
    try:
        data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            data, None, properties, plans_manager, configuration_manager, {}
        )
    except (KeyError, RuntimeError) as error:
        scheme = ", ".join(dict.fromkeys(configuration_manager.normalization_schemes))
        raise UHFError(
            f"the keeper's normalisation {scheme} is not installed here, or needs statistics of its dataset that a "
            "keeper does not carry; train the keeper with ZScoreNormalization"
        ) from error
    return data, seg[0] >= 0, properties
