"""What is compared of a segmentation: its labels or regions, as nnU-Net reads them from dataset.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError
from nnunet_uhf.view_classes import class_names

MEAN = "mean"
"""Name of the mean over all structures."""


@dataclass(frozen=True)
class Structure:
    """A label, or a region of several; `values` are those of the label maps."""

    name: str
    values: tuple[int, ...]

    def mask(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Where a label map (*S) holds the structure."""
        if len(self.values) == 1:
            return np.asarray(labels == self.values[0])
        return np.isin(labels, self.values)


@dataclass(frozen=True)
class Task:
    """The structures of a dataset, and the label value that stands for "not annotated", if it has one."""

    structures: tuple[Structure, ...]
    ignore: int | None = None

    @property
    def foreground(self) -> frozenset[int]:
        """The label values that belong to a structure."""
        return frozenset(value for structure in self.structures for value in structure.values) - {0}

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Those of a label map's values that are no structure, not the background and not the ignore label."""
        return sorted(set(values) - self.foreground - {0, self.ignore})


def read_structures(dataset_json: Mapping[str, Any], *, where: Path) -> Task:
    """The foreground of a dataset: its regions where it has any, else its labels, in the order of dataset.json.

    Args:
        dataset_json: its content.
        where: the file, for messages.

    Raises:
        UHFError: nnU-Net cannot read the labels.
    """
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    try:
        manager = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
        names = class_names(dataset_json, manager)
        values = manager.foreground_regions if manager.has_regions else manager.all_labels
        named = [
            Structure(name, tuple(int(each) for each in (value if isinstance(value, list | tuple) else [value])))
            for name, value in zip(names, values, strict=True)
        ]
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UHFError(f"{where}: 'labels' are not as nnU-Net wants them; correct the file") from error
    found = tuple(structure for structure in named if structure.values != (0,))
    if not found:
        raise UHFError(f"{where} names no label but the background; correct 'labels'")
    if any(structure.name.casefold() == MEAN for structure in found):
        raise UHFError(f"{where} calls a label {MEAN!r}, which the report uses for the mean of all; rename it")
    return Task(found, manager.ignore_label)


def structures_of_values(values: Iterable[int]) -> Task:
    """One structure a label value other than 0, where no dataset.json names them.

    Raises:
        UHFError: there is none.
    """
    found = tuple(Structure(f"label {value}", (value,)) for value in sorted(set(values) - {0}))
    if not found:
        raise UHFError("The reference label maps are all empty: give the folder of the true label maps (-ref)")
    return Task(found)
