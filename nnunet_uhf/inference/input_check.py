"""Is an image like those a keeper was trained on? Its features held against the statistics in the keeper's header."""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Sized
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from nnunet_uhf.errors import Odd, UHFError, UHFWarning
from nnunet_uhf.guidance.guided_model import ModelKeeper, read_model_keeper
from nnunet_uhf.imageio.files import CHANNEL_SUFFIX, case_files, case_name, check_nifti_header
from nnunet_uhf.imageio.orientation import Turn
from nnunet_uhf.imageio.output import write_table
from nnunet_uhf.inference.inputs import Scan, scans_of
from nnunet_uhf.inference.orientation import not_turned, stored_as, turn_of
from nnunet_uhf.inference.preprocess import managers, preprocess_image
from nnunet_uhf.inference.thick_scans import slice_geometry
from nnunet_uhf.keepers.file import build_enhancer, build_keeper
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.keepers.statistics import (
    Familiarity,
    Features,
    channel_means,
    distances_of,
    familiarity,
    features_of,
    overall_distance,
    source_patch,
)
from nnunet_uhf.networks.contract import EnhancementNet

ALL_LEVELS = "all"
NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class LevelCheck:
    """One level of one image; `level` counts from 1, the finest, or is "all": the root mean square over the levels.

    `usual_p95` and `usual_max` are of the distances of the keeper's own cases, held out or left out one by one.
    """

    level: int | str
    distance: float
    usual_p95: float
    usual_max: float
    verdict: Familiarity


@dataclass(frozen=True)
class InputCheck:
    """All levels of one image, and the line for all of them, which decides."""

    levels: tuple[LevelCheck, ...]
    overall: LevelCheck

    @property
    def verdict(self) -> Familiarity:
        """That of the image."""
        return self.overall.verdict

    def sentence(self) -> str:
        """What to tell a person."""
        one = self.overall
        if one.verdict == "within":
            return f"like the images the keeper was trained on (distance {one.distance:.2f})"
        return (
            f"{one.verdict} what the keeper was trained on: distance {one.distance:.2f}; 95 % of its own cases are "
            f"below {one.usual_p95:.2f}, all below {one.usual_max:.2f}"
        )

    def note(self) -> dict[str, Any]:
        """The same for a JSON note."""
        return {
            "verdict": self.verdict,
            **{name: getattr(self.overall, name) for name in ("distance", "usual_p95", "usual_max")},
            "levels": [
                {name: getattr(level, name) for name in ("distance", "usual_p95", "usual_max", "verdict")}
                for level in self.levels
            ],
        }


def compare_with_training(
    header: KeeperHeader, features: Features, image: NDArray[np.float32], *, device: torch.device | str, name: str
) -> InputCheck:
    """Measure how far the features of an image are from those of the keeper's training.

    Args:
        header: with feature statistics.
        features: the keeper, on the device.
        image: preprocessed for the keeper, `(C, Z, Y, X)`.
        device: where to run it.
        name: the file, for errors.

    Raises:
        UHFError: no statistics in the header, or an image without contrast.
    """
    statistics = header.feature_statistics
    if statistics is None:
        raise UHFError(without_statistics(header))
    if not image.max() > image.min():
        raise UHFError(f"{name} has one intensity wherever it is not 0: give a scan")
    means = channel_means(features, image, source_patch(header), device=device)
    distances = distances_of(means, statistics)
    levels = tuple(
        _level(number, distance, entry["distances"])
        for number, (distance, entry) in enumerate(zip(distances, statistics["levels"], strict=True), start=1)
    )
    return InputCheck(levels, _level(ALL_LEVELS, overall_distance(distances), statistics["distances"]))


def check_for_enhancing(
    header: KeeperHeader,
    network: EnhancementNet,
    image: NDArray[np.float32],
    device: torch.device,
    source: Path,
    console: Console,
) -> InputCheck | None:
    """:func:`compare_with_training`, warning on the console when the image is not within; None without statistics."""
    if header.feature_statistics is None:
        return None
    check = compare_with_training(
        header, features_of(network.keeper.to(device)), image, device=device, name=str(source)
    )
    if check.verdict != "within":
        console.print(f"warning: {source.name} is {check.sentence()}", style="yellow", highlight=False, markup=False)
    return check


def without_statistics(header: KeeperHeader) -> str:
    """What to say of a keeper that cannot check its input."""
    return (
        f"keeper {header.sha256[:8]} ({header.dataset}, {header.configuration}, fold {header.fold}) holds no feature "
        "statistics, so nobody can say whether an image is like those it was trained on; export it with this version "
        "(nnunet-uhf export-keeper) and use that file"
    )


def _level(level: int | str, distance: float, usual: dict[str, float]) -> LevelCheck:
    return LevelCheck(level, distance, usual["p95"], usual["max"], familiarity(distance, usual))


_STYLES = {"within": "", "beyond": "yellow", "far beyond": "red"}


def check_inputs(
    images: str | Path,
    model: str | Path,
    *,
    output: Path | None = None,
    device: torch.device | str = "cpu",
    console: Console | None = None,
    odd: Odd | None = None,
) -> dict[str, InputCheck]:
    """Check every image, as nnU-Net would preprocess it for the keeper; by file name.

    Args:
        images: a NIfTI file or a folder of them; for a guided model in nnU-Net's names, those of its guide channel.
        model: keeper file with feature statistics, or results folder of a training guided by one.
        output: CSV file with a line for every level of every image, and one for all levels; replaced if it is there.
        device: where to run the keeper.
        console: shows a progress bar when given.
        odd: keeps the images that cannot be checked, while some can; without it the first of them is an error.

    Raises:
        UHFError: a keeper without statistics, unreadable images, a name that is no .csv.

    Examples:
        >>> import nibabel
        >>> import numpy as np
        >>> from nnunet_uhf import UHFError, check_inputs, write_untrained_keeper
        >>> scan = np.random.default_rng(0).uniform(0, 100, (32, 32, 4)).astype(np.float32)
        >>> nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), "scan.nii.gz")
        >>> check_inputs("scan.nii.gz", write_untrained_keeper("keeper.safetensors", dim=2))
        Traceback (most recent call last):
        nnunet_uhf.errors.UHFError: keeper.safetensors: keeper ... holds no feature statistics, ...

        Of a trained keeper: ``{"scan.nii.gz": InputCheck}``, whose ``verdict`` is "within", "beyond" or "far beyond".
    """
    images, model = Path(images), Path(model)
    if output is not None and output.suffix.lower() != ".csv":
        raise UHFError(f"{output}: the name of the report must end in .csv (-o)")
    keeper = read_model_keeper(model)
    header = keeper.header
    if header.feature_statistics is None:
        raise UHFError(f"{model}: {without_statistics(header)}")
    scans = _scans(images, keeper)
    turns: dict[Scan, Turn | None] = {}
    geometries = {}  # of thick slices: where they lie, and how thick they are
    for scan in scans:
        with nullcontext() if odd is None else odd.kept(scan[0].name):
            for path in scan:
                check_nifti_header(path, dim=header.dim)
            # a guided model sees images as they are stored: nnU-Net does not turn them
            turns[scan] = turn_of(header, scan[0]) if keeper.guide_channels is None else None
            geometries[scan] = slice_geometry(header, scan[0], axis=None, turn=turns[scan])
    _require_some(geometries, odd, scans)
    _tell_of_orientation(header, list(geometries), turned=keeper.guide_channels is None)
    # what cannot guide has no keeper by itself, but one within its enhancer
    file = keeper.file
    network = build_keeper(file) if file.decoder_state is None else build_enhancer(file).keeper
    features = features_of(network.to(device))
    checks = {}
    for scan in geometries if console is None else track(list(geometries), description="check", console=console):
        geometry, first = geometries[scan], scan[0]
        with nullcontext() if odd is None else odd.kept(first.name):
            read = managers(header if geometry is None else geometry.header)
            image, _, _ = preprocess_image(scan, *read, turn=turns[scan])
            checks[first.name] = compare_with_training(header, features, image, device=device, name=str(first))
    _require_some(checks, odd, scans)
    if output is not None:
        _write(output, checks, odd)
    return checks


def _tell_of_orientation(header: KeeperHeader, scans: Sequence[Scan], *, turned: bool) -> None:
    """Warn where scans are seen in another orientation than those of the training, or may be."""
    said = not_turned(header)
    if said is None and not turned:
        others = {scan[0].name: codes for scan in scans if (codes := stored_as(scan[0])) != header.orientation}
        if others:
            name, codes = next(iter(others.items()))
            said = (
                f"{len(others)} of {len(scans)} images are stored in another orientation than the keeper's scans "
                f"({header.orientation}), as {name} in {codes}; they are checked as the guided model would see them, "
                "which takes images as they are stored"
            )
    if said is not None:
        warnings.warn(said, UHFWarning, stacklevel=1)


def _require_some(found: Sized, odd: Odd | None, files: Sized) -> None:
    if odd is not None and not found:
        odd.require_others(len(files))


def checks_table(checks: dict[str, InputCheck], odd: Odd | None = None) -> Table:
    """A line for every image: its distance, that of every level, and the verdict; the odd ones have none."""
    usual = next(iter(checks.values()))
    table = Table(title="Distance to the images the keeper was trained on, by level", title_justify="left")
    table.add_column("", overflow="fold", min_width=20)  # a name that is cut cannot be told from another one
    for level in (*usual.levels, usual.overall):
        table.add_column("all" if level is usual.overall else str(level.level), justify="right")
    table.add_column("verdict")
    for name, check in checks.items():
        cells = [Text(f"{one.distance:.2f}", _STYLES[one.verdict]) for one in (*check.levels, check.overall)]
        table.add_row(Text(name), *cells, Text(check.verdict, _STYLES[check.verdict]))
    for name in () if odd is None else odd.reasons:
        table.add_row(Text(name), *[""] * (len(usual.levels) + 1), Text(NOT_CHECKED, "red"))
    table.add_section()
    for title, value in (("95 % of its own cases below", "usual_p95"), ("furthest of its own cases", "usual_max")):
        table.add_row(title, *(f"{getattr(one, value):.2f}" for one in (*usual.levels, usual.overall)), "")
    return table


def _scans(images: Path, keeper: ModelKeeper) -> list[Scan]:
    """The scans to check; of a guided model's images with channel numbers, those that its keeper sees."""
    if len(keeper.header.inputs) > 1:
        return [scan for _, scan in scans_of(images, keeper.header, keeper.guide_channels)]
    if images.is_file():
        case_name(images)
        return [(images,)]
    if not images.exists():
        raise UHFError(f"{images} does not exist; give a NIfTI file or a folder of them (-i)")
    files = case_files(images)
    if keeper.guide_channels is None or not all(CHANNEL_SUFFIX.search(name) for name in files):
        return [(path,) for path in files.values()]
    suffix = f"_{keeper.guide_channels[0]:04d}"
    seen: list[Scan] = [(path,) for name, path in files.items() if name.endswith(suffix)]
    if not seen:
        raise UHFError(f"{images} holds no image of the guide channel (CASE{suffix}.nii.gz): give those (-i)")
    return seen


def _write(path: Path, checks: dict[str, InputCheck], odd: Odd | None) -> None:
    lines: list[dict[str, Any]] = [
        {"image": name, **asdict(one), "distance": f"{one.distance:.4f}"}
        for name, check in checks.items()
        for one in (*check.levels, check.overall)
    ]
    lines += [{"image": name, "level": ALL_LEVELS, "verdict": NOT_CHECKED} for name in odd.reasons] if odd else []
    write_table(path, lines)
