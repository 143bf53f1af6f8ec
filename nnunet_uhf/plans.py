"""The ``uhf`` block of nnU-Net plans: made from a keeper that fits, written under a plans name of its own.

The block lives inside the configuration (``plans["configurations"][name]["uhf"]``): nnU-Net's inheritance carries
it to cascades, plans.json and checkpoints carry it to inference. Design: ours.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import MatchError, UHFError
from nnunet_uhf.guided_block import FORMAT
from nnunet_uhf.keeper_file import keeper_files, read_header, read_keeper
from nnunet_uhf.keeper_header import KeeperHeader
from nnunet_uhf.keeper_networks import DEFAULT_NETWORK, why_no_guide
from nnunet_uhf.matching import (
    GUIDE_CHANNEL_VARIABLE,
    match,
    match_notes,
    overlapping_cases,
    require_guide,
    spacing_ratio,
)
from nnunet_uhf.nnunet_files import dataset_name, read_json, root_folder
from nnunet_uhf.presets import DEFAULT_PRESET, PRESETS, guidance_preset
from nnunet_uhf.whole_file import written_whole

__all__ = [
    "GUIDE_CHANNEL_VARIABLE",
    "attach",
    "checked_plans_name",
    "configuration_settings",
    "guided_plans",
    "match_notes",
    "overlapping_cases",
    "select_keeper",
    "write_new_plans",
    "write_plans",
]

_PLAN_FIRST = "run nnUNetv2_plan_and_preprocess first, or name other plans (-p)"
_PLANS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def select_keeper(paths: Sequence[str | Path], *, dim: int, spacing: Sequence[float] | None = None) -> KeeperHeader:
    """Return the header of the one keeper of ``dim`` dimensions; among several, the one whose spacing fits within 10 %.

    Files that can enhance but not guide are passed over where there is another one. Copies of the same weights count
    as one.

    Args:
        paths: keeper files, as :func:`nnunet_uhf.keeper_file.find_keepers` gives them.
        dim: 2 or 3.
        spacing: of the configuration, in mm, transposed axis order; decides between several keepers.

    Raises:
        MatchError: none fits, or it is undecided which of several shall be used.
        KeeperFileError: a file is no keeper file.
    """
    if not paths:
        raise MatchError("No keeper file is given. Set nnUNet_UHF_KKN to a keeper file or a folder of them.")
    headers = {Path(path): read_header(path) for path in paths}
    fitting = {path: header for path, header in headers.items() if header.dim == dim}
    if not fitting:
        listed = ", ".join(f"{path} ({header.dim}D)" for path, header in headers.items())
        raise MatchError(f"No keeper for {dim}D among {listed}. Add one to nnUNet_UHF_KKN.")
    guides = {path: h for path, h in fitting.items() if why_no_guide(h.network, h.architecture) is None}
    if not guides:
        require_guide(next(iter(fitting.values())))
    exact = {
        path: header for path, header in guides.items() if spacing is not None and _is_exact(spacing, header.spacing_mm)
    }
    return guides[_only_one(exact or guides, f"{dim}D")]


def attach(
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    header: KeeperHeader,
    *,
    preset: str | None = None,
) -> dict[str, Any]:
    """Return the guided ``uhf`` block that ties a keeper to one configuration; ``plans`` stay untouched.

    The guide channel goes by name; the environment variable ``nnUNet_UHF_GUIDE_CHANNEL`` (name or index) decides
    where names differ. What a log should say of the fit: :func:`nnunet_uhf.matching.match_notes`. Without ``preset``
    the environment variable ``nnUNet_UHF_PRESET`` names it, else it is the reference.

    Raises:
        MatchError: what differs between keeper and configuration, and how to proceed.
        UHFError: there is no such preset.
    """
    chosen = guidance_preset(preset)
    settings = configuration_settings(plans, configuration)
    guide, ratio = match(
        header=header,
        configuration=configuration,
        settings=settings,
        plans=plans,
        dataset_json=dataset_json,
    )
    return {
        "format": FORMAT,
        "role": "guided",
        "preset": chosen,
        "keeper": {
            **({} if header.network == DEFAULT_NETWORK else {"network": header.network}),
            "architecture": json.loads(json.dumps(header.architecture)),
            "sha256": header.sha256,
            "provenance": header.provenance(),
        },
        "guide_channel": guide,
        "spacing_ratio": ratio,
        "fusion": dict(PRESETS[chosen].fusion),
    }


def configuration_settings(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return a configuration's settings with nnU-Net's inheritance resolved (a copy).

    Raises:
        MatchError: the plans have no such configuration.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    if configuration not in plans["configurations"]:
        available = ", ".join(plans["configurations"])
        raise MatchError(
            f"Plans {plans['plans_name']} have no configuration {configuration!r}. Choose among: {available}"
        )
    settings: dict[str, Any] = PlansManager(dict(plans)).get_configuration(configuration).configuration
    return settings


def write_plans(
    dataset: str | int,
    configurations: Sequence[str],
    keepers: Sequence[str | Path],
    *,
    source_plans: str = "nnUNetPlans",
    output_name: str | None = None,
    preset: str | None = None,
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
        output_name: name of the new plans; by default the source's, ``_KKN_`` and 8 digits of the keepers' hashes,
            and ``_efficient`` with that preset.
        preset: of the fusion modules; by default that of the environment, else the reference.
        reserve: make room for the guidance within the memory planned, see :mod:`nnunet_uhf.reserve`.

    Returns:
        The path of the new plans file.

    Raises:
        UHFError: no such dataset or plans, an unusable name, a keeper that does not fit, or another file is there.
    """
    if not configurations:
        raise UHFError("No configuration is named. Name those to guide, for example: -c 2d 3d_fullres")
    name = dataset_name(dataset)
    folder = root_folder("nnUNet_preprocessed") / name
    plans = read_json(folder / f"{source_plans}.json", advice=_PLAN_FIRST)
    dataset_json = read_json(folder / "dataset.json", advice=_PLAN_FIRST)
    guided = [key for key, entry in plans["configurations"].items() if "uhf" in entry]
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
        reserve=reserve,
    )
    return write_new_plans(folder, new)


def guided_plans(
    plans: Mapping[str, Any],
    configurations: Sequence[str],
    keepers: Sequence[str | Path],
    *,
    dataset_json: Mapping[str, Any],
    source_plans: str,
    output_name: str | None = None,
    preset: str | None = None,
    reserve: bool = False,
) -> dict[str, Any]:
    """Return a copy of plans with a fitting keeper attached to each named configuration, under a name of its own.

    Raises:
        UHFError: an unusable name, a damaged keeper file, or a keeper that does not fit.
    """
    chosen = guidance_preset(preset)
    files = {path: read_keeper(path).header for place in keepers for path in keeper_files(place)}
    blocks = {key: _fitting_block(plans, key, dataset_json, files, chosen) for key in configurations}
    new = copy.deepcopy(dict(plans))
    for key, block in blocks.items():
        new["configurations"][key]["uhf"] = {**block, "source_plans": source_plans}
    hashes = sorted({block["keeper"]["sha256"] for block in blocks.values()})
    digits = (hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest())[:8]
    suffix = "" if chosen == DEFAULT_PRESET else f"_{chosen}"
    new["plans_name"] = checked_plans_name(output_name or f"{source_plans}_KKN_{digits}{suffix}")
    if not reserve:
        return new
    from nnunet_uhf.reserve import with_room

    return with_room(new, configurations, dataset_json)


def _is_exact(spacing: Sequence[float], keeper_spacing: Sequence[float]) -> bool:
    try:
        return all(ratio == 1.0 for ratio in spacing_ratio(spacing, keeper_spacing, configuration=""))
    except MatchError:
        return False


def _only_one(keepers: Mapping[Path, KeeperHeader], what: str) -> Path:
    if len({header.sha256 for header in keepers.values()}) > 1:
        listed = ", ".join(str(path) for path in keepers)
        raise MatchError(f"Several different keepers fit {what}: {listed}. Name only the one to use.")
    return next(iter(keepers))


def _fitting_block(
    plans: Mapping[str, Any],
    configuration: str,
    dataset_json: Mapping[str, Any],
    files: Mapping[Path, KeeperHeader],
    preset: str,
) -> dict[str, Any]:
    """Return the block of the one keeper that fits; of several, of the one at the configuration's own spacing."""
    dim = len(configuration_settings(plans, configuration)["patch_size"])
    candidates = {path: header for path, header in files.items() if header.dim == dim}
    if not candidates:
        listed = ", ".join(f"{path} ({header.dim}D)" for path, header in files.items()) or "no file"
        raise MatchError(f"Configuration {configuration} is {dim}D, but no keeper given is: {listed}. Add one.")
    blocks: dict[Path, dict[str, Any]] = {}
    refusals: list[str] = []
    for path, header in candidates.items():
        try:
            blocks[path] = attach(plans, configuration, dataset_json, header, preset=preset)
        except MatchError as error:
            refusals.append(f"{path}: {error}")
    if not blocks:
        raise MatchError(f"No keeper fits configuration {configuration}. {' '.join(refusals)}")
    exact = [path for path, block in blocks.items() if all(ratio == 1.0 for ratio in block["spacing_ratio"])]
    chosen = _only_one({path: candidates[path] for path in exact or blocks}, f"configuration {configuration}")
    return blocks[chosen]


def checked_plans_name(name: str) -> str:
    """Return the name, or raise UHFError where nnU-Net or a file system could not take it."""
    # nnU-Net takes folder names apart at "__"; names reach the file system
    if "__" in name or not _PLANS_NAME.fullmatch(name):
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
    try:
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UHFError(f"{path} cannot be written ({error.strerror}). Check space and rights.") from None
    return path
