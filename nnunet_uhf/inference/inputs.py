"""The files of one scan: one image, or one for every channel of a keeper that reads several, in nnU-Net's names."""

from __future__ import annotations

from pathlib import Path

import nibabel

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.files import CHANNEL_SUFFIX, case_files, case_name, pair_files
from nnunet_uhf.imageio.nifti import Grid, require_equal_grids
from nnunet_uhf.imageio.place import read_place
from nnunet_uhf.keepers.header import KeeperHeader

Scan = tuple[Path, ...]
"""The images that a keeper reads together, in the order of its channels."""


def scans_and_outputs(inputs: Path, output: Path, header: KeeperHeader) -> list[tuple[Scan, Path]]:
    """Every scan with the image to be made of it; of one channel, every file, as :func:`pair_files` has it.

    Of several channels ``inputs`` is a folder of ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` .., ``output`` a folder.

    Raises:
        UHFError: a channel is missing or one too many, or as :func:`pair_files`.
    """
    if len(header.inputs) == 1:
        return [((source,), target) for source, target in pair_files(inputs, output)]
    scans = scans_of(inputs, header)
    if output.suffix or output.is_file():
        raise UHFError(f"{output} is no folder: of several channels the output is a folder (-o)")
    if output.resolve() == inputs.resolve():
        raise UHFError(f"{output} is the folder of the inputs: give another one (-o)")
    return [(files, output / f"{case}{files[0].name[len(case_name(files[0])) :].lower()}") for case, files in scans]


def scans_of(inputs: Path, header: KeeperHeader, channels: tuple[int, ...] | None = None) -> list[tuple[str, Scan]]:
    """The cases of a folder with their images, one for every channel of a keeper that reads several.

    ``channels``: numbers of its channels in the names, in its order, where there may be others; else 0, 1, .., alone.

    Raises:
        UHFError: no such folder, a name without a channel's number, a channel that is missing or one too many.
    """
    names = ", ".join(one.channel for one in header.inputs)
    numbers = tuple(range(len(header.inputs))) if channels is None else channels
    wanted = (
        f"the keeper reads {len(header.inputs)} images together ({names}): give a folder of "
        f"{', '.join(f'CASE_{number:04d}.nii.gz' for number in numbers)}"
    )
    if not inputs.is_dir():
        raise UHFError(f"{inputs} is not a folder, but {wanted} (-i)")
    cases: dict[str, dict[int, Path]] = {}
    for name, path in case_files(inputs).items():
        if not CHANNEL_SUFFIX.search(name):
            raise UHFError(f"{path} has no channel's number, but {wanted}")
        cases.setdefault(name[:-5], {})[int(name[-4:])] = path
    for case, files in cases.items():
        if not files.keys() >= set(numbers) or (channels is None and len(files) > len(numbers)):
            raise UHFError(f"{inputs}: case {case} has the channels {sorted(files)}, but {wanted}")
    return [(case, tuple(files[number] for number in numbers)) for case, files in cases.items()]


def require_one_grid(scan: Scan) -> None:
    """UHFError unless all images of a scan lie on the grid of the first."""
    first = _grid_of(scan[0])
    for path in scan[1:]:
        require_equal_grids(scan[0], first, path, _grid_of(path))


def _grid_of(path: Path) -> Grid:
    """The grid of an image, which may be a single slice."""
    image = nibabel.load(path)
    place = read_place(path, image)
    return Grid((*image.shape, 1, 1)[:3], place.affine, place.other)
