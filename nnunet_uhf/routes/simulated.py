"""The route of simulated low-field images: made of high-field images alone, before or while training (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.entries import (
    channel_index,
    channels_of,
    check_entries,
    read_architecture,
    read_judge,
    read_preset,
    read_teacher_kind,
    read_tesla,
)
from nnunet_uhf.routes.simulation import read_simulation
from nnunet_uhf.routes.task import EnhancementTask, Route
from nnunet_uhf.routes.training import read_training

_REQUIRED = ("target", "target_field_T", "simulate")
# the source has no channel, and its field strength may be left to the preset
_OPTIONAL = ("source_field_T", "architecture", "training", "teacher", "judge")


def _read(declared: Mapping[str, Any], dataset_json: Mapping[str, Any], where: str) -> EnhancementTask:
    check_entries(declared, _REQUIRED, _OPTIONAL, where)
    target = channel_index(dataset_json, declared, "target", where)
    channels = len(channels_of(dataset_json, where))
    if channels != 1:
        raise UHFError(
            f"{where}: uhf.simulate makes the source from a dataset of one channel, this one has {channels}; "
            "make a dataset of the target channel alone"
        )
    simulation = read_simulation(declared["simulate"], where=where)
    return EnhancementTask(
        source=simulation.source,
        target=str(declared["target"]),
        source_channel=target,
        target_channel=target,
        source_field_T=read_tesla(declared, "source_field_T", where) if "source_field_T" in declared else None,
        target_field_T=read_tesla(declared, "target_field_T", where),
        route=SIMULATED.name,
        architecture=read_architecture(declared, where),
        preset=read_preset(declared, where),
        training=read_training(declared, where),
        teacher=read_teacher_kind(declared, where),
        judge=read_judge(declared, where),
        simulation=simulation,
    )


SIMULATED = Route(
    name="simulated",
    taught=lambda low, high: f"SIMULATED low-field images ({low}) of scans at {high}, not on real low-field scans",
    low_field="SIMULATED low-field images",
    entry="simulate",
    read=_read,
    stored=True,
    trainers="UHFTeacherTrainer and UHFKeeperTrainer, or SIQTTrainer",
)
