"""Plans of an imagined dataset, as nnU-Net writes them."""

from __future__ import annotations

from typing import Any

DATASET = "Dataset700_Heads"


def configuration(dim: int, spacing: float, *, patch: int = 64) -> dict[str, Any]:
    return {
        "data_identifier": f"nnUNetPlans_{dim}_{spacing:g}",
        "patch_size": [patch] * dim,
        "spacing": [spacing] * dim,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []},
    }


def make_plans() -> dict[str, Any]:
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {
            "2d": configuration(2, 1.0),
            "3d_lowres": configuration(3, 2.0) | {"next_stage": "3d_cascade_fullres"},
            "3d_fullres": configuration(3, 1.0),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }
