"""The route of pairs: two channels of one dataset, scans of the same subjects at two field strengths (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.checks import is_plain, is_text
from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.entries import (
    channel_index,
    check_entries,
    read_architecture,
    read_judge,
    read_preset,
    read_teacher_kind,
    read_tesla,
)
from nnunet_uhf.routes.task import EnhancementTask, Route
from nnunet_uhf.routes.training import read_training

_REQUIRED = ("source", "target", "source_field_T", "target_field_T")
_OPTIONAL = ("route", "simulation", "made_by", "architecture", "training", "teacher", "judge")


def _read(declared: Mapping[str, Any], dataset_json: Mapping[str, Any], where: str) -> EnhancementTask:
    if "mode" in declared:
        raise UHFError(
            f"{where}: uhf.mode is not for pairs of scans: nnU-Net resamples both to one grid before a trainer sees "
            'them. Thick slices ("native") are trained from high-field images alone, with uhf.simulate'
        )
    check_entries(declared, _REQUIRED, _OPTIONAL, where)
    simulated_by = declared.get("simulation")
    if simulated_by is not None and not (isinstance(simulated_by, Mapping) and is_plain(simulated_by, 4)):
        raise UHFError(f"{where}: uhf.simulation has to be the record of a simulation, as convert paired writes it")
    made_by = declared.get("made_by")
    if made_by is not None and not _is_maker(made_by):
        raise UHFError(f"{where}: uhf.made_by has to name a model and its training_cases, as pseudo-pairs writes it")
    source, target = (channel_index(dataset_json, declared, role, where) for role in ("source", "target"))
    if source == target:
        raise UHFError(
            f"{where}: uhf.source and uhf.target are both channel {declared['source']!r}; a keeper learns from one "
            "channel to another (to study a teacher of the same field, add a copy of the channel under its own name)"
        )
    return EnhancementTask(
        source=str(declared["source"]),
        target=str(declared["target"]),
        source_channel=source,
        target_channel=target,
        source_field_T=read_tesla(declared, "source_field_T", where),
        target_field_T=read_tesla(declared, "target_field_T", where),
        route=declared.get("route", PAIRED.name),
        simulated_by=simulated_by,
        made_by=made_by,
        architecture=read_architecture(declared, where),
        preset=read_preset(declared, where),
        training=read_training(declared, where),
        teacher=read_teacher_kind(declared, where),
        judge=read_judge(declared, where),
    )


def _is_maker(value: object) -> bool:
    cases = value.get("training_cases") if isinstance(value, Mapping) else None
    return isinstance(value, Mapping) and is_plain(value, 4) and isinstance(cases, list) and all(map(is_text, cases))


PAIRED = Route(
    name="paired",
    taught=lambda low, high: f"paired scans at {low} and {high}",
    read=_read,
    stored=True,
    trainers="UHFTeacherTrainer and UHFKeeperTrainer, or SIQTTrainer",
)
