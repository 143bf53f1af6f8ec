"""Probability maps of cerebrospinal fluid, grey and white matter from label maps or from the user's own maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_uhf.errors import UHFError
from nnunet_uhf.types import FloatArray

TissueLabels = Mapping[str, int | Sequence[int]]
TISSUES = ("csf", "gm", "wm")
#: Values of label maps where nobody names others.
TISSUE_VALUES = {tissue: value for value, tissue in enumerate(TISSUES, start=1)}
FREESURFER_RIGHT = frozenset({41, 42})  # white matter and cortex: what tells its numbers from tissues 1, 2 and 3


class TissueMaps(NamedTuple):
    """Probabilities in [0, 1], float32, one grid, sum at most 1.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import TissueMaps
        >>> half = np.full((4, 4), 0.5, dtype=np.float32)
        >>> TissueMaps(csf=0 * half, gm=half, wm=half).total().mean().item()
        1.0
    """

    csf: FloatArray
    gm: FloatArray
    wm: FloatArray

    def map(self, function: Callable[[FloatArray], FloatArray]) -> TissueMaps:
        """The same function applied to each map."""
        return TissueMaps(function(self.csf), function(self.gm), function(self.wm))

    def total(self) -> FloatArray:
        """Probability of brain (any of the three)."""
        return self.csf + self.gm + self.wm


def parse_tissue_labels(text: str) -> dict[str, tuple[int, ...]]:
    """Read "csf=1,gm=2,wm=3"; several labels of a tissue are joined by +, as in "csf=4+5+24,gm=3,wm=2".

    Raises:
        UHFError: anything else.
    """
    try:
        parsed = {
            name.strip().lower(): tuple(int(value) for value in values.split("+"))
            for name, values in (part.split("=") for part in text.split(","))
        }
    except ValueError as error:
        raise UHFError(f"tissue labels {text!r} are not readable: write them like csf=1,gm=2,wm=3") from error
    check_tissue_labels(parsed)
    return parsed


def tissues_from_labels(labels: npt.NDArray[np.number], mapping: TissueLabels, *, smoothing: float = 0.0) -> TissueMaps:
    """One-hot tissue maps from a label map.

    Args:
        labels: label map, any shape.
        mapping: label value(s) of `csf`, `gm` and `wm`; other labels count as outside the brain.
        smoothing: sigma in voxels of a Gaussian that softens the hard borders, >= 0; 0 leaves them hard.

    Raises:
        UHFError: a tissue that is not named, a label named twice, no grey or no white matter in the map, or a map in
            FreeSurfer's numbers with a mapping that is not.

    Examples:
        >>> import numpy as np
        >>> from nnunet_uhf import tissues_from_labels
        >>> maps = tissues_from_labels(np.array([0, 1, 2, 2, 3, 13]), {"csf": 1, "gm": 2, "wm": (3, 13)})
        >>> maps.wm.tolist()
        [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    """
    check_tissue_labels(mapping)
    if not 0 <= smoothing < float("inf"):
        raise UHFError(f"tissue smoothing is {smoothing}: use 0 or a sigma in voxels > 0")
    if not FREESURFER_RIGHT & named_labels(mapping) and np.isin(labels, list(FREESURFER_RIGHT)).any():
        raise UHFError("holds labels 41 or 42, right white matter and cortex of FreeSurfer: use --tissues freesurfer")
    maps = one_hot_tissues(labels, mapping)
    for tissue in ("gm", "wm"):
        if not getattr(maps, tissue).any():
            numbers = " or ".join(map(str, sorted(named_labels({tissue: mapping[tissue]}))))
            raise UHFError(f"no voxel has label {numbers} ({tissue}): check which labels are csf, gm and wm")
    return maps.map(lambda array: ndimage.gaussian_filter(array, smoothing)) if smoothing else maps


def one_hot_tissues(labels: npt.NDArray[np.number], mapping: TissueLabels) -> TissueMaps:
    """One-hot tissue maps of any part of a label map, also of one that shows no brain; nothing is checked."""

    def mask(values: int | Sequence[int]) -> FloatArray:
        found = labels == values if isinstance(values, int) else np.isin(labels, list(values))
        return found.astype(np.float32)

    return TissueMaps(*(mask(mapping[tissue]) for tissue in TISSUES))


def tissues_from_probabilities(*, csf: FloatArray, gm: FloatArray, wm: FloatArray) -> TissueMaps:
    """Tissue maps from the user's own probability maps.

    Raises:
        UHFError: unequal shapes, values outside [0, 1], or a sum above 1 (1 % is left for rounding).
    """
    maps = TissueMaps(*(np.asarray(array, dtype=np.float32) for array in (csf, gm, wm)))
    if not maps.csf.shape == maps.gm.shape == maps.wm.shape:
        shapes = ", ".join(str(array.shape) for array in maps)
        raise UHFError(f"tissue probability maps have shapes {shapes}: bring them to one grid")
    for tissue, array in zip(TISSUES, maps, strict=True):
        if not (array.min() >= -0.01 and array.max() <= 1.01):
            raise UHFError(
                f"tissue map {tissue} ranges from {array.min():g} to {array.max():g}: give probabilities, 0 to 1"
            )
    if maps.total().max() > 1.01:
        raise UHFError(f"tissue probabilities add up to {maps.total().max():.3g}: their sum must not exceed 1")
    return maps.map(lambda array: array.clip(0, 1))


def check_tissue_labels(mapping: TissueLabels) -> None:
    """Make sure that a mapping names exactly csf, gm and wm, and no label twice; UHFError else."""
    if set(mapping) != set(TISSUES):
        raise UHFError(f"tissue labels name {sorted(mapping)}: name csf, gm and wm, for example csf=1,gm=2,wm=3")
    count = sum(1 if isinstance(labels, int) else len(labels) for labels in mapping.values())
    if len(named_labels(mapping)) != count:
        raise UHFError(f"tissue labels {dict(mapping)} give one label to two tissues: name each label once")


def named_labels(mapping: TissueLabels) -> frozenset[int]:
    """All label values of a mapping."""
    return frozenset(v for labels in mapping.values() for v in ([labels] if isinstance(labels, int) else labels))
