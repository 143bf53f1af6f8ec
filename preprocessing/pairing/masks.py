"""The label map of a case: given, or a mask made from the scan."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.label_maps import inside
from nnunet_uhf.imageio.nifti import Volume, read_volume
from nnunet_uhf.preprocessing.pairing.foreground import brain_of_stripped, foreground
from nnunet_uhf.preprocessing.pairing.hd_bet import brain_by_hd_bet
from nnunet_uhf.types import Mask

#: `nonzero`: the brain, of scans that are zero outside it; `head`: everything above the background; `hd-bet`: the
#: brain, by HD-BET.
MaskSource = Literal["nonzero", "head", "hd-bet"]


def mask_of_scan(scan: Volume, source: MaskSource) -> Mask:
    """A mask made from the scan itself.

    Raises:
        UHFError: `nonzero` of a scan that is not skull-stripped; HD-BET is not there or fails.
    """
    if source == "hd-bet":
        return brain_by_hd_bet(scan)
    return brain_of_stripped(scan) if source == "nonzero" else foreground(scan.data)


def mask_labels(source: MaskSource, *, given: bool) -> dict[str, int]:
    """Label names of a mask: what is made by `head` is not called a brain."""
    return {"background": 0, "head" if source == "head" and not given else "brain": 1}


def read_mask(path: Path) -> Volume:
    """A mask file; whatever is not 0 is inside.

    Raises:
        UHFError: unreadable or empty.
    """
    mask = read_volume(path)
    found = inside(mask.data)
    if not found.any():
        raise UHFError(f"{path} is an empty mask: draw it or leave the case out")
    return dataclasses.replace(mask, data=found.astype(np.float32))
