"""All routes by name, and the reading of the `uhf` object of dataset.json that asks for one (ours).

To add one: a file beside this one, a line in :data:`ROUTES`, and a source of pairs for the trainers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.modalities import MODALITIES
from nnunet_uhf.routes.paired import PAIRED
from nnunet_uhf.routes.simulated import SIMULATED
from nnunet_uhf.routes.task import EnhancementTask, Route, Task
from nnunet_uhf.routes.unpaired import UNPAIRED

TaskOfRoute = TypeVar("TaskOfRoute", bound=Task)

ROUTES: dict[str, Route] = {
    route.name: route
    for route in (
        PAIRED,
        SIMULATED,
        MODALITIES,
        UNPAIRED,
    )
}


def read_task(dataset_json: Mapping[str, Any], *, dataset: str) -> EnhancementTask:
    """Read and check `dataset_json["uhf"]`, which has to be of pairs of images of the same subjects.

    Raises:
        UHFError: names the field of dataset.json that is missing, unknown or does not fit, or who trains on its route.
    """
    return read_task_of(EnhancementTask, dataset_json, dataset=dataset)


def read_task_of(kind: type[TaskOfRoute], dataset_json: Mapping[str, Any], *, dataset: str) -> TaskOfRoute:
    """Read and check `dataset_json["uhf"]`, whose route has to have this kind of task.

    Raises:
        UHFError: as :func:`read_task`.
    """
    task = read_any_task(dataset_json, dataset=dataset)
    if not isinstance(task, kind):
        raise UHFError(f"{_place(dataset)}: this dataset is {task.route}: use {ROUTES[task.route].trainers}")
    return task


def read_any_task(dataset_json: Mapping[str, Any], *, dataset: str) -> Task:
    """Read and check `dataset_json["uhf"]` of whichever route.

    Raises:
        UHFError: names the field of dataset.json that is missing, unknown or does not fit.
    """
    where = _place(dataset)
    declared = dataset_json.get("uhf")
    if not isinstance(declared, Mapping):
        raise UHFError(
            f'{where}: no "uhf" object; add one like {{"source": "LF", "target": "HF", "source_field_T": 0.36, '
            '"target_field_T": 3.0} that names the low-field and the high-field channel'
        )
    asked = [route.read for route in ROUTES.values() if route.read is not None and route.entry in declared]
    if asked:
        return asked[0](declared, dataset_json, where)
    assert PAIRED.read is not None
    task = PAIRED.read(declared, dataset_json, where)
    if task.route not in stored_routes():
        raise UHFError(f"{where}: uhf.route is {task.route!r}; choose one of {', '.join(stored_routes())}")
    return task


def _place(dataset: str) -> str:
    return f"dataset.json of {dataset} (the copies in nnUNet_raw and nnUNet_preprocessed)"


def stored_routes() -> list[str]:
    """What pairs of scans on the disk may say of how they came about, as `uhf.route`."""
    return [route.name for route in ROUTES.values() if route.stored]


def is_of_pairs(declared: object) -> bool:
    """Whether a `uhf` object names two channels of the same subjects; :func:`read_task` says what is wrong with it."""
    return isinstance(declared, Mapping) and not any(route.entry in declared for route in ROUTES.values())
