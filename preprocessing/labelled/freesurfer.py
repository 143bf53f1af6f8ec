"""A FreeSurfer subjects folder -> raw nnU-Net dataset of 27 structures, or of 15 without sides.

Layout: ``SUBJECT/mri/brain.mgz`` (or norm, orig, ...) and ``SUBJECT/mri/aseg.mgz`` on the same grid.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from nnunet_uhf.preprocessing.labelled.freesurfer_labels import FREESURFER_TABLE
from nnunet_uhf.preprocessing.labelled.scans import (
    DEFAULTS,
    Conversion,
    ConversionOptions,
    LabelledScan,
    leave_out_incomplete,
    write_labelled_scans,
)
from nnunet_uhf.preprocessing.labelled.tree import require_folder

AVERAGES = ("fsaverage", "cvs_avg35")
#: Of the longitudinal stream: between time point and template in a name, and the file that a template lists them in.
LONGITUDINAL, TIME_POINTS = ".long.", "base-tps"


def convert_freesurfer(
    source: Path,
    output: Path,
    *,
    image: str = "brain",
    merge_sides: bool = False,
    channel: str = "T1w",
    options: ConversionOptions = DEFAULTS,
    console: Console | None = None,
) -> Conversion:
    """Write a dataset of the 27 structures from the automatic segmentation.

    Args:
        source: FreeSurfer's subjects folder (SUBJECTS_DIR); its averages are passed over, and what the longitudinal
            stream makes of time points: templates and ``.long.`` folders.
        output: `<nnUNet_raw>/DatasetXXX_NAME`, new.
        image: which image of a subject: brain, norm, orig or another name in its mri folder.
        merge_sides: left and right as one structure, for training in the sagittal plane.
        channel: name of the channel.
        options: what every layout has.
        console: shows a progress bar when given.

    Raises:
        UHFError: one line on the file and what to do.
    """
    require_folder(source)
    scans: dict[str, LabelledScan] = {}
    problems: dict[str, str] = {}
    passed_over: list[str] = []
    for subject in sorted(source.iterdir()):
        folder = subject / "mri"
        if not folder.is_dir() or subject.name.startswith((".", *AVERAGES)):
            continue
        if LONGITUDINAL in subject.name or (subject / TIME_POINTS).exists():
            passed_over.append(subject.name)
            continue
        files = {name: _volume(folder, name) for name in (image, "aseg")}
        missing = [name for name, path in files.items() if not _there(path)]
        if missing:
            problems[subject.name] = f"{folder} holds no {missing[0]}.mgz"
        else:
            scans[subject.name] = LabelledScan({channel: files[image]}, files["aseg"], {"labels_are": "automatic"})
    warnings = [] if not passed_over else [f"passed over {', '.join(passed_over)}: made of time points that are cases"]
    warnings += leave_out_incomplete(problems, options, layout="FreeSurfer", found=len(scans))
    table = FREESURFER_TABLE.overruled(options.mapping)
    return write_labelled_scans(
        output,
        layout="FreeSurfer",
        scans=scans,
        table=table.merged() if merge_sides else table,
        options=options,
        warnings=warnings,
        console=console,
    )


def _volume(folder: Path, name: str) -> Path:
    """NAME.mgz, or NAME.mgh or NIfTI where that is there in its place."""
    candidates = [folder / f"{name}{ending}" for ending in (".mgz", ".mgh", ".nii.gz", ".nii")]
    return next((path for path in candidates if _there(path)), candidates[0])


def _there(path: Path) -> bool:
    """Whether there is a file, or a link in its place: one that leads nowhere is told when it is opened."""
    return path.is_file() or path.is_symlink()
