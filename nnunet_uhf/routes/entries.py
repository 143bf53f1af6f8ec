"""Entries of the `uhf` object of dataset.json that several routes have; errors name the file and the entry (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.checks import is_text
from nnunet_uhf.errors import MatchError, UHFError
from nnunet_uhf.networks.kinds import all_sizes
from nnunet_uhf.networks.presets import DEFAULT_PRESET, PRESETS
from nnunet_uhf.nnunet.dataset_json import channel_names


def check_entries(
    declared: Mapping[str, Any], required: tuple[str, ...], optional: tuple[str, ...], where: str
) -> None:
    """UHFError unless the `uhf` object has all of the required entries and no unknown ones."""
    missing = [name for name in required if name not in declared]
    if missing:
        raise UHFError(f'{where}: the "uhf" object lacks {", ".join(missing)}; add it')
    unknown = sorted(set(declared) - set(required) - set(optional))
    if unknown:
        with_simulate = ' with "simulate"' if "simulate" in declared else ""
        raise UHFError(
            f'{where}: the "uhf" object{with_simulate} has unknown entries {", ".join(unknown)}; '
            f"known are {', '.join(required + optional)}"
        )


def channels_of(dataset_json: Mapping[str, Any], where: str) -> list[str]:
    """Names of the channels by index; UHFError when dataset.json does not give them."""
    try:
        return channel_names(dataset_json)
    except MatchError as error:
        raise UHFError(f"{where}: {error}") from error


def channel_index(dataset_json: Mapping[str, Any], declared: Mapping[str, Any], role: str, where: str) -> int:
    """Index of the channel that `uhf.<role>` names, whatever its case; UHFError unless there is exactly one."""
    names = channels_of(dataset_json, where)
    wanted = str(declared[role])
    found = [index for index, name in enumerate(names) if name.lower() == wanted.lower()]
    if len(found) != 1:
        problem = "names no channel" if not found else f"names {len(found)} channels"
        raise UHFError(f"{where}: uhf.{role} = {wanted!r} {problem}; channel_names has {', '.join(map(repr, names))}")
    return found[0]


TEACHERS = ("image", "segmentation")
"""What a keeper's teacher has learnt: to make high-field images of their maps, or to label them."""


def read_teacher_kind(declared: Mapping[str, Any], where: str) -> str:
    """The teacher that `uhf.teacher` names, else the first of :data:`TEACHERS`; UHFError when there is no such one."""
    teacher = declared.get("teacher", TEACHERS[0])
    if teacher not in TEACHERS:
        raise UHFError(f"{where}: uhf.teacher is {teacher!r:.80}; choose one of {', '.join(TEACHERS)}")
    return str(teacher)


def read_judge(declared: Mapping[str, Any], where: str) -> str | None:
    """The model folder that `uhf.judge` names, as it stands there; None without; UHFError for what is none."""
    judge = declared.get("judge")
    if judge is not None and not is_text(judge, longest=4096):
        raise UHFError(
            f"{where}: uhf.judge is {judge!r:.80}; give the folder of a finished nnU-Net segmentation model, whole or "
            "from nnUNet_results on"
        )
    return None if judge is None else str(judge)


def read_tesla(declared: Mapping[str, Any], name: str, where: str) -> float:
    """The field strength that `uhf.<name>` gives; UHFError for what is none."""
    value = declared[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UHFError(f"{where}: uhf.{name} is {value!r}; give the field strength in read_tesla as a number above 0")
    return float(value)


def read_architecture(declared: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Sizes that `uhf.architecture` sets, those of its preset filled in; UHFError for others than a network has."""
    architecture = declared.get("architecture", {})
    known = all_sizes() | {"preset"}
    if not isinstance(architecture, Mapping) or not set(architecture) <= known:
        raise UHFError(
            f"{where}: uhf.architecture is {architecture!r}; it is an object that may set {', '.join(sorted(known))}"
        )
    options = {name: value for name, value in architecture.items() if name != "preset"}
    preset = PRESETS[read_preset(declared, where)]
    return {**preset.keeper, **preset.teacher, **options}


def read_preset(declared: Mapping[str, Any], where: str) -> str:
    """The preset that `uhf.architecture` names, else the default one; UHFError when there is none of that name."""
    name: str = declared.get("architecture", {}).get("preset", DEFAULT_PRESET)
    if name not in list(PRESETS):
        raise UHFError(f"{where}: uhf.architecture.preset is {name!r}; choose one of {', '.join(PRESETS)}")
    return name
