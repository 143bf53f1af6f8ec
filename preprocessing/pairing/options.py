"""How pairs of scans are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nnunet_uhf.preprocessing.pairing.case_table import PairFiles
from nnunet_uhf.preprocessing.pairing.masks import MaskSource
from nnunet_uhf.preprocessing.pairing.registration import MotionKind
from nnunet_uhf.types import Spacing

Side = Literal["lf", "hf"]


@dataclass(frozen=True)
class PairingOptions:
    """How pairs are made.

    Attributes:
        registration: `rigid`, `affine`, or `none` for scans that share a grid.
        grid: the scan that keeps its grid and its voxels; the other is interpolated onto it, once.
        slicewise: register slice k with slice k in its plane, for stacks of a few matching slices.
        n4: scans whose bias field is removed.
        mask: where a mask comes from when none is given.
        spacing_lf: voxel size in mm in place of the stored one, for cases that name none of their own.
        spacing_hf: likewise.
        seed: >= 0, of the voxels that registration looks at.
        labels_on: the scan that given masks and label maps were drawn on; needed where both scans have one stored grid
            and are registered, since the grid does not tell then.
    """

    registration: MotionKind = "rigid"
    grid: Side = "hf"
    slicewise: bool = False
    n4: tuple[Side, ...] = ()
    mask: MaskSource = "nonzero"
    spacing_lf: Spacing | None = None
    spacing_hf: Spacing | None = None
    seed: int = 0
    labels_on: Side | None = None

    def spacing(self, side: Side, files: PairFiles) -> Spacing | None:
        """The voxel size in mm that replaces the stored one of a case: the case's own, or that of all."""
        if side == "lf":
            return files.spacing_lf or self.spacing_lf
        return files.spacing_hf or self.spacing_hf

    @property
    def moving(self) -> Side:
        """The scan that is interpolated onto the other's grid."""
        return "lf" if self.grid == "hf" else "hf"
