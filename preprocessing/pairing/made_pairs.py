"""Datasets of pairs of which a model makes one half: written complete, or not at all (ours)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

import nnunet_uhf
from nnunet_uhf.imageio.output import working_folder
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset

CONVERTER = "pseudo-pairs"


def write_made_pairs(
    output: Path,
    *,
    true: Mapping[str, Path],
    make: Callable[[Path, Path], object],
    channels: tuple[str, str],
    true_half: int,
    dataset: Path,
    description: Mapping[str, Any],
    block: Mapping[str, Any],
    record: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Path:
    """Write true scans with what a model makes of them, and the labels of the true ones.

    Args:
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        true: scans by case.
        make: called with a folder of them, `CASE.nii.gz`, and the one where their images have to be, of the same names.
        channels: names of the source's and of the target's.
        true_half: which of them is true, 0 or 1.
        dataset: raw dataset that the scans are of.
        description: its dataset.json.
        block: the `uhf` object of the new one.
        record: what its record says beside how it was made.
        console: shows progress when given.

    Returns:
        `output`.
    """
    ending = str(description["file_ending"])
    with working_folder(output) as temporary:
        given, folder = temporary / "given", temporary / "made"
        given.mkdir()
        for case, path in true.items():
            shutil.copyfile(path, given / f"{case}{ending}")
        make(given, folder)
        made = {case: folder / f"{case}{ending}" for case in true}
        halves = (true, made) if true_half == 0 else (made, true)
        write_segmentation_dataset(
            output,
            channels=dict(zip(channels, halves, strict=True)),
            labels={case: dataset / "labelsTr" / f"{case}{ending}" for case in true},
            label_names=description["labels"],
            uhf=dict(block),
            record={
                "format": 1,
                "package_version": nnunet_uhf.__version__,
                "converter": CONVERTER,
                "dataset": dataset.name,
                **(record or {}),
            },
            console=console,
        )
    return output
