"""The anisotropic U-Net as a kind of network: what a file may say of one (Lin et al. 2023)."""

from __future__ import annotations

from functools import partial

from nnunet_uhf.checks import DIM, Check, is_int, is_number
from nnunet_uhf.networks.contract import Arguments, NetworkKind, same_width
from nnunet_uhf.networks.siqt.blocks import ImageHead
from nnunet_uhf.networks.siqt.unet import FACTORS, POOLINGS, AnisotropicKeeper, AnisotropicUNet, siqt_channels

# Bounds of what a file may ask to be built; the paper's network has 16 features and 16 masks.
MAX_BASE_FEATURES = 64
MAX_MASKS = 64
RATIOS = tuple(FACTORS)
# what version 0.1.0 built; no weight tells a pooling, so a missing entry must never mean another one
UNSAID: Arguments = {"pooling": "average", "plane_step": 2}


def _slices_problem(architecture: Arguments) -> str | None:
    axis, dim = architecture["slice_axis"], architecture["dim"]
    if (axis is None and architecture["ratio"] != 1) or (axis is not None and axis >= dim):
        return f"argument 'slice_axis' must be an axis below {dim}, or null where the ratio is 1"
    if architecture.get("plane_step", 2) == 3 and architecture["ratio"] % 3:
        return "argument 'plane_step' must be 2 where the ratio has no factor of 3"
    return None


def _not_one_grid(architecture: Arguments) -> str | None:
    if architecture["ratio"] != 1:
        return f"it makes {architecture['ratio']} slices of one, so its maps do not lie on the grid of its input"
    if architecture["masks"] is not None:
        return f"it is an ensemble of {architecture['masks']} masks, which would have to be run one by one"
    return None


def _enhancer(architecture: Arguments, decoder: Arguments) -> AnisotropicUNet:
    network = AnisotropicUNet(**{**UNSAID, **architecture})
    network.decoder = ImageHead(**decoder)
    return network


def _thick_slices(architecture: Arguments) -> tuple[int, int] | None:
    return None if architecture["ratio"] == 1 else (architecture["slice_axis"], architecture["ratio"])


_BASE_FEATURES: Check = (
    lambda value: is_int(value, 4, MAX_BASE_FEATURES) and value % 4 == 0,
    f"a multiple of 4 up to {MAX_BASE_FEATURES}",
)

KIND = NetworkKind(
    name="anisotropic_unet",
    keeper=partial(AnisotropicKeeper, **UNSAID),
    decoder=ImageHead,
    enhancer=_enhancer,
    arguments={
        "dim": DIM,
        "in_channels": (lambda value: is_int(value, 1, 1), "1"),
        "base_features": _BASE_FEATURES,
        "ratio": (lambda value: is_int(value, 1, 8) and value in RATIOS, f"one of {', '.join(map(str, RATIOS))}"),
        "slice_axis": (lambda value: value is None or is_int(value, 0, 2), "an axis 0, 1, 2 or null"),
        "masks": (lambda value: value is None or is_int(value, 2, MAX_MASKS), f"2 to {MAX_MASKS} or null"),
        "mask_scale": (lambda value: is_number(value, 1, 6), "a number from 1 to 6"),
        "pooling": (lambda value: isinstance(value, str) and value in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        "plane_step": (lambda value: is_int(value, 2, 3), "2 or 3"),
    },
    decoder_arguments={"dim": DIM, "base_features": _BASE_FEATURES},
    channels=lambda architecture: siqt_channels(
        architecture["base_features"], architecture["ratio"], architecture.get("plane_step", UNSAID["plane_step"])
    ),
    citation="Lin et al., Medical Image Analysis 87, 102807 (2023)",
    trainers='SIQTTrainer in "regrid" mode without masks',
    sizes={AnisotropicUNet: frozenset({"base_features", "mask_scale", "pooling", "plane_step"})},
    problem=_slices_problem,
    decoder_problem=same_width,
    no_guide=_not_one_grid,
    thick_slices=_thick_slices,
    members=lambda architecture: architecture["masks"],
    unsaid=UNSAID,
)
