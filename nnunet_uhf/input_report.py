"""``nnunet-uhf check-input``: images held against what a keeper was trained on, as a table and a CSV file."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from nnunet_uhf.check_input import InputCheck, check_image, without_statistics
from nnunet_uhf.enhance import managers, preprocess_image
from nnunet_uhf.errors import UHFError
from nnunet_uhf.feature_statistics import features_of
from nnunet_uhf.keeper_file import build_enhancer, build_keeper
from nnunet_uhf.model_keeper import ModelKeeper, read_model_keeper
from nnunet_uhf.nifti_files import case_files, case_name
from nnunet_uhf.nifti_files import check_image as check_file
from nnunet_uhf.thick_scans import slice_geometry
from nnunet_uhf.whole_file import written_whole

_CHANNEL = re.compile(r"_\d{4}$")
_STYLES = {"within": "", "beyond": "yellow", "far beyond": "red"}


def check_inputs(
    images: Path,
    model: Path,
    *,
    output: Path | None = None,
    device: torch.device | str = "cpu",
    console: Console | None = None,
) -> dict[str, InputCheck]:
    """Check every image, as nnU-Net would preprocess it for the keeper; by file name.

    Args:
        images: a NIfTI file or a folder of them; for a guided model in nnU-Net's names, those of its guide channel.
        model: keeper file with feature statistics, or results folder of a training guided by one.
        output: CSV file with a line for every level of every image, and one for all levels; replaced if it is there.
        device: where to run the keeper.
        console: shows a progress bar when given.

    Raises:
        UHFError: a keeper without statistics, unreadable images, a name that is no .csv.
    """
    if output is not None and output.suffix.lower() != ".csv":
        raise UHFError(f"{output}: the name of the report must end in .csv (-o)")
    keeper = read_model_keeper(model)
    header = keeper.header
    if header.feature_statistics is None:
        raise UHFError(f"{model}: {without_statistics(header)}")
    files = _files(images, keeper)
    for path in files:
        check_file(path, dim=header.dim)
    # of thick slices: where they lie, and how thick they are
    geometries = {path: slice_geometry(header, path, axis=None) for path in files}
    # what cannot guide has no keeper by itself, but one within its enhancer
    file = keeper.file
    network = build_keeper(file) if file.decoder_state is None else build_enhancer(file).keeper
    features = features_of(network.to(device))
    checks = {}
    for path in files if console is None else track(files, description="check", console=console):
        geometry = geometries[path]
        image, _, _ = preprocess_image(path, *managers(header if geometry is None else geometry.header))
        checks[path.name] = check_image(header, features, image[0], device=device, name=str(path))
    if output is not None:
        _write(output, checks)
    return checks


def describe(checks: dict[str, InputCheck]) -> Table:
    """A line for every image: its distance, that of every level, and the verdict."""
    usual = next(iter(checks.values()))
    table = Table(title="Distance to the images the keeper was trained on, by level", title_justify="left")
    table.add_column("", overflow="fold", min_width=20)  # a name that is cut cannot be told from another one
    for level in (*usual.levels, usual.overall):
        table.add_column("all" if level is usual.overall else str(level.level), justify="right")
    table.add_column("verdict")
    for name, check in checks.items():
        cells = [Text(f"{one.distance:.2f}", _STYLES[one.verdict]) for one in (*check.levels, check.overall)]
        table.add_row(Text(name), *cells, Text(check.verdict, _STYLES[check.verdict]))
    table.add_section()
    for title, value in (("95 % of its own cases below", "usual_p95"), ("furthest of its own cases", "usual_max")):
        table.add_row(title, *(f"{getattr(one, value):.2f}" for one in (*usual.levels, usual.overall)), "")
    return table


def _files(images: Path, keeper: ModelKeeper) -> list[Path]:
    """The files to check; of a guided model's images with channel numbers, those that its keeper sees."""
    if images.is_file():
        case_name(images)
        return [images]
    if not images.exists():
        raise UHFError(f"{images} does not exist; give a NIfTI file or a folder of them (-i)")
    files = case_files(images)
    if keeper.guide_channel is None or not all(_CHANNEL.search(name) for name in files):
        return list(files.values())
    suffix = f"_{keeper.guide_channel:04d}"
    seen = [path for name, path in files.items() if name.endswith(suffix)]
    if not seen:
        raise UHFError(f"{images} holds no image of the guide channel (CASE{suffix}.nii.gz): give those (-i)")
    return seen


def _write(path: Path, checks: dict[str, InputCheck]) -> None:
    lines = [
        {"image": name, **asdict(one), "distance": f"{one.distance:.4f}"}
        for name, check in checks.items()
        for one in (*check.levels, check.overall)
    ]
    try:
        with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    except OSError as error:
        raise UHFError(f"{path} cannot be written ({error.strerror}): check folder, space and rights (-o)") from None
