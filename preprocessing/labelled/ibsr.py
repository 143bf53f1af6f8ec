"""IBSR18 (Internet Brain Segmentation Repository V2.0, skull-stripped NIfTI) -> raw nnU-Net dataset.

Layout: ``IBSR_XX/IBSR_XX_ana_strip.nii.gz`` and ``IBSR_XX/IBSR_XX_segTRI_ana.nii.gz`` with CSF 1, GM 2, WM 3; the
files are 4D with one volume. In ``segTRI_fill_ana``, holes inside the brain mask are filled with CSF.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nnunet_uhf.preprocessing.labelled.label_table import LabelTable
from nnunet_uhf.preprocessing.labelled.scans import (
    DEFAULTS,
    Conversion,
    ConversionOptions,
    LabelledScan,
    leave_out_incomplete,
    write_labelled_scans,
)
from nnunet_uhf.preprocessing.labelled.tree import files_by_case

IBSR_TABLE = LabelTable(("CSF", "GM", "WM"), {1: "CSF", 2: "GM", 3: "WM"})
IMAGE = re.compile(r"(IBSR_\d{2})_ana_strip\.nii(?:\.gz)?", re.IGNORECASE)
LABELS = re.compile(r"(IBSR_\d{2})_segTRI_ana\.nii(?:\.gz)?", re.IGNORECASE)
FILLED = re.compile(r"(IBSR_\d{2})_segTRI_fill_ana\.nii(?:\.gz)?", re.IGNORECASE)


def convert_ibsr(
    source: Path,
    output: Path,
    *,
    filled: bool = False,
    channel: str = "T1w",
    options: ConversionOptions = DEFAULTS,
    console: Console | None = None,
) -> Conversion:
    """Write a dataset of CSF, GM and WM.

    Args:
        source: folder that holds the IBSR_XX folders.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        filled: take ``segTRI_fill_ana``; without it, only where a subject has no ``segTRI_ana``.
        channel: name of the channel.
        options: what every layout has; test subjects are IBSR_10 or 10.
        console: shows a progress bar when given.

    Raises:
        UHFError: one line on the file and what to do.
    """
    images, plain, fill = (files_by_case(source, pattern) for pattern in (IMAGE, LABELS, FILLED))
    labels = fill if filled else {**fill, **plain}
    wanted = "segTRI_fill_ana" if filled else "segTRI_ana"
    scans: dict[str, LabelledScan] = {}
    problems: dict[str, str] = {}
    for case in sorted({*images, *plain, *fill}):
        if case not in images:
            problems[case] = f"{source} holds labels of {case} but no {case}_ana_strip.nii.gz"
        elif case not in labels:
            problems[case] = f"{images[case]} has no label map {case}_{wanted}.nii.gz"
        else:
            scans[case] = LabelledScan({channel: images[case]}, labels[case])
    warnings = leave_out_incomplete(problems, options, layout="IBSR", found=len(scans))
    replaced = [case for case in scans if case not in plain]
    if not filled and replaced and len(replaced) < len(scans):
        warnings.append(f"{', '.join(replaced)}: segTRI_fill_ana in place of segTRI_ana, unlike the others")
    tests = [name if name in scans or not name.isdecimal() else f"IBSR_{int(name):02d}" for name in options.test]
    return write_labelled_scans(
        output,
        layout="IBSR18",
        scans=scans,
        table=IBSR_TABLE.overruled(options.mapping),
        options=replace(options, test=tests),
        warnings=warnings,
        console=console,
    )
