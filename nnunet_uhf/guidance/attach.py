"""A keeper tied to a configuration: the block that says how it guides, and what a log should say of the fit (ours)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_uhf.guidance.block import GuidedBlock, KeeperEntry
from nnunet_uhf.guidance.matching import match
from nnunet_uhf.guidance.provenance import Provenance
from nnunet_uhf.imageio.orientation import MIXED
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.networks.presets import PRESETS, guidance_preset
from nnunet_uhf.nnunet.files import configuration_settings

#: Instance norms and the gate look at the whole patch: a patch of another extent shifts the features.
EXTENT_TOLERANCE = 1.5


def attach(
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    header: KeeperHeader,
    *,
    preset: str | None = None,
) -> GuidedBlock:
    """Return the guided ``uhf`` block that ties a keeper to one configuration; ``plans`` stay untouched.

    Guide channels go by name; the environment variable ``nnUNet_UHF_GUIDE_CHANNEL`` (name or index; of several with
    commas between them) decides where names differ. What a log should say of the fit: :func:`match_notes`. Without
    ``preset`` the environment variable ``nnUNet_UHF_PRESET`` names it, else it is the reference.

    Raises:
        MatchError: what differs between keeper and configuration, and how to proceed.
        UHFError: there is no such preset.
    """
    chosen = guidance_preset(preset)
    guides, ratio = match(
        header=header,
        configuration=configuration,
        settings=configuration_settings(plans, configuration),
        plans=plans,
        dataset_json=dataset_json,
    )
    keeper = KeeperEntry(
        architecture=json.loads(json.dumps(header.architecture)),
        network=header.network,
        sha256=header.sha256,
        provenance=Provenance(header.provenance()),
    )
    return GuidedBlock(
        preset=chosen,
        keeper=keeper,
        guide_channels=guides,
        spacing_ratio=ratio,
        fusion=dict(PRESETS[chosen].fusion),
        fusion_rate=PRESETS[chosen].fusion_rate,
    )


def orientation_note(origin: Provenance, stored: Mapping[str, int]) -> str | None:
    """What to say where a keeper would see anatomy turned; None where it sees what it knows, or nobody can tell.

    Args:
        origin: of the keeper.
        stored: how many of the cases to be guided are stored in which orientation.
    """
    learnt = origin.orientation
    others = {codes: count for codes, count in stored.items() if codes != learnt}
    if learnt is None or not others:
        return None
    listed = ", ".join(f"{codes} ({count} of {sum(stored.values())} cases)" for codes, count in stored.items())
    if learnt == MIXED:
        if len(stored) == 1:
            return None
        return (
            f"WARNING: the images are stored in several orientations, {listed}, and nnU-Net takes them as they are. "
            "Store all in one."
        )
    return (
        f"WARNING: the keeper learnt from images stored in {learnt}, this dataset's are stored in {listed}, and "
        "nnU-Net takes them as they are: the keeper sees the anatomy turned. Store all images and labels in "
        f"{learnt}, those to predict, too, and preprocess again; or pretrain a keeper on images stored as these."
    )


def match_notes(block: GuidedBlock, *, spacing: Sequence[float], patch_size: Sequence[int]) -> list[str]:
    """Return what a log should say of how a keeper fits a configuration of that spacing (mm) and patch size."""
    origin, notes = block.keeper.provenance, []
    if origin.spacing_mm is None or origin.patch_size is None:
        return []
    if any(ratio != 1.0 for ratio in block.spacing_ratio):
        notes.append(
            f"The keeper was trained at {_by(origin.spacing_mm)} mm, this configuration has {_by(spacing)} mm: "
            f"inside the network the guide channel is resized by {_by(block.spacing_ratio)} to the keeper's spacing."
        )
    extent = [size * step for size, step in zip(patch_size, spacing, strict=True)]
    trained = [size * step for size, step in zip(origin.patch_size, origin.spacing_mm, strict=True)]
    if any(max(a / b, b / a) > EXTENT_TOLERANCE for a, b in zip(extent, trained, strict=True)):
        notes.append(
            f"The keeper was trained on patches of {_by(trained)} mm, this configuration's are {_by(extent)} mm: its "
            "features depend on how much of the head it sees. A keeper pretrained on this dataset's plans fits better."
        )
    return notes


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
