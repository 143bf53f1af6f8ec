"""In which orientation the arrays of a preprocessed dataset are stored: nnU-Net's readers do not turn images (ours)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.orientation import MIXED, axis_codes
from nnunet_uhf.imageio.place import LPS_TO_RAS
from nnunet_uhf.types import Affine

MOST = 200
"""Cases that are looked at: properties hold places of labels, too, and take a while to read."""


def stored_orientations(folder: Path, cases: Iterable[str] | None = None) -> Counter[str]:
    """How many cases of a preprocessed configuration are stored in which orientation; most frequent first.

    Args:
        folder: of the configuration's data; the properties that nnU-Net keeps beside each case hold its geometry.
        cases: those to count, all by default. What is not there, has no geometry or is no volume counts for nothing;
            of more than :data:`MOST`, as many are looked at, evenly spread.
    """
    names = sorted(path.stem for path in folder.glob("*.pkl")) if cases is None else sorted(cases)
    names = [names[int(place)] for place in np.linspace(0, len(names) - 1, min(MOST, len(names)))]
    found = (_orientation(folder / f"{case}.pkl") for case in names)
    return Counter(dict(Counter(codes for codes in found if codes is not None).most_common()))


def common_orientation(folder: Path, cases: Iterable[str]) -> str | None:
    """The orientation that cases share, "mixed" when they do not, None when it is not known."""
    found = stored_orientations(folder, cases)
    return next(iter(found), None) if len(found) < 2 else MIXED


def mixed_note(folder: Path, cases: Iterable[str]) -> str:
    """What a log should say of a training on cases that are stored in several orientations."""
    listed = ", ".join(f"{codes} ({count})" for codes, count in stored_orientations(folder, cases).items())
    return (
        f"WARNING: the training's images are stored in several orientations, {listed}; scans will not be turned for "
        "this network. Store all in one and preprocess again, for it to know up from front"
    )


def _orientation(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        affine = _affine(load_pickle(str(path)))
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UHFError(f"{path} is damaged: preprocess the dataset again") from error
    return None if affine is None else axis_codes(affine)


def _affine(properties: Mapping[str, Any]) -> Affine | None:
    """(4, 4), index (x, y, z) of the stored voxels to mm right, anterior, superior; place and size left out."""
    if "nibabel_stuff" in properties:
        return np.asarray(properties["nibabel_stuff"]["original_affine"], dtype=np.float64)
    direction = np.asarray(properties.get("sitk_stuff", {}).get("direction", ()), dtype=np.float64)
    if direction.size != 9:
        return None  # a picture, or a single slice
    affine = np.eye(4)
    affine[:3, :3] = direction.reshape(3, 3)
    return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)
