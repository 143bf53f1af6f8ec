"""The structures of a segmentation: its labels or regions, as nnU-Net reads them from dataset.json, and their sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError


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
class Labels:
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


def names_of_values(labels: Labels) -> dict[int, str]:
    """The structure of each foreground value; of several regions that hold it, the smallest."""
    names: dict[int, str] = {}
    for structure in sorted(labels.structures, key=lambda structure: len(structure.values)):
        for value in structure.values:
            if value > 0:
                names.setdefault(value, structure.name)
    return names


def read_structures(dataset_json: Mapping[str, Any], *, where: Path) -> Labels:
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
    return Labels(found, manager.ignore_label)


def structures_of_values(values: Iterable[int]) -> Labels:
    """One structure a label value other than 0, where no dataset.json names them.

    Raises:
        UHFError: there is none.
    """
    found = tuple(Structure(f"label {value}", (value,)) for value in sorted(set(values) - {0}))
    if not found:
        raise UHFError("The reference label maps are all empty: give the folder of the true label maps (-ref)")
    return Labels(found)


_NEW_WORD = re.compile(r"(?<=[a-zà-ÿ])(?=[A-ZÀ-Þ])")
#: Words in a class name that tell its side, without regard to case.
SIDE_WORDS = {"left": "left", "l": "left", "lh": "left", "right": "right", "r": "right", "rh": "right"}


def class_names(dataset_json: Mapping[str, Any], label_manager: Any) -> list[str]:
    """Return the names of a model's output channels, in the order of its probabilities.

    Labels: background and every class, by value. Regions: every region, in the order of dataset.json.
    """
    named = {name: value for name, value in dataset_json["labels"].items() if name != "ignore"}
    if label_manager.has_regions:
        return [name for name, value in named.items() if value not in (0, [0])]
    return sorted(named, key=lambda name: int(named[name][0] if isinstance(named[name], list) else named[name]))


def side_and_name(name: str) -> tuple[str | None, str]:
    """Take a class name apart: ``Left-Putamen``, ``putamen_L``, ``LeftPutamen`` -> (``left``, ``putamen``).

    A name with no word for a side, or with several, has none. A capital behind a small letter begins a word.
    """
    words = re.split(r"[\W_]+", _NEW_WORD.sub("_", name).casefold())
    sides = [word for word in words if word in SIDE_WORDS]
    if len(sides) != 1:
        return None, " ".join(words)
    return SIDE_WORDS[sides[0]], " ".join(word for word in words if word != sides[0])


def tells_sides_apart(names: Iterable[str]) -> bool:
    """Whether label names speak of left and right: ``Left-Putamen``, ``hippocampus_R``, or ``lhipp`` with ``rhipp``."""
    given = list(names)
    return any(side_and_name(name)[0] is not None for name in given) or bool(left_and_right(given))


def left_and_right(names: Iterable[str]) -> list[tuple[str, str]]:
    """Name of the left and of the right one of every structure that has both, in the order of the left ones.

    Names without a word for a side are a pair where they differ by it alone: ``leftputamen`` and ``rightputamen``, or
    by one letter at an end, ``lhipp`` and ``rhipp``.
    """
    by_side: dict[str | None, dict[str, str]] = {"left": {}, "right": {}, None: {}}
    for name in names:
        side, bare = side_and_name(name)
        by_side[side].setdefault(bare, name)
    found = [(name, by_side["right"][bare]) for bare, name in by_side["left"].items() if bare in by_side["right"]]
    rest = by_side[None]
    for bare, name in rest.items():
        twins = [bare.replace("left", "right")]
        twins += [f"r{bare[1:]}"] if bare.startswith("l") else []
        twins += [f"{bare[:-1]}r"] if bare.endswith("l") else []
        found += [(name, rest[twin]) for twin in twins if twin != bare and len(twin) > 2 and twin in rest][:1]
    return found
