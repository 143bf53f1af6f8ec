"""What is written of a scan: its image, the note, and maps beside it that may be asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_name, note_path
from nnunet_uhf.imageio.nifti import write_volume
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.types import Affine, FloatArray

IMAGE, UNCERTAINTY, CHANGES = "image", "uncertainty", "changes"
"""Names of what is written; those of maps stand behind the name of the image, `NAME_changes.nii.gz`."""
OF_AN_ENSEMBLE = "standard deviation over the members of the ensemble, mean over folds; not an error bar"
_CHANGED = "how far the image is from its input with the same histogram, in the image's intensities"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is written beside an image.

    Attributes:
        uncertainty: how far several images of one scan are apart.
        changes: how far the image is from its input, see :func:`nnunet_uhf.inference.changes.change_map`.
        spread_of: what the note says the uncertainty is.
    """

    uncertainty: bool = False
    changes: bool = False
    spread_of: str = OF_AN_ENSEMBLE

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps."""
        asked = {UNCERTAINTY: self.uncertainty, CHANGES: self.changes}
        return tuple(name for name, yes in asked.items() if yes)

    def all_there(self, target: Path) -> bool:
        """Whether nothing of an image is missing."""
        return target.exists() and all(map_path(target, name).exists() for name in self.maps)

    def require_apart(self, targets: Sequence[Path]) -> None:
        """UHFError when a map would lie where the image of another scan does."""
        for name in self.maps:
            twice = sorted(set(targets) & {map_path(target, name) for target in targets})
            if twice:
                raise UHFError(f"{twice[0]} would be an image and the {name} of another one: rename its input")

    def write(
        self,
        target: Path,
        images: Mapping[str, FloatArray],
        note: Mapping[str, Any],
        *,
        scan: Path,
        step: Affine | None = None,
    ) -> None:
        """Write the note first and the image last, so that no image is ever without what belongs to it.

        Args:
            target: where the image lies.
            images: the image and its maps by name, `(X, Y, Z)`.
            note: of the image; maps are told of here.
            scan: whose geometry they have.
            step: voxel index of the image to voxel index of the scan; None on one grid.
        """
        meanings = {UNCERTAINTY: self.spread_of, CHANGES: _CHANGED}
        told = {name: {"file": map_path(target, name).name, "meaning": meanings[name]} for name in self.maps}
        with written_whole(note_path(target)) as temporary:
            temporary.write_text(json.dumps({**note, **told}, indent=2) + "\n")
        header = nibabel.load(scan).header
        for name in (*self.maps, IMAGE):
            with written_whole(target if name == IMAGE else map_path(target, name)) as temporary:
                write_volume(temporary, images[name], header=header, step=step)


def map_path(image: Path, name: str) -> Path:
    """Where a map of an image lies: beside it."""
    case = case_name(image)
    return image.with_name(f"{case}_{name}{image.name[len(case) :]}")
