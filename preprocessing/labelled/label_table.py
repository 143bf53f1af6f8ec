"""From the label numbers of a source to the consecutive values that nnU-Net wants, and never by a guess."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from scipy.ndimage import distance_transform_edt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.label_maps import whole_numbers
from nnunet_uhf.preprocessing.labelled.source_image import SourceImage
from nnunet_uhf.preprocessing.labelled.structures import LEFT, RIGHT, without_side
from nnunet_uhf.types import LabelArray

HIGHEST_NUMBER = 65535


@dataclass(frozen=True)
class LabelTable:
    """Which structure each number of a source stands for.

    Attributes:
        structures: names in the order of their new values 1, 2, ...
        numbers: source number -> structure; -> None for the background; or -> a name without its side
            (``Putamen``, where the structures are ``Left-Putamen`` and ``Right-Putamen``): such voxels go to the
            side of the nearest voxel that has one. 0 is the background.
    """

    structures: tuple[str, ...]
    numbers: Mapping[int, str | None]

    @classmethod
    def of_numbers(cls, numbers: Mapping[int, str | None], *, where: Path) -> LabelTable:
        """Structures in the order of their numbers; numbers of one name are one structure.

        Raises:
            UHFError: none of them has a name.
        """
        numbers = {number: name for number, name in numbers.items() if number}
        structures = tuple(dict.fromkeys(name for name in numbers.values() if name is not None))
        if not structures:
            raise UHFError(f"{where} names no structure: give at least one number a name")
        return cls(structures, numbers)

    @classmethod
    def of_file(cls, mapping: Path) -> LabelTable:
        """The structures that a user's mapping names.

        Raises:
            UHFError: the file is no mapping, or names nothing.
        """
        return cls.of_numbers(read_mapping(mapping), where=mapping)

    @property
    def label_names(self) -> dict[str, int]:
        """nnU-Net's `labels`: background 0, then the structures."""
        return {"background": 0, **{name: value for value, name in enumerate(self.structures, 1)}}

    def merged(self) -> LabelTable:
        """The same with left and right as one."""
        structures = tuple(dict.fromkeys(without_side(name) for name in self.structures))
        return LabelTable(structures, {n: name and without_side(name) for n, name in self.numbers.items()})

    def overruled(self, mapping: Path | None) -> LabelTable:
        """The same with the numbers of a user's JSON file ``{"71": "Left-Cerebellum-Cortex", "46": null}``, if any.

        Raises:
            UHFError: the file is unreadable, or names what is none of the structures.
        """
        if mapping is None:
            return self
        changes = read_mapping(mapping)
        known = {*self.structures, *self._sideless()}
        for number, name in changes.items():
            if name is not None and name not in known:
                raise UHFError(
                    f"{mapping} maps {number} to {name!r}, which is none of the structures: use null or one of "
                    f"{', '.join(self.structures)}"
                )
        return dataclasses.replace(self, numbers={**self.numbers, **changes})

    def apply(self, source: SourceImage) -> LabelArray:
        """New label values of a label map, uint8 (int16 beyond 255 structures), in the source's axis order.

        Raises:
            UHFError: fractional or negative values, or a number that the table does not have.
        """
        numbers = label_numbers(source)
        present = np.flatnonzero(np.bincount(numbers.ravel(), minlength=1))
        unknown = [int(number) for number in present if number and int(number) not in self.numbers]
        if unknown:
            others = f" (and {', '.join(map(str, unknown[1:11]))})" if unknown[1:] else ""
            raise UHFError(
                f"{source.path} holds label {unknown[0]}{others}, which the table does not know: "
                "say what it is in a JSON file (--mapping)"
            )
        values = self.label_names
        lookup: LabelArray = np.zeros(
            int(present.max(initial=0)) + 1, dtype=np.uint8 if len(values) <= 256 else np.int16
        )
        unsided: list[tuple[int, str]] = []
        for number in map(int, present):
            name = self.numbers.get(number)
            if name is not None and name in values:
                lookup[number] = values[name]
            elif name is not None:
                unsided.append((number, name))
        labels: LabelArray = lookup[numbers]
        given = labels.copy()
        for number, name in unsided:
            labels[numbers == number] = self._nearest_side(source, given, numbers == number, name)
        return labels

    def _sideless(self) -> set[str]:
        """Names without a side that stand for a pair."""
        pairs = {name.removeprefix(LEFT) for name in self.structures if name.startswith(LEFT)}
        return {name for name in pairs if RIGHT + name in self.structures}

    def _nearest_side(
        self, source: SourceImage, labels: LabelArray, where: npt.NDArray[np.bool_], name: str
    ) -> LabelArray:
        """Value of the left or the right structure `name`, whichever has the nearest voxel (in mm)."""
        values = self.label_names
        sides = np.isin(labels, (values[LEFT + name], values[RIGHT + name]))
        if not sides.any():
            raise UHFError(f"{source.path} has {name} without a side and none with one: say where it goes (--mapping)")
        nearest = distance_transform_edt(
            ~sides, sampling=voxel_sizes(source.affine), return_distances=False, return_indices=True
        )
        return labels[tuple(axis[where] for axis in nearest)]


def read_mapping(path: Path) -> dict[int, str | None]:
    """Numbers and names of a user's JSON file, in the order of the numbers; None is the background.

    Raises:
        UHFError: no such file, no JSON object, a key that is no number, a value that is neither name nor null.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UHFError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UHFError(f'{path} is no JSON: write {{"1": "CSF", "2": "GM", "77": null}}') from error
    if not isinstance(content, dict) or not content:
        raise UHFError(f'{path} is no JSON object: write {{"1": "CSF", "2": "GM", "77": null}}')
    mapping: dict[int, str | None] = {}
    for key, name in content.items():
        if not key.strip().isdecimal() or int(key) > HIGHEST_NUMBER:
            raise UHFError(f"{path} has the key {key!r}: use label numbers from 0 to {HIGHEST_NUMBER}")
        mapping[int(key)] = _structure_name(path, key, name)
    return dict(sorted(mapping.items()))


def _structure_name(path: Path, key: str, name: Any) -> str | None:
    """A name, or None for what is background."""
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip():
        raise UHFError(f"{path} maps {key} to {name!r}: use the name of a structure, or null for background")
    return None if name.strip().lower() == "background" else name.strip()


def label_numbers(source: SourceImage) -> npt.NDArray[np.int32]:
    """Label numbers of a file as integers; UHFError for fractional, negative or huge ones."""
    numbers = whole_numbers(source.path, source.data)
    if numbers.min() < 0 or numbers.max() > HIGHEST_NUMBER:
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise UHFError(f"{source.path} holds label {wrong}: labels are whole numbers from 0 to {HIGHEST_NUMBER}")
    return numbers
