"""Does a keeper fit a configuration? Spacing, axes, normalisation, channel and dimension held against each other.

A keeper that sees other voxels than it was trained on yields features that mean nothing, and no error would ever
show it: so everything that differs is either put right (spacing) or refused with the way out. Design: ours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nnunet_uhf.errors import MatchError
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.kinds import who_makes_guides, why_no_guide
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import READERS

GUIDE_CHANNEL_VARIABLE = "nnUNet_UHF_GUIDE_CHANNEL"
#: Spacings this close (factor, either way) are used as they are.
SPACING_TOLERANCE = 1.1
#: Further away the keeper would see hardly a voxel, or cost far more than the network it guides.
MAX_SPACING_RATIO = 8.0
MAX_VOXEL_GROWTH = 64.0

_PRETRAIN_THERE = (
    "Pretrain a keeper on plans moved from this dataset (nnUNetv2_move_plans_between_datasets) or use another keeper."
)


def guide_channel(names: Sequence[str], wanted: str, *, override: str | None = None) -> int:
    """Return the index of the channel that the keeper reads.

    It is the one whose name equals the keeper's (case-insensitively), or the one ``override`` names or counts;
    never a guess, not even when there is only one. A cascade's one-hot channels have no name, hence never match.

    Raises:
        MatchError: no channel, or more than one, is named so; or the override names none.
    """
    listed = ", ".join(f"{index} = {name}" for index, name in enumerate(names))
    asked = (override or "").strip()
    name = asked or wanted
    hits = [index for index, candidate in enumerate(names) if candidate.casefold() == name.casefold()]
    if asked and not hits and asked.isdecimal() and int(asked) < len(names):
        return int(asked)
    if len(hits) == 1:
        return hits[0]
    if asked:
        problem = f"{GUIDE_CHANNEL_VARIABLE}={asked!r} names {'several' if hits else 'none'} of the channels"
        raise MatchError(f"{problem} {listed}. Set it to the index of the channel the keeper shall read.")
    problem = f"The keeper reads the channel {wanted!r}, which {'several' if hits else 'none'} of this dataset's"
    raise MatchError(
        f"{problem} channels is called ({listed}). Name the one that shows the same contrast: "
        f"export {GUIDE_CHANNEL_VARIABLE}=NAME_OR_INDEX"
    )


def guide_channels(names: Sequence[str], header: KeeperHeader, *, override: str | None = None) -> tuple[int, ...]:
    """Return the indices of the channels that the keeper reads, in its order: :func:`guide_channel` for each.

    Of several, ``override`` names or counts all of them, with commas between them.

    Raises:
        MatchError: as :func:`guide_channel`; not as many as the keeper reads, or one twice.
    """
    inputs = header.inputs
    if len(inputs) == 1:
        return (guide_channel(names, header.channel, override=override),)
    asked = [one.strip() for one in (override or "").split(",")] if (override or "").strip() else [None] * len(inputs)
    wanted = ", ".join(one.channel for one in inputs)
    if len(asked) != len(inputs):
        raise MatchError(
            f"{GUIDE_CHANNEL_VARIABLE}={override!r} names {len(asked)} channels, the keeper reads {len(inputs)} "
            f"({wanted}). Set it to as many names or indices, in this order, with commas between them."
        )
    found = tuple(guide_channel(names, one.channel, override=name) for one, name in zip(inputs, asked, strict=True))
    if len(set(found)) != len(found):
        raise MatchError(
            f"{GUIDE_CHANNEL_VARIABLE}={override!r} names a channel twice, but the keeper reads {len(inputs)} "
            f"different ones ({wanted}). Set it to their names or indices, in this order, with commas between them."
        )
    return found


def spacing_ratio(spacing: Sequence[float], keeper_spacing: Sequence[float], *, configuration: str) -> list[float]:
    """Return configuration spacing / keeper spacing per axis (both in mm); exactly 1.0 where within 10 %.

    Raises:
        MatchError: an axis differs by more than a factor of 8, or the resized patch has 64 times the voxels.
    """
    ratios = [float(here) / float(there) for here, there in zip(spacing, keeper_spacing, strict=True)]
    too_far = any(max(ratio, 1 / ratio) > MAX_SPACING_RATIO for ratio in ratios)
    if too_far or math.prod(ratios) > MAX_VOXEL_GROWTH:
        raise MatchError(
            f"Configuration {configuration} has a spacing of {_by(spacing)} mm, the keeper {_by(keeper_spacing)} mm: "
            f"too far apart to resize between them. {_PRETRAIN_THERE}"
        )
    near = SPACING_TOLERANCE * (1 + 1e-9)
    return [1.0 if max(ratio, 1 / ratio) <= near else ratio for ratio in ratios]


def match(
    *,
    header: KeeperHeader,
    configuration: str,
    settings: Mapping[str, Any],
    plans: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
) -> tuple[tuple[int, ...], list[float]]:
    """Hold a keeper against one configuration; return guide channels, in the keeper's order, and spacing ratio.

    Args:
        header: the keeper's.
        configuration: its name, for messages.
        settings: the configuration's entries in the plans, inheritance resolved.
        plans: for the axes, which all configurations share.
        dataset_json: of the dataset the plans are for.

    Raises:
        MatchError: what differs, and how to proceed.
    """
    dim = len(settings["patch_size"])
    if header.dim != dim:
        raise MatchError(
            f"Configuration {configuration} is {dim}D, the keeper {header.dim}D. Use a keeper of {dim} dimensions."
        )
    require_guide(header)
    if plans["image_reader_writer"] not in READERS:
        raise MatchError(
            f"The plans read images with {plans['image_reader_writer']}, which need not give the keeper's axes "
            f"({header.axis_order}). Set 'overwrite_image_reader_writer' in dataset.json to {' or '.join(READERS)} and "
            "plan again."
        )
    if list(plans["transpose_forward"]) != list(header.transpose_forward):
        raise MatchError(
            f"The plans turn the image axes by transpose_forward {list(plans['transpose_forward'])}, the keeper's by "
            f"{list(header.transpose_forward)}: it would see the anatomy rotated. {_PRETRAIN_THERE}"
        )
    names = channel_names(dataset_json)
    schemes, masks = settings["normalization_schemes"], settings["use_mask_for_norm"]
    if not len(schemes) == len(masks) == len(names):
        raise MatchError(
            f"dataset.json names {len(names)} channels, configuration {configuration} normalises {len(schemes)}. "
            "Plan the dataset again (nnUNetv2_plan_experiment)."
        )
    guides = guide_channels(names, header, override=os.environ.get(GUIDE_CHANNEL_VARIABLE))
    for guide, wanted in zip(guides, header.inputs, strict=True):
        here, there = (schemes[guide], bool(masks[guide])), (wanted.normalisation, wanted.use_mask_for_norm)
        if here != there:
            raise MatchError(
                f"Channel {names[guide]!r} of configuration {configuration} is normalised by {_scheme(here)}, the "
                f"keeper's input by {_scheme(there)}: its intensities would mean something else. {_PRETRAIN_THERE}"
            )
    return guides, spacing_ratio(settings["spacing"], header.spacing_mm, configuration=configuration)


def require_guide(header: KeeperHeader) -> None:
    """MatchError for a keeper that can enhance but not guide."""
    reason = why_no_guide(header.network, header.architecture)
    if reason is not None:
        raise MatchError(
            f"The keeper trained on {header.dataset} ({header.configuration}, fold {header.fold}) can enhance but not "
            f"guide: {reason}. Name another keeper: one of {who_makes_guides()}."
        )


def overlapping_cases(training_cases: Iterable[str], cases: Iterable[str]) -> list[str]:
    """Return, sorted, those of ``cases`` that a keeper was trained on (by identifier, case-insensitively).

    A segmentation score on such a case is no held-out score. Identifiers are all there is to compare: the same subject
    under another name goes unnoticed.
    """
    known = {case.casefold() for case in training_cases}
    return sorted(case for case in cases if case.casefold() in known)


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _scheme(scheme: tuple[str, bool]) -> str:
    return f"{scheme[0]} ({'inside the non-zero mask' if scheme[1] else 'over the whole image'})"
