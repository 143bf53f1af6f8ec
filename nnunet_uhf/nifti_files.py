"""NIfTI files as a user hands them over: which there are, whether each is one 3D image, and what it holds."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError

ENDINGS = (".nii.gz", ".nii")


def pair_files(inputs: Path, output: Path) -> list[tuple[Path, Path]]:
    """Pairs of input and output file: of a folder, all its NIfTI files, by name; names are kept.

    Raises UHFError when there is none, when an output would replace an input, or when two would share a note.
    """
    if inputs.is_dir():
        sources = sorted(path for path in inputs.iterdir() if path.name.endswith(ENDINGS) and path.name[0] != ".")
        if not sources:
            raise UHFError(f"{inputs} holds no NIfTI file (*.nii.gz, *.nii)")
        if output.name.endswith(ENDINGS):
            raise UHFError(f"{inputs} is a folder, so -o must be a folder too, not {output.name}")
        tasks = [(path, output / path.name) for path in sources]
    elif not inputs.exists():
        raise UHFError(f"{inputs} does not exist; give a NIfTI file or a folder of them")
    elif not inputs.name.endswith(ENDINGS):
        raise UHFError(f"{inputs} is not a NIfTI file (*.nii.gz, *.nii); convert it first")
    else:
        tasks = [(inputs, output if output.name.endswith(ENDINGS) else output / inputs.name)]
    if output.is_file() and not output.name.endswith(ENDINGS):
        raise UHFError(f"{output} is a file; give a folder or a name that ends in .nii.gz")
    notes: set[Path] = set()
    for source, target in tasks:
        if note_path(target).resolve() == note_path(source).resolve():
            raise UHFError(f"{source} or its note would be overwritten; give another output folder or name")
        if note_path(target) in notes:
            raise UHFError(f"{inputs} holds {source.name} both compressed and not; keep one of them")
        notes.add(note_path(target))
    return tasks


def note_path(image: Path) -> Path:
    """Where the JSON note of an enhanced image lies: beside it, as BIDS sidecars do."""
    ending = next(ending for ending in ENDINGS if image.name.endswith(ending))
    return image.with_name(image.name.removesuffix(ending) + ".json")


def check_image(path: Path, *, dim: int) -> None:
    """UHFError unless the file's header is that of one 3D (or, for a 2D keeper, 2D) grey-scale image."""
    try:
        image = nibabel.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError) as error:
        raise UHFError(f"{path} is not a readable NIfTI image ({_one_line(error)})") from error
    if dtype.fields is not None or dtype.kind == "c":
        raise UHFError(f"{path} holds colours or complex numbers ({dtype}); give a magnitude image")
    if len(shape) > 3:
        raise UHFError(f"{path} has {len(shape)} dimensions {shape}; give one 3D volume a file")
    if dim == 3 and (len(shape) < 3 or min(shape) == 1):
        raise UHFError(f"{path} is a single slice {shape}, but the keeper is 3D; use a 2D keeper")


def read_image(path: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A file -> array (1, z, y, x) and nnU-Net's properties. UHFError on NaN, a constant image or a damaged file.

    Checked with nibabel, because ITK reads NaN, and what is missing of a file that is cut short, as 0 without a word.
    """
    try:
        values = np.asanyarray(nibabel.load(path).dataobj)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UHFError(f"{path} cannot be read ({_one_line(error)}); copy or convert it anew") from error
    if not np.isfinite(values).all():
        raise UHFError(f"{path} holds NaN or infinite intensities; replace them (e.g. by 0) and try again")
    if values.min() == values.max():
        raise UHFError(f"{path} has the same intensity everywhere: there is nothing to enhance")
    try:
        return SimpleITKIO().read_images([str(path)])
    except RuntimeError:
        # ITK refuses sheared or slightly non-orthonormal world matrices, which nibabel reads in the same axis order.
        return NibabelIO().read_images([str(path)])


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]
