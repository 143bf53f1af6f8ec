"""Made datasets of every layout that `convert` reads, of one case each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

#: Writes an image, or with `labels` a label map of those numbers, on one grid.
Image = Callable[..., Path]
Commands = dict[str, tuple[str, list[str]]]


def layouts(root: Path, image: Image, out: str) -> Commands:
    """By verb: the file to spoil, below root, and the arguments."""
    ibsr = "ibsr/IBSR_01/IBSR_01_ana_strip.nii.gz", "ibsr/IBSR_01/IBSR_01_segTRI_ana.nii.gz"
    malc = "malc/training-images/1000_3.nii.gz", "malc/training-labels/1000_3_glm.nii.gz"
    study = (
        "study/sub-01/anat/sub-01_T1w.nii.gz",
        "study/derivatives/manual/sub-01/anat/sub-01_desc-manual_dseg.nii.gz",
    )
    for scan, labels in (ibsr, malc, study):
        image(root / scan)
        image(root / labels, labels=True, numbers=(4, 44, 45) if labels is malc[1] else (1, 2, 3))
    (root / "study/derivatives/manual/dseg.tsv").write_text("index\tname\n1\tCSF\n2\tGM\n3\tWM\n")
    low, high = image(root / "low/case.nii.gz"), image(root / "high/case.nii.gz")
    (root / "scans.csv").write_text(f"case,T1w,T2w\ncase,{low},{high}\n")
    domains = ["--lf", str(root / "low"), "--hf", str(root / "high"), "--field-lf", "0.3", "--field-hf", "3"]
    table = ["--csv", str(root / "scans.csv"), "--field", "T1w=3", "T2w=3", "--registration", "none"]

    def convert(layout: str, *words: str) -> list[str]:
        return ["convert", layout, *words, "-o", f"{out}/Dataset303_Made"]

    folders = convert("folders", "-i", str(root / "images"), "--labels", str(root / "labels"))
    return {
        "convert folders, image": ("images/case.nii.gz", folders),
        "convert folders, labels": ("labels/case.nii.gz", folders),
        "convert ibsr, image": (ibsr[0], convert("ibsr", "-i", str(root / "ibsr"))),
        "convert ibsr, labels": (ibsr[1], convert("ibsr", "-i", str(root / "ibsr"))),
        "convert malc, image": (malc[0], convert("malc", "-i", str(root / "malc"))),
        "convert malc, labels": (malc[1], convert("malc", "-i", str(root / "malc"))),
        "convert bids, image": (study[0], convert("bids", "-i", str(root / "study"))),
        "convert bids, labels": (study[1], convert("bids", "-i", str(root / "study"))),
        "convert unpaired, low field": ("low/case.nii.gz", convert("unpaired", *domains)),
        "convert unpaired, high field": ("high/case.nii.gz", convert("unpaired", *domains)),
        "convert modalities": ("high/case.nii.gz", convert("modalities", *table)),
    }


def freesurfer(root: Path) -> tuple[Path, Path]:
    """Image and aseg of one subject in MGZ."""
    aseg = np.zeros((16, 14, 12), dtype=np.int32)
    aseg[1:5, 2:12, 2:10], aseg[10:15, 2:12, 2:10] = 41, 2
    written = []
    for name, data in (("brain", (aseg + 60).astype(np.uint8)), ("aseg", aseg)):
        path = root / "anna/mri" / f"{name}.mgz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.MGHImage(data, np.diag([-1.0, 1, 1, 1])), path)
        written.append(path)
    return written[0], written[1]
