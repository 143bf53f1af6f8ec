"""A folder of images, one a channel, and a folder of label maps with the same names -> raw nnU-Net dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.preprocessing.labelled.label_table import LabelTable, label_numbers
from nnunet_uhf.preprocessing.labelled.scans import (
    DEFAULTS,
    Conversion,
    ConversionOptions,
    LabelledScan,
    leave_out_incomplete,
    write_labelled_scans,
)
from nnunet_uhf.preprocessing.labelled.source_image import read_source

UNNAMED = "label_{}"


def convert_folders(
    images: Sequence[Path],
    labels: Path,
    output: Path,
    *,
    channels: Sequence[str] = ("T1w",),
    image_suffixes: Sequence[str] = (),
    label_suffix: str = "",
    options: ConversionOptions = DEFAULTS,
    console: Console | None = None,
) -> Conversion:
    """Write a dataset; a case is what the files of all folders are called by, apart from ending and suffix.

    Args:
        images: a folder of NIfTI files for each channel.
        labels: folder of the label maps; test cases may have none.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        channels: names of the channels, one for each folder.
        image_suffixes: what stands behind the case in the names of each folder, such as ``_T1w``; empty for nothing.
        label_suffix: the same of the label maps, such as ``_seg``.
        options: what every layout has; without a mapping the structures are called ``label_1`` and so on.
        console: shows progress bars when given.

    Raises:
        UHFError: one line on the file and what to do.
    """
    if len(channels) != len(images):
        raise UHFError(f"{len(images)} folders of images (-i) and {len(channels)} names (--channel): one for each")
    if len(set(channels)) != len(channels):
        raise UHFError(f"--channel names {', '.join(channels)}: each once")
    suffixes = list(image_suffixes) or [""] * len(images)
    if len(suffixes) != len(images):
        raise UHFError(f"{len(images)} folders of images (-i) and {len(suffixes)} --image-suffix: one for each")
    by_channel = {
        channel: _cases(folder, suffix) for channel, folder, suffix in zip(channels, images, suffixes, strict=True)
    }
    maps = _cases(labels, label_suffix)
    scans: dict[str, LabelledScan] = {}
    problems: dict[str, str] = {}
    for case in sorted(set(maps).union(*by_channel.values())):
        missing = [folder for (_, files), folder in zip(by_channel.items(), images, strict=True) if case not in files]
        if missing:
            problems[case] = f"{missing[0]} holds no image of {case}"
        elif case not in maps and case not in options.test:
            problems[case] = f"{labels} holds no label map of {case}"
        else:
            scans[case] = LabelledScan({name: files[case] for name, files in by_channel.items()}, maps.get(case))
    told = leave_out_incomplete(problems, options, layout="labelled", found=len(scans))
    table = LabelTable.of_file(options.mapping) if options.mapping is not None else _unnamed(scans, labels, console)
    if options.mapping is None:
        told.append(f"the structures are called {', '.join(table.structures[:3])}, ..: name them by --mapping")
    return write_labelled_scans(
        output, layout="folders", scans=scans, table=table, options=options, warnings=told, console=console
    )


def _cases(folder: Path, suffix: str) -> dict[str, Path]:
    """Files of a folder by the names before the suffix; others are not of this channel."""
    found = {name.removesuffix(suffix): path for name, path in case_files(folder).items() if name.endswith(suffix)}
    if not found:
        raise UHFError(f"{folder} holds no file whose name ends in {suffix} before .nii.gz or .nii: correct the suffix")
    return found


def _unnamed(scans: dict[str, LabelledScan], folder: Path, console: Console | None) -> LabelTable:
    """A structure for each number that occurs."""
    maps = [scan.labels for scan in scans.values() if scan.labels is not None]
    numbers: set[int] = set()
    for path in maps if console is None else track(maps, description="reading label maps", console=console):
        numbers.update(np.unique(label_numbers(read_source(path))).tolist())
    return LabelTable.of_numbers({number: UNNAMED.format(number) for number in sorted(numbers - {0})}, where=folder)
