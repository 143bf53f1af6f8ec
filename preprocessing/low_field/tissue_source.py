"""Where the tissue maps of a scan come from: label maps, probability maps, or the scan itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nibabel.affines import voxel_sizes

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import CHANNEL_SUFFIX, nifti_of
from nnunet_uhf.imageio.label_maps import inside, label_volume
from nnunet_uhf.imageio.nifti import Volume, read_volume, require_same_grid
from nnunet_uhf.imageio.stripped import require_stripped
from nnunet_uhf.preprocessing.low_field.deep_grey import mixed_by_intensity
from nnunet_uhf.preprocessing.low_field.freesurfer import tissues_from_freesurfer
from nnunet_uhf.preprocessing.low_field.mixture import T1W_BRIGHTNESS, mixture_means, tissues_from_mixture
from nnunet_uhf.preprocessing.low_field.simulator import TissueMeans
from nnunet_uhf.preprocessing.low_field.tissues import (
    TISSUE_VALUES,
    TISSUES,
    TissueLabels,
    TissueMaps,
    tissues_from_labels,
    tissues_from_probabilities,
)

#: Numbers of SPM's tissue classes, and its and CAT12's names of maps on the scan's own grid.
SPM_NUMBERS = {"gm": 1, "wm": 2, "csf": 3}
SPM_PATTERNS = ("c{number}{name}", "p{number}{name}")

TissueKind = Literal["labels", "freesurfer", "gmm"]
GreyKind = Literal["labels", "mixed"]


@dataclass(frozen=True, kw_only=True)
class TissueSource:
    """How the tissues of each scan are found.

    Attributes:
        kind: `labels` (label maps in the numbers of `numbers`, or probability maps), `freesurfer` (label maps in
            FreeSurfer's numbers) or `gmm` (mixture of three Gaussians in the brain).
        folder: label or probability maps, CASE.nii.gz or CASE_csf, CASE_gm, CASE_wm or, as SPM and CAT12 write them,
            c3CASE, c1CASE, c2CASE or p3CASE, p1CASE, p2CASE; not used with `gmm`.
        numbers: label values of csf, gm and wm, of kind `labels`.
        smoothing: sigma in voxels by which label maps are softened.
        masks: brain masks CASE.nii.gz of kind `gmm`; without them the brain is what is not zero.
        brightness: tissues of kind `gmm`, darkest first.
        seed: of kind `gmm`.
        grey: `labels`: grey matter is what is labelled so; `mixed`: deep grey matter that is as bright as white matter
            belongs to it by its intensity (:mod:`.deep_grey`). Of kind `gmm` it does in any case.

    Raises:
        UHFError: options that do not belong together.
    """

    kind: TissueKind = "labels"
    folder: Path | None = None
    numbers: TissueLabels = field(default_factory=lambda: dict(TISSUE_VALUES))
    smoothing: float = 0.0
    masks: Path | None = None
    brightness: tuple[str, ...] = T1W_BRIGHTNESS
    seed: int = 0
    grey: GreyKind = "labels"

    def __post_init__(self) -> None:
        if self.kind not in get_args(TissueKind):
            raise UHFError(f"tissues are {self.kind!r}: use {', '.join(get_args(TissueKind))}")
        if self.kind == "gmm":
            if self.folder is not None:
                raise UHFError(f"tissue labels {self.folder} are not used with tissues gmm: leave one of them out")
            if self.smoothing:
                raise UHFError("tissue smoothing is for label maps; those of gmm are soft already: leave it out")
        elif self.folder is None:
            raise UHFError("no folder of tissue label maps is given: name it (--labels), or use tissues gmm")
        elif self.masks is not None:
            raise UHFError(f"brain masks {self.masks} are used with tissues gmm only: leave them out")

    def files(self, case: str, image: Path) -> dict[str, Path]:
        """Files that the tissues of a case are read from, on the image's grid; UHFError when one is missing."""
        if self.kind != "gmm":
            assert self.folder is not None  # see __post_init__
            found = _find_maps(case, image, self.folder, only_labels=self.kind == "freesurfer")
        elif self.masks is not None:
            found = {"mask": _find_mask(case, image, self.masks)}
        else:
            found = {}
        for path in found.values():
            require_same_grid(image, path)
        return found

    def read(self, files: Mapping[str, Path], image: Volume) -> TissueMaps:
        """Tissue maps of one case; UHFError, with the file's name, when it has none."""
        read = {name: label_volume if name == "labels" else read_volume for name in files}
        arrays = {name: read[name](path).data for name, path in files.items()}
        if self.kind == "gmm" and "mask" not in arrays:
            require_stripped(image)
        try:
            if self.kind == "gmm":
                mask = inside(arrays["mask"]) if "mask" in arrays else None
                return tissues_from_mixture(image.data, mask, brightness=self.brightness, seed=self.seed)
            if self.kind == "freesurfer":
                maps = tissues_from_freesurfer(arrays["labels"], smoothing=self.smoothing)
            elif "labels" in arrays:
                maps = tissues_from_labels(arrays["labels"], self.numbers, smoothing=self.smoothing)
            else:
                maps = tissues_from_probabilities(**arrays)
            if self.grey == "mixed":
                return mixed_by_intensity(image.data, maps, [float(step) for step in voxel_sizes(image.affine)])
            return maps
        except UHFError as error:
            raise UHFError(f"{next(iter(files.values()), image.path)}: {error}") from error

    def means(self, image: Volume, tissues: TissueMaps) -> TissueMeans | None:
        """Tissue means of kind `gmm`; None where the simulator takes them from its own slices."""
        if self.kind != "gmm":
            return None
        try:
            return mixture_means(image.data, tissues)
        except UHFError as error:
            raise UHFError(f"{image.path}: {error}") from error

    def record(self) -> dict[str, Any]:
        """The choice as JSON, without what does not apply."""
        if self.kind == "gmm":
            return {
                "tissues": "gmm",
                "brain_mask": "nonzero voxels" if self.masks is None else "given",
                "brightness": list(self.brightness),
                "tissue_seed": self.seed,
            }
        numbers = {"tissue_labels": dict(self.numbers)} if self.kind == "labels" else {}
        return {"tissues": self.kind, **numbers, "tissue_smoothing": self.smoothing, "grey": self.grey}


def _find_maps(case: str, image: Path, folder: Path, *, only_labels: bool) -> dict[str, Path]:
    """The label map ("labels") or the three probability maps of a case."""
    if not folder.is_dir():
        raise UHFError(f"{folder} is not a folder: name the folder that holds the tissue label maps")
    names = _names_of(case)
    for name in names:
        if (found := nifti_of(folder, name)) is not None:
            return {"labels": found}
    for name in () if only_labels else names:
        for pattern in ("{name}_{tissue}", *SPM_PATTERNS):
            wanted = {each: pattern.format(name=name, tissue=each, number=SPM_NUMBERS[each]) for each in TISSUES}
            maps = {tissue: nifti_of(folder, file) for tissue, file in wanted.items()}
            complete = {tissue: path for tissue, path in maps.items() if path is not None}
            if len(complete) == len(TISSUES):
                return complete
            if complete:
                missing = next(wanted[tissue] for tissue in TISSUES if tissue not in complete)
                raise UHFError(f"{folder} holds some probability maps of {name} but no {missing}.nii.gz: add it")
    raise UHFError(f"{folder} holds no tissue labels {case}.nii.gz for {image}: add them or remove the image")


def _find_mask(case: str, image: Path, folder: Path) -> Path:
    """The brain mask of a case."""
    if not folder.is_dir():
        raise UHFError(f"{folder} is not a folder: name the folder that holds the brain masks")
    found = next((path for name in _names_of(case) if (path := nifti_of(folder, name)) is not None), None)
    if found is None:
        raise UHFError(f"{folder} holds no brain mask {case}.nii.gz for {image}: add it or remove the image")
    return found


def _names_of(case: str) -> list[str]:
    """Names that a file belonging to a case may have: with and without nnU-Net's channel suffix."""
    return list(dict.fromkeys([case, CHANNEL_SUFFIX.sub("", case)]))
