"""nnU-Net plans that carry a keeper: a block made from one that fits, written under a plans name of its own (ours)."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.attach import orientation_note
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.guidance.keeper_files import KeeperFiles
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.networks.presets import DEFAULT_PRESET, LARGEST_FUSION_RATE, guidance_preset, is_fusion_rate
from nnunet_uhf.nnunet.files import PLAN_FIRST, configuration_settings, dataset_name, read_json, root_folder
from nnunet_uhf.nnunet.model_folder import SEPARATOR
from nnunet_uhf.nnunet.orientation import stored_orientations
from nnunet_uhf.nnunet.plans_block import block_of, put_block

_MARK = "_KKN_"
_PLANS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def write_plans(
    dataset: str | int,
    configurations: Sequence[str],
    keepers: Sequence[str | Path],
    *,
    source_plans: str = "nnUNetPlans",
    output_name: str | None = None,
    preset: str | None = None,
    fusion_rate: float | None = None,
    reserve: bool = False,
) -> Path:
    """Write plans with a fitting keeper attached to each named configuration, beside the source plans.

    ``data_identifier`` stays, so preprocessed data are used as they are; ``plans_name`` is new, so no results
    folder is shared with other keepers or with plain nnU-Net. A configuration that inherits from a named one (a
    cascade from 3d_fullres) is guided with it.

    Args:
        dataset: id or name.
        configurations: such as ``2d``, ``3d_fullres``.
        keepers: keeper files or folders of them.
        source_plans: name of the plans to start from.
        output_name: name of the new plans; by default the source's, ``_KKN_``, the configurations, 8 digits of the
            keepers' hashes, and ``_efficient`` with that preset. Equal plans under the name that version 0.1.0 gave
            them, without the configurations, are taken as they are.
        preset: of the fusion modules; by default that of the environment, else the reference.
        fusion_rate: learning rate of the fusion modules; by default the preset's, 0 for the backbone's optimizer.
        reserve: make room for the guidance within the memory planned, see :mod:`nnunet_uhf.guidance.reserve`.

    Returns:
        The path of the new plans file.

    Raises:
        UHFError: no such dataset or plans, an unusable name, a keeper that does not fit, or another file is there.
    """
    if not configurations:
        raise UHFError("No configuration is named. Name those to guide, for example: -c 2d 3d_fullres")
    name = dataset_name(dataset)
    folder = root_folder("nnUNet_preprocessed") / name
    plans = read_json(folder / f"{source_plans}.json", advice=PLAN_FIRST)
    dataset_json = read_json(folder / "dataset.json", advice=PLAN_FIRST)
    guided = [key for key, entry in plans["configurations"].items() if block_of(entry) is not None]
    if guided:
        raise UHFError(
            f"{folder / f'{source_plans}.json'} already has a uhf block in {', '.join(guided)}. "
            "Start from plain plans (-p)."
        )
    new = guided_plans(
        plans,
        configurations,
        keepers,
        dataset_json=dataset_json,
        source_plans=source_plans,
        output_name=output_name,
        preset=preset,
        fusion_rate=fusion_rate,
        reserve=reserve,
    )
    if output_name is None:
        earlier = folder / f"{_earlier_name(new['plans_name'], configurations)}.json"
        if earlier.is_file() and read_json(earlier, advice="remove it") == {**new, "plans_name": earlier.stem}:
            return earlier  # models may have been trained on it
    return write_new_plans(folder, new)


def _default_name(source: str, configurations: Sequence[str], ending: str) -> str:
    return f"{source}{_MARK}{'_'.join(configurations)}_{ending}"


def _earlier_name(name: str, configurations: Sequence[str]) -> str:
    """The name that version 0.1.0 gave such plans: without the configurations."""
    source, _, ending = name.rpartition(_default_name("", configurations, ""))
    return f"{source}{_MARK}{ending}"


def orientation_notes(plans: Path) -> list[str]:
    """What to say of written plans whose keepers would see the preprocessed cases turned, with the configurations."""
    content = read_json(plans, advice="write the plans again")
    notes: dict[str, list[str]] = {}
    for key in content["configurations"]:
        block = GuidedBlock.of(content, key)
        if block is None:
            continue
        folder = plans.parent / str(configuration_settings(content, key)["data_identifier"])
        note = orientation_note(block.keeper.provenance, stored_orientations(folder))
        if note is not None:
            notes.setdefault(note, []).append(key)
    return [f"{', '.join(keys)}: {note}" for note, keys in notes.items()]


def guided_plans(
    plans: Mapping[str, Any],
    configurations: Sequence[str],
    keepers: Sequence[str | Path],
    *,
    dataset_json: Mapping[str, Any],
    source_plans: str,
    output_name: str | None = None,
    preset: str | None = None,
    fusion_rate: float | None = None,
    reserve: bool = False,
) -> dict[str, Any]:
    """Return a copy of plans with a fitting keeper attached to each named configuration, under a name of its own.

    Raises:
        UHFError: an unusable name, a damaged keeper file, or a keeper that does not fit.
    """
    chosen = guidance_preset(preset)
    if fusion_rate is not None and not is_fusion_rate(fusion_rate):
        raise UHFError(f"--fusion-rate {fusion_rate:g}: give a rate from 0 to {LARGEST_FUSION_RATE:g}")
    files = KeeperFiles.in_places(keepers)
    blocks: dict[str, GuidedBlock] = {}
    for key in configurations:
        file, block = files.choose(plans, key, dataset_json, preset=chosen)
        _ = file.content  # plans name no weights that are damaged
        rate = block.fusion_rate if fusion_rate is None else fusion_rate
        blocks[key] = replace(block, source_plans=source_plans, fusion_rate=rate)
    new = copy.deepcopy(dict(plans))
    for key, block in blocks.items():
        put_block(new, key, block.as_json())
    hashes = sorted({block.keeper.sha256 for block in blocks.values()})
    digits = (hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest())[:8]
    suffix = "" if chosen == DEFAULT_PRESET else f"_{chosen}"
    new["plans_name"] = checked_plans_name(
        output_name or _default_name(source_plans, configurations, f"{digits}{suffix}")
    )
    if not reserve:
        return new
    from nnunet_uhf.guidance.reserve import with_room

    return with_room(new, blocks, dataset_json)


def checked_plans_name(name: str) -> str:
    """Return the name, or raise UHFError where nnU-Net or a file system could not take it."""
    # nnU-Net takes folder names apart at "__"; names reach the file system
    if SEPARATOR in name or not _PLANS_NAME.fullmatch(name):
        raise UHFError(
            f"{name!r} cannot be a plans name. Use letters, digits, '.', '-' and single '_' (nnU-Net splits at '__')."
        )
    return name


def write_new_plans(folder: Path, plans: Mapping[str, Any]) -> Path:
    """Write plans whole or not at all, under their name; leave an equal file alone and never replace another.

    Raises:
        UHFError: other plans of that name are there, or the file cannot be written.
    """
    path = folder / f"{plans['plans_name']}.json"
    text = json.dumps(plans, indent=4)
    if path.exists():
        if read_json(path, advice="choose another name (-o)") == json.loads(text):
            return path
        raise UHFError(
            f"{path} exists and differs. Choose another name (-o), or remove it if no model was trained on it."
        )
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
