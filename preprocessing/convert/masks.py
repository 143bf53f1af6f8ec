"""The label map of a case: given, or a mask made from the scan."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.convert.foreground import Mask, brain_of_stripped, foreground
from nnunet_uhf.preprocessing.nifti import Volume, read_volume

#: `nonzero`: the brain, of scans that are zero outside it; `head`: everything above the background.
MaskSource = Literal["nonzero", "head"]


def mask_of_scan(scan: Volume, source: MaskSource) -> Mask:
    """A mask made from the scan itself.

    Raises:
        UHFError: `nonzero` of a scan that is not skull-stripped.
    """
    return brain_of_stripped(scan) if source == "nonzero" else foreground(scan.data)


def mask_labels(source: MaskSource, *, given: bool) -> dict[str, int]:
    """Label names of a mask: what is made by `head` is not called a brain."""
    return {"background": 0, "brain" if given or source == "nonzero" else "head": 1}


def read_mask(path: Path) -> Volume:
    """A mask file; whatever is not 0 is inside.

    Raises:
        UHFError: unreadable or empty.
    """
    mask = read_volume(path)
    if not mask.data.any():
        raise UHFError(f"{path} is an empty mask: draw it or leave the case out")
    return Volume((mask.data != 0).astype(np.float32), mask.affine, mask.header, path)
