"""MICCAI 2012 multi-atlas labelling data -> raw nnU-Net dataset of 27 structures, or of 15 without sides.

Layout: images ``1000_3.nii.gz``, labels ``1000_3_glm.nii.gz``, anywhere below the folder; what lies in a folder whose
name begins with ``test`` (``testing-images``, ``testing-labels`` in the release) are test cases.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nnunet_uhf.preprocessing.labelled.malc_labels import MALC_TABLE
from nnunet_uhf.preprocessing.labelled.scans import (
    DEFAULTS,
    Conversion,
    ConversionOptions,
    LabelledScan,
    leave_out_incomplete,
    write_labelled_scans,
)
from nnunet_uhf.preprocessing.labelled.tree import files_by_case

IMAGE = re.compile(r"(\d{4}_\d+)\.nii(?:\.gz)?", re.IGNORECASE)
LABELS = re.compile(r"(\d{4}_\d+)_glm\.nii(?:\.gz)?", re.IGNORECASE)


def convert_malc(
    source: Path,
    output: Path,
    *,
    merge_sides: bool = False,
    channel: str = "T1w",
    options: ConversionOptions = DEFAULTS,
    console: Console | None = None,
) -> Conversion:
    """Write a dataset of the 27 structures.

    Args:
        source: folder that holds images and labels.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        merge_sides: left and right as one structure, for training in the sagittal plane.
        channel: name of the channel.
        options: what every layout has; test cases are those named and those in the folders for testing.
        console: shows a progress bar when given.

    Raises:
        UHFError: one line on the file and what to do.
    """
    images, labels = files_by_case(source, IMAGE), files_by_case(source, LABELS)
    tests = set(options.test) | {case for case, path in images.items() if _is_test(path.relative_to(source))}
    scans: dict[str, LabelledScan] = {}
    problems: dict[str, str] = {}
    for case in sorted({*images, *labels}):
        if case not in images:
            problems[case] = f"{labels[case]} has no image {case}.nii.gz"
        elif case not in labels and case not in tests:
            problems[case] = f"{images[case]} has no label map {case}_glm.nii.gz"
        else:
            scans[case] = LabelledScan({channel: images[case]}, labels.get(case))
    warnings = leave_out_incomplete(problems, options, layout="MICCAI 2012", found=len(scans))
    table = MALC_TABLE.overruled(options.mapping)
    return write_labelled_scans(
        output,
        layout="MICCAI 2012 multi-atlas",
        scans=scans,
        table=table.merged() if merge_sides else table,
        options=replace(options, test=tests),
        warnings=warnings,
        console=console,
    )


def _is_test(path: Path) -> bool:
    """Whether a file lies in a folder for testing."""
    return any(part.lower().startswith("test") for part in path.parts[:-1])
