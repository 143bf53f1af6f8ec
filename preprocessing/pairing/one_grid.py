"""One pair of scans, registered and brought on one grid with its mask or label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.label_maps import label_volume
from nnunet_uhf.imageio.nifti import require_same_grid, write_labels, write_volume
from nnunet_uhf.preprocessing.pairing.alignment import Alignment, measure_alignment
from nnunet_uhf.preprocessing.pairing.bias_field import without_bias_field
from nnunet_uhf.preprocessing.pairing.case_table import PairFiles
from nnunet_uhf.preprocessing.pairing.geometry import read_scan, with_spacing
from nnunet_uhf.preprocessing.pairing.link import Link, connect
from nnunet_uhf.preprocessing.pairing.masks import mask_of_scan, read_mask
from nnunet_uhf.preprocessing.pairing.options import PairingOptions, Side
from nnunet_uhf.preprocessing.pairing.slicewise import aligned_stacks


def register_pair(files: PairFiles, options: PairingOptions) -> tuple[Link, Alignment]:
    """Read, correct and register one pair, and measure how it fits."""
    scans = {
        "lf": read_scan(files.lf, spacing=options.spacing("lf", files)),
        "hf": read_scan(files.hf, spacing=options.spacing("hf", files)),
    }
    for side in options.n4:
        scans[side] = without_bias_field(scans[side])
    reference, moving = scans[options.grid], scans[options.moving]
    link = connect(reference, moving, kind=options.registration, slicewise=options.slicewise, seed=options.seed)
    alignment = measure_alignment(
        reference.data,
        link.bring(link.moving.data),
        link.before(),
        reach=link.reach(),
        spacing=voxel_sizes(reference.affine),
        motions=link.motions(),
    )
    return link, alignment


def write_on_one_grid(folder: Path, files: PairFiles, link: Link, options: PairingOptions) -> dict[str, Path]:
    """Files on the grid of the reference; where nothing was changed, the source itself."""
    folder.mkdir()
    paths: dict[str, Path] = {}
    for side, scan in zip((options.grid, options.moving), (link.reference, link.moving), strict=True):
        moved = scan is link.moving and bool(link.transforms)
        source = files.files[side]
        replaced = side in options.n4 or options.spacing(side, files) is not None
        if moved or replaced:
            data = link.bring(scan.data) if moved else scan.data
            paths[side] = folder / f"{side}.nii.gz"
            write_volume(paths[side], data, header=link.reference.header)
        else:
            paths[side] = source
    labels = _labels(files, link, options)
    paths["labels"] = folder / "labels.nii.gz"
    write_labels(paths["labels"], labels, header=link.reference.header)
    return paths


def _labels(files: PairFiles, link: Link, options: PairingOptions) -> np.ndarray[Any, np.dtype[Any]]:
    """Mask or label map on the reference's grid; given ones may lie on the grid of either scan."""
    path = files.mask or files.labels
    if path is None:
        return mask_of_scan(link.reference, options.mask)
    given = read_mask(path) if files.mask is not None else label_volume(path)
    if _drawn_on(path, files, link, options) == options.grid:
        return given.data
    if link.axis is not None:
        given, _ = aligned_stacks(link.reference, with_spacing(given, options.spacing(options.moving, files)))
    return link.bring(given.data, nearest=True)


def _drawn_on(path: Path, files: PairFiles, link: Link, options: PairingOptions) -> Side:
    """The scan that a mask or label map was drawn on: the one with its grid, or the one that the user names."""
    sides: tuple[Side, Side] = ("hf", "lf")
    fits = [side for side in sides if _on_grid_of(path, files.files[side])]
    if not fits:
        raise UHFError(f"{path} lies on the grid of neither {files.lf.name} nor {files.hf.name}: resample it to one")
    if options.labels_on is not None:
        if options.labels_on not in fits:
            scan = files.files[options.labels_on]
            raise UHFError(f"{path} does not lie on the grid of {scan}, where --labels-on has it: name the other scan")
        return options.labels_on
    if len(fits) > 1 and link.transforms:
        raise UHFError(f"{path} has the grid of both scans, which are registered: name its own (--labels-on lf or hf)")
    return options.grid if options.grid in fits else fits[0]


def _on_grid_of(labels: Path, scan: Path) -> bool:
    """Whether two files have one grid as they are stored."""
    try:
        require_same_grid(scan, labels)
    except UHFError:
        return False
    return True
