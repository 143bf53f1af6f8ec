"""Type and range of every field of a keeper's header; those of its network's arguments: ``networks.kinds``.

A table of predicates with, for the error message, what would have fitted. Design: ours.
"""

from __future__ import annotations

import re

from nnunet_uhf.checks import DIM, Check, is_int, is_list, is_number, is_plain, is_text
from nnunet_uhf.imageio.orientation import MIXED, is_axis_codes
from nnunet_uhf.networks.contract import MAX_LEVELS
from nnunet_uhf.networks.unicoal.modalities import is_described
from nnunet_uhf.routes.table import ROUTES

#: Arrays as nnU-Net feeds networks: SimpleITK's (z, y, x), permuted by ``transpose_forward``.
AXIS_ORDER = "transposed SimpleITK zyx"

#: Of one level, in any network a header may describe.
MAX_CHANNELS = 1024
#: Images that a keeper may read together.
MAX_INPUTS = 16

_HEX = re.compile(r"[0-9a-f]{64}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def _is_cases(value: object) -> bool:
    return is_list(value, is_text, 0, 100_000)


def _is_metrics(value: object, depth: int = 3) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(is_text(k) and _is_metrics(v, depth - 1) for k, v in value.items())
    return depth < 3 and (value is None or is_number(value, -1e9, 1e9) or is_text(value, empty=True))


def _is_intensity(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std"}
        and is_number(value["mean"], -1e9, 1e9)
        and is_number(value["std"], 1e-9, 1e9)
    )


def _is_distances(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std", "p95", "max"}
        and all(is_number(number, 0, 1e9) for number in value.values())
    )


def _is_level(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std", "distances"}
        and is_list(value["mean"], lambda item: is_number(item, -1e9, 1e9), 1, MAX_CHANNELS)
        and is_list(value["std"], lambda item: is_number(item, 0, 1e9), 1, MAX_CHANNELS)
        and len(value["mean"]) == len(value["std"])
        and _is_distances(value["distances"])
    )


def _is_statistics(value: object) -> bool:
    """What :func:`nnunet_uhf.keepers.statistics.summarise_features` gives."""
    return (
        isinstance(value, dict)
        and value.keys() == {"cases", "levels", "distances"}
        and is_int(value["cases"], 1, 100_000)
        and is_list(value["levels"], _is_level, 1, MAX_LEVELS)
        and _is_distances(value["distances"])
    )


def _is_channels(value: object) -> bool:
    """The second channel and all further ones, as :class:`nnunet_uhf.keepers.header.InputChannel` has them."""

    def is_channel(item: object) -> bool:
        return (
            isinstance(item, dict)
            and item.keys() == {"channel", "normalisation", "use_mask_for_norm"}
            and is_text(item["channel"])
            and _is_identifier(item["normalisation"])
            and isinstance(item["use_mask_for_norm"], bool)
        )

    return is_list(value, is_channel, 0, MAX_INPUTS - 1)


def _is_field(value: object) -> bool:
    return value is None or is_number(value, 1e-3, 30)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _is_supervision(value: object) -> bool:
    """Who taught: a teacher that segments with the number of its classes, a judge with what is known of it."""
    return (
        isinstance(value, dict)
        and bool(value)
        and value.keys() <= {"teacher", "judge"}
        and ("teacher" not in value or _is_labelling(value["teacher"]))
        and ("judge" not in value or _is_judge(value["judge"]))
    )


def _is_labelling(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"kind", "classes"}
        and value["kind"] == "segmentation"
        and is_int(value["classes"], 1, 1024)
    )


def _is_judge(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"model", "dataset", "fold", "sha256", "weight"}
        and is_text(value["model"])
        and is_text(value["dataset"])
        and (value["fold"] == "all" or is_int(value["fold"], 0, 999))
        and _is_hash(value["sha256"])
        and is_number(value["weight"], 0, 1e6)
    )


_TEXT: Check = (is_text, "printable text of at most 500 characters")
_CASES: Check = (_is_cases, "a list of case identifiers")
_TESLA: Check = (_is_field, "a field strength in tesla (at most 30) or null")
_LONG_TEXT: Check = (
    lambda value: is_text(value, longest=5000, empty=True, lines=True),
    "printable text of at most 5000 characters",
)

FIELDS: dict[str, Check] = {
    "dim": DIM,
    "architecture": (lambda value: isinstance(value, dict), "an object"),
    "decoder_architecture": (lambda value: value is None or isinstance(value, dict), "an object or null"),
    "channel": _TEXT,
    "spacing_mm": (
        lambda value: is_list(value, lambda item: is_number(item, 1e-3, 1e3), 2, 3),
        "2 or 3 spacings in mm",
    ),
    "axis_order": (lambda value: value == AXIS_ORDER, repr(AXIS_ORDER)),
    "transpose_forward": (
        lambda value: is_list(value, lambda axis: is_int(axis, 0, 2), 3, 3) and len(set(value)) == 3,
        "a permutation of 0, 1, 2",
    ),
    "patch_size": (
        lambda value: is_list(value, lambda item: is_int(item, 1, 4096), 2, 3),
        "2 or 3 whole numbers",
    ),
    "normalisation": (_is_identifier, "the name of a normalisation scheme"),
    "use_mask_for_norm": (lambda value: isinstance(value, bool), "true or false"),
    "target_intensity": (_is_intensity, "an object with numbers 'mean' and 'std' (> 0)"),
    "source_field_T": _TESLA,
    "target_field_T": _TESLA,
    "route": (lambda value: value in list(ROUTES), f"one of {', '.join(ROUTES)}"),
    "dataset": _TEXT,
    "fold": (lambda value: value == "all" or is_int(value, 0, 999), "a fold number or 'all'"),
    "configuration": _TEXT,
    "training_cases": _CASES,
    "validation_cases": _CASES,
    "metrics": (lambda value: isinstance(value, dict) and _is_metrics(value), "an object of finite numbers"),
    "simulation": (
        lambda value: value is None or (isinstance(value, dict) and is_plain(value, 4)),
        "an object of the simulation's parameters, or null",
    ),
    "network": (_is_identifier, "the name of a network"),
    "feature_statistics": (
        lambda value: value is None or _is_statistics(value),
        "an object of cases, levels (mean, std, distances) and distances, or null",
    ),
    "further_channels": (
        _is_channels,
        f"a list of at most {MAX_INPUTS - 1} objects of channel, normalisation and use_mask_for_norm",
    ),
    "orientation": (
        lambda value: value is None or value == MIXED or is_axis_codes(value),
        f"three letters like LAS, {MIXED!r} or null",
    ),
    "modalities": (
        lambda value: value is None or is_described(value, is_hash=_is_hash),
        "an object that describes modalities, or null",
    ),
    "supervision": (
        lambda value: value is None or _is_supervision(value),
        "an object of a teacher that segments, a judge, or both, or null",
    ),
    "sha256": (_is_hash, "64 hexadecimal digits"),
    "decoder_sha256": (lambda value: value is None or _is_hash(value), "64 hexadecimal digits or null"),
    "package_version": _TEXT,
    "licence": _LONG_TEXT,
    "citation": _LONG_TEXT,
}
