"""NIfTI files as a user hands them over: which there are, whether each is one 3D image, and what it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from numpy.typing import NDArray

from nnunet_uhf.errors import UHFError, first_line
from nnunet_uhf.imageio.opening import (
    UNREADABLE,
    opened,
    require_file,
    require_sound_header,
    require_voxels_of_a_head,
)
from nnunet_uhf.imageio.place import quiet_itk, read_place, unit_mm, warn_of_contradiction

ENDINGS = (".nii.gz", ".nii")
#: Behind the name of a case in the name of an image as nnU-Net wants it, the file's ending taken off.
CHANNEL_SUFFIX = re.compile(r"_\d{4}$")


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file; capitals count as small letters."""
    return path.name.lower().endswith(ENDINGS)


def case_name(path: Path, endings: Sequence[str] = ENDINGS) -> str:
    """File name without its ending; UHFError for any other kind of file, by default than NIfTI."""
    for ending in endings:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)]
    raise UHFError(f"{path} is not a NIfTI file: convert it to .nii.gz first")


def nifti_of(folder: Path, name: str) -> Path | None:
    """The NIfTI file of a case in a folder, its ending in small letters or in capitals; None when there is none.

    Raises:
        UHFError: there are two.
    """
    found: list[Path] = []
    for ending in (*ENDINGS, *(ending.upper() for ending in ENDINGS)):
        path = folder / f"{name}{ending}"
        # disks that ignore case show one file twice; of a link that leads nowhere, opening it tells
        if (path.is_file() or path.is_symlink()) and not any(_is_one(path, other) for other in found):
            found.append(path)
    if len(found) > 1:
        raise UHFError(f"{folder} holds {found[0].name} and {found[1].name}: remove one of them")
    return found[0] if found else None


def _is_one(path: Path, other: Path) -> bool:
    return path.name.lower() == other.name.lower() and path.exists() and other.exists() and path.samefile(other)


def case_files(folder: Path, endings: Sequence[str] = ENDINGS) -> dict[str, Path]:
    """Files of a folder by case name, sorted by name: those with one of these endings, by default NIfTI.

    Raises:
        UHFError: no such folder, no such file in it, or a case that is there twice, as .nii and .nii.gz.
    """
    if not folder.is_dir():
        raise UHFError(f"{folder} is not a folder: name the folder that holds the {', '.join(endings)} files")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.name.lower().endswith(tuple(endings)) or path.name.startswith("."):
            continue
        name = case_name(path, endings)
        if name in files:
            raise UHFError(f"{folder} holds case {name} twice ({files[name].name}, {path.name}): remove one")
        files[name] = path
    if not files:
        raise UHFError(f"{folder} holds no {', '.join(endings[:-1])} or {endings[-1]} file")
    return files


def pair_files(inputs: Path, output: Path) -> list[tuple[Path, Path]]:
    """Pairs of input and output file: of a folder, all its NIfTI files, by name; names stay, endings become lower case.

    Raises UHFError when there is none, when one case is there twice, or when an output would replace an input.
    """
    if inputs.is_dir():
        sources = list(case_files(inputs).values())
        if is_nifti(output):
            raise UHFError(f"{inputs} is a folder, so -o must be a folder too, not {output.name}")
        tasks = [(path, output / _lower_ending(path)) for path in sources]
    elif not inputs.exists():
        raise UHFError(f"{inputs} does not exist; give a NIfTI file or a folder of them")
    else:
        case_name(inputs)
        target = output.with_name(_lower_ending(output)) if is_nifti(output) else output / _lower_ending(inputs)
        tasks = [(inputs, target)]
    if output.is_file() and not is_nifti(output):
        raise UHFError(f"{output} is a file; give a folder or a name that ends in .nii.gz")
    for source, target in tasks:
        if note_path(target).resolve() == note_path(source).resolve():
            raise UHFError(f"{source} or its note would be overwritten; give another output folder or name")
    return tasks


def _lower_ending(path: Path) -> str:
    """The file's name with the ending as ITK wants it of a file it writes."""
    name = case_name(path)
    return name + path.name[len(name) :].lower()


def note_path(image: Path) -> Path:
    """Where the JSON note of an enhanced image lies: beside it, as BIDS sidecars do."""
    return image.with_name(f"{case_name(image)}.json")


def require_grey_scale(path: Path, dtype: np.dtype[Any]) -> None:
    """UHFError when the voxels of a file are colours or complex numbers."""
    if dtype.fields is not None or dtype.kind == "c":
        raise UHFError(f"{path} holds colours or complex numbers ({dtype}); give a magnitude image")


def check_nifti_header(path: Path, *, dim: int) -> None:
    """UHFError unless the file's header is that of one 3D (or, for a 2D keeper, 2D) grey-scale image.

    A header that is read in two ways is told in a :class:`nnunet_uhf.errors.UHFWarning`.
    """
    require_file(path)
    try:
        image = nibabel.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
    except UNREADABLE as error:
        raise UHFError(f"{path} is not a readable NIfTI image ({first_line(error, kind=False)})") from error
    require_grey_scale(path, dtype)
    require_sound_header(path, image)
    if any(n != 1 for n in shape[3:]):
        raise UHFError(f"{path} has {len(shape)} dimensions {shape}; give one 3D volume a file")
    if dim == 3 and (len(shape) < 3 or min(shape[:3]) == 1):
        raise UHFError(f"{path} is a single slice {shape}, but the keeper is 3D; use a 2D keeper")
    place = read_place(path, image)
    require_voxels_of_a_head(path, place.affine)
    warn_of_contradiction(path, place, shape)


def read_image(path: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """A file -> array (1, z, y, x) and nnU-Net's properties. UHFError on NaN, a constant image or a damaged file.

    Checked with nibabel, because ITK reads NaN, and what is missing of a file that is cut short, as 0 without a word.
    """
    require_file(path)
    try:
        with opened(path) as image:
            require_sound_header(path, image)
            values, unit = np.asanyarray(image.dataobj), unit_mm(image.header)
    except UNREADABLE as error:
        raise UHFError(f"{path} cannot be read ({first_line(error, kind=False)}); copy or convert it anew") from error
    except MemoryError:
        raise UHFError(f"{path} holds more voxels than the memory does: use a larger machine") from None
    if not np.isfinite(values).all():
        raise UHFError(f"{path} holds NaN or infinite intensities; replace them (e.g. by 0) and try again")
    if values.min() == values.max():
        raise UHFError(f"{path} has the same intensity everywhere: there is no image in it")
    try:
        with quiet_itk():
            return SimpleITKIO().read_images([str(path)])
    except RuntimeError:
        # ITK refuses sheared or slightly non-orthonormal world matrices, which nibabel reads in the same axis order.
        data, properties = NibabelIO().read_images([str(path)])
        return data, {**properties, "spacing": [step * unit for step in properties["spacing"]]}
