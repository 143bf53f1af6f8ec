"""FreeSurfer's label numbers (aseg, aparc+aseg, wmparc, SynthSeg) -> cerebrospinal fluid, grey and white matter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.low_field.tissues import TISSUE_VALUES, TissueMaps, tissues_from_labels

# Value of each tissue in what `tissue_classes` returns, and the mapping that `tissues_from_labels` takes

# Numbers of FreeSurferColorLUT.txt, left and right. Brain stem, ventral diencephalon and optic chiasm count as white
# matter, deep nuclei as grey matter, the choroid plexus as fluid, which it lies in (ours, as is common).
_CSF = (4, 5, 14, 15, 24, 31, 43, 44, 63, 72)
# The label maps that SynthSeg was trained on call the choroid plexus 136, 137 and 163, 164 (SynthSeg issue 119).
_CSF_SYNTHSEG = (136, 137, 163, 164)
_GM = (
    *(3, 8, 9, 10, 11, 12, 13, 17, 18, 19, 26),  # left
    *(42, 47, 48, 49, 50, 51, 52, 53, 54, 55, 58),  # right
    *(80, 81, 82),  # hypointensities outside the white matter
    *range(1000, 1036),  # cortex of the Desikan-Killiany parcellations
    *range(2000, 2036),
    *range(11100, 11176),  # cortex of the Destrieux parcellation
    *range(12100, 12176),
)
_WM = (
    *(2, 7, 16, 28, 41, 46, 60, 85),
    *(25, 57, 77, 78, 79),  # lesions and hypointensities of the white matter
    *(30, 62),  # vessels: thin lines in white matter and putamen, white matter as in FastSurfer
    *range(251, 256),  # corpus callosum
    *range(3000, 3036),  # white matter beneath the parcels (wmparc)
    *range(4000, 4036),
    *(5001, 5002),
)
_CORPUS_CALLOSUM_PARCELS = (1004, 2004)
# Background, and what lies outside the brain in the label maps SynthSeg was trained on
OUTSIDE_BRAIN = frozenset({0, 502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530})

#: label number -> `csf`, `gm` or `wm`
FREESURFER_TISSUES: dict[int, str] = {
    **dict.fromkeys(_CSF + _CSF_SYNTHSEG, "csf"),
    **dict.fromkeys(_GM, "gm"),
    **dict.fromkeys(_WM + _CORPUS_CALLOSUM_PARCELS, "wm"),
}

_RIGHT = (41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 57, 58, 60, 62, 63, 79, 82, 163, 164, 5002)
_LEFT = (2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 17, 18, 19, 25, 26, 28, 30, 31, 78, 81, 136, 137, 5001)
#: label on the right -> its twin on the left
LEFT_TWINS: dict[int, int] = {
    **dict(zip(_RIGHT, _LEFT, strict=True)),
    **{label: label - 1000 for label in (*range(2000, 2036), *range(4000, 4036), *range(12100, 12176))},
}


def tissue_classes(labels: npt.NDArray[np.number]) -> npt.NDArray[np.uint8]:
    """Tissue class of every voxel: 0 outside the brain, CSF 1, GM 2, WM 3; same shape as `labels`.

    Raises:
        UHFError: a number that is not in the table, which is never guessed at.
    """
    values, where = np.unique(labels, return_inverse=True)
    unknown = [value for value in values.tolist() if value not in FREESURFER_TISSUES and value not in OUTSIDE_BRAIN]
    if unknown:
        raise UHFError(
            f"label {unknown[0]:g} is not in the table of FreeSurfer labels ({len(unknown)} such in all): "
            "is it a map of FreeSurfer or SynthSeg? (--tissue-labels names other numbers, where there is that option)"
        )
    table = np.array([TISSUE_VALUES.get(FREESURFER_TISSUES.get(int(value), ""), 0) for value in values], np.uint8)
    return table[where].reshape(labels.shape)


def tissues_from_freesurfer(labels: npt.NDArray[np.number], *, smoothing: float = 0.0) -> TissueMaps:
    """Tissue maps from a label map in FreeSurfer's numbers.

    Args:
        labels: label map, any shape.
        smoothing: sigma in voxels of a Gaussian that softens the hard borders; 0 leaves them hard.

    Raises:
        UHFError: a number that is not in the table, or a map without grey or white matter.
    """
    return tissues_from_labels(tissue_classes(labels), TISSUE_VALUES, smoothing=smoothing)
