"""All routes by name, and the reading of the `uhf` object of dataset.json that asks for one (ours).

To add one: a file beside this one, a line in :data:`ROUTES`, and a source of pairs for the trainers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.routes.paired import PAIRED
from nnunet_uhf.routes.simulated import SIMULATED
from nnunet_uhf.routes.task import EnhancementTask, Route

ROUTES: dict[str, Route] = {
    route.name: route
    for route in (
        PAIRED,
        SIMULATED,
        # known from headers of keepers only
        Route(name="unpaired", taught=lambda low, high: f"unpaired scans at {low} and {high}", entry="unpaired"),
        Route(name="unicoal", taught=lambda low, high: f"unicoal scans at {low} and {high}"),
    )
}


def read_task(dataset_json: Mapping[str, Any], *, dataset: str) -> EnhancementTask:
    """Read and check `dataset_json["uhf"]`.

    Raises:
        UHFError: names the field of dataset.json that is missing, unknown or does not fit.
    """
    where = f"dataset.json of {dataset} (the copies in nnUNet_raw and nnUNet_preprocessed)"
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


def stored_routes() -> list[str]:
    """What pairs of scans on the disk may say of how they came about, as `uhf.route`."""
    return [route.name for route in ROUTES.values() if route.stored]


def is_of_pairs(declared: object) -> bool:
    """Whether a `uhf` object names two channels of the same subjects; :func:`read_task` says what is wrong with it."""
    return isinstance(declared, Mapping) and not any(route.entry in declared for route in ROUTES.values())
