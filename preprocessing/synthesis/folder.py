"""Folder of label maps -> simulated images of several field strengths (`nnunet-uhf synthesise`)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.affines import voxel_sizes
from rich.console import Console
from rich.progress import track

import nnunet_uhf
from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.imageio.label_maps import label_volume
from nnunet_uhf.imageio.nifti import Volume, write_labels, write_volume
from nnunet_uhf.imageio.output import appearing_together
from nnunet_uhf.preprocessing.low_field.tissues import TISSUE_VALUES
from nnunet_uhf.preprocessing.synthesis.anatomy import Anatomy, vary_structures
from nnunet_uhf.preprocessing.synthesis.image import (
    bias_field,
    noise_sigma,
    rician,
    structure_signals,
    synthesise_image,
)
from nnunet_uhf.preprocessing.synthesis.relaxation import (
    PROTON_DENSITY,
    SOURCES,
    t1_seconds,
    t2_seconds,
    t2_star_seconds,
)
from nnunet_uhf.preprocessing.synthesis.signal import Sequence
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.types import Affine

RECORD_NAME = "synthesis.json"
TISSUE_FOLDER = "tissues"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """What `synthesise_folder` does besides the signal equation.

    Attributes:
        variation: standard deviation of each structure's T1, decay and density around the published value; drawn once
            a subject, the same on both sides, so that all field strengths show the same anatomy (ours).
        partial_volume_mm: sigma of the Gaussian by which neighbouring structures mix, mm, 0 is none (ours).
        bias: standard deviation of the logarithm of a smooth bias field, one for each image; 0 is none.
        snr: SNR of white matter at 3 T; noise is Rician and grows towards lower fields. None is no noise.
        crop: cut images to the brain and this many voxels around it; None keeps the grid of the label map.

    Raises:
        UHFError: values out of range.
    """

    variation: float = 0.03
    partial_volume_mm: float = 0.5
    bias: float = 0.0
    snr: float | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.partial_volume_mm <= 5:
            raise UHFError(f"partial volume is {self.partial_volume_mm:g} mm: use a sigma of 0 to 5 mm")
        if not 0 <= self.bias <= 1:
            raise UHFError(f"bias is {self.bias:g}: use 0 to 1, the standard deviation of the field's logarithm")
        if self.snr is not None and not 0 < self.snr < float("inf"):
            raise UHFError(f"SNR is {self.snr:g}: use a number > 0")
        if self.crop is not None and self.crop < 0:
            raise UHFError(f"crop is {self.crop}: use 0 or more voxels around the brain")


def synthesise_folder(
    label_maps: Path,
    output: Path,
    *,
    fields_tesla: SequenceOf[float],
    sequence: Sequence,
    options: SynthesisOptions | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Make an image of every label map at every field strength.

    `OUTPUT/simulated_3T/CASE.nii.gz` is the image at 3 T, brain only; `OUTPUT/tissues/CASE.nii.gz` the tissue labels
    (CSF 1, GM 2, WM 3) on the same grid; `OUTPUT/synthesis.json` records every parameter, source and draw. A case
    depends on the seed and its name only. The folder appears complete or not at all.

    Args:
        label_maps: folder of 3D label maps in FreeSurfer's numbers, such as those of SynthSeg.
        output: new or empty folder.
        fields_tesla: field strengths, each once.
        sequence: pulse sequence, the same at each field strength.
        options: what else is done; None takes the defaults.
        seed: >= 0.
        console: shows a progress bar when given.

    Returns:
        Path of `synthesis.json`.

    Raises:
        UHFError: one line on the file or value and what to do.
    """
    options = options or SynthesisOptions()
    if seed < 0:
        raise UHFError(f"seed is {seed}: use a whole number >= 0")
    if not fields_tesla:
        raise UHFError("no field strength is given: name at least one in tesla")
    names = {field: f"simulated_{field:g}T" for field in fields_tesla}
    if len(set(names.values())) != len(fields_tesla):
        raise UHFError(f"field strengths {', '.join(f'{field:g}' for field in fields_tesla)}: name each once")
    record: dict[str, Any] = {
        "format": 1,
        "package_version": nnunet_uhf.__version__,
        "what": "simulated images from label maps, published relaxation times and a signal equation; no scan",
        "sequence": dataclasses.asdict(sequence),
        "options": dataclasses.asdict(options),
        "seed": seed,
        "tissue_labels": TISSUE_VALUES,
        "fields": {name: _field_record(sequence, field, options) for field, name in names.items()},
        "sources": {
            name: text for name, text in SOURCES.items() if name in ("t1", sequence.decay, "proton_density", "snr")
        },
        "cases": {},
    }
    files = case_files(label_maps)
    with appearing_together(output) as (folder,):
        for name in (*names.values(), TISSUE_FOLDER):
            (folder / name).mkdir()
        progress = files if console is None else track(files, description="synthesising images", console=console)
        for case in progress:
            record["cases"][case] = _synthesise_case(
                label_volume(files[case]), folder, case=case, names=names, sequence=sequence, options=options, seed=seed
            )
        (folder / RECORD_NAME).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return output / RECORD_NAME


def _synthesise_case(
    labels: Volume,
    folder: Path,
    *,
    case: str,
    names: dict[float, str],
    sequence: Sequence,
    options: SynthesisOptions,
    seed: int,
) -> dict[str, Any]:
    """Write one case's images and tissue labels; what was drawn is returned for the record."""
    try:
        anatomy = vary_structures(
            labels.data, case_generator(seed, case), variation=options.variation, margin=options.crop or 0
        )
    except UHFError as error:
        raise UHFError(f"{labels.path}: {error}") from error
    blur = options.partial_volume_mm / voxel_sizes(labels.affine)
    for field, name in names.items():
        # a generator for each image, so that an image does not depend on which others are made
        rng = case_generator(seed, f"{case}/{name}")
        bias = bias_field(anatomy.index.shape, rng, strength=options.bias) if options.bias else None
        image = synthesise_image(anatomy, sequence, field, blur_voxels=blur, bias=bias)
        if options.snr is not None:
            image = rician(image, rng, sigma=noise_sigma(sequence, field, snr_at_3t=options.snr))
        data, step = _on_grid(image, anatomy, labels, crop=options.crop is not None)
        header = labels.header.copy()
        header["descrip"] = f"simulated {field:g} T {sequence.kind}".encode()
        write_volume(folder / name / f"{case}.nii.gz", data, header=header, step=step)
    tissues, step = _on_grid(anatomy.tissues, anatomy, labels, crop=options.crop is not None)
    header = labels.header.copy()
    header["descrip"] = b"tissue labels CSF 1, GM 2, WM 3"
    write_labels(folder / TISSUE_FOLDER / f"{case}.nii.gz", tissues, header=header, step=step)
    return {
        "file": f"{case}.nii.gz",
        "box": [[axis.start, axis.stop] for axis in anatomy.box],
        "structures": [dataclasses.asdict(structure) for structure in anatomy.structures],
        "signals": {
            name: structure_signals(anatomy.structures, sequence, field).tolist() for field, name in names.items()
        },
    }


def _on_grid(
    data: npt.NDArray[Any], anatomy: Anatomy, labels: Volume, *, crop: bool
) -> tuple[npt.NDArray[Any], Affine | None]:
    """Data of the brain's box and the step to the label map's voxels; or filled up to its grid, and None."""
    if crop:
        step = np.eye(4)
        step[:3, 3] = [axis.start for axis in anatomy.box]
        return data, step
    whole = np.zeros(labels.data.shape, data.dtype)
    whole[anatomy.box] = data
    return whole, None


def _field_record(sequence: Sequence, field_tesla: float, options: SynthesisOptions) -> dict[str, Any]:
    """Published values at a field strength; UHFError where there are none, before anything is written."""
    decay_of = t2_seconds if sequence.decay == "t2" else t2_star_seconds
    record: dict[str, Any] = {"field_T": field_tesla}
    for tissue, density in PROTON_DENSITY.items():
        record[tissue] = {
            "t1_s": t1_seconds(tissue, field_tesla),
            f"{sequence.decay}_s": decay_of(tissue, field_tesla),
            "proton_density": density,
        }
    if options.snr is not None:
        record["noise_sigma"] = noise_sigma(sequence, field_tesla, snr_at_3t=options.snr)
    return record
