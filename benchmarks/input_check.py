"""How far images of other kinds are from a keeper's training images, by `nnunet-uhf check-input`.

Takes a keeper file with feature statistics, a folder of images like those it was trained on, and folders of others.
Prints a table in Markdown: unseen subjects, the same images changed in known ways, and the other folders.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import nibabel as nib
import numpy as np
import typer
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nnunet_uhf.imageio.files import case_files
from nnunet_uhf.inference.input_check import check_inputs
from nnunet_uhf.keepers.file import read_header

Image = NDArray[np.float64]
CHANGES: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "mirrored along the last axis": lambda image, _: image[..., ::-1],
    "shaded, 0.3 to 1.7 along the second axis": lambda image, _: image * np.linspace(0.3, 1.7, image.shape[1])[:, None],
    "blurred, sigma 1 voxel": lambda image, _: gaussian_filter(image, 1.0),
    "more noise, 0.3 of the brain's mean": lambda image, rng: _noisy(image, 0.3, rng),
    "more noise, 1.0 of the brain's mean": lambda image, rng: _noisy(image, 1.0, rng),
    "first and last axis exchanged": lambda image, _: image.transpose(2, 1, 0),
    "inverted": lambda image, _: image.max() - image,
    "noise alone": lambda image, rng: np.abs(rng.standard_normal(image.shape)),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    keeper: Annotated[Path, typer.Option(help="Keeper file with feature statistics.")],
    images: Annotated[Path, typer.Option(help="Images like those of its training; its own cases are told apart.")],
    other: Annotated[list[str] | None, typer.Option(metavar="NAME=FOLDER", help="Images of another kind.")] = None,
    changed: Annotated[int, typer.Option(help="Unseen images that are changed in known ways.")] = 8,
) -> None:
    """Print the table."""
    header = read_header(keeper)
    files = case_files(images)
    own = {*header.training_cases, *header.validation_cases}
    unseen = [path for case, path in files.items() if case not in own]
    print("| images | n | distance, median (range) | within | beyond | far beyond |\n|---|---:|---:|---:|---:|---:|")
    for name, paths in (
        ("held-out subjects of the keeper", [files[case] for case in header.validation_cases if case in files]),
        ("subjects that are new to it", unseen),
    ):
        with tempfile.TemporaryDirectory() as folder:
            for path in paths:
                (Path(folder) / path.name).symlink_to(path.resolve())
            _line(name, Path(folder), keeper)
    for name, change in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder), unseen[:changed], change)
            _line(name, Path(folder), keeper)
    for entry in other or ():
        name, _, place = entry.partition("=")
        _line(name, Path(place), keeper)


def _line(name: str, images: Path, keeper: Path) -> None:
    checks = check_inputs(images, keeper).values()
    distances = [check.overall.distance for check in checks]
    verdicts = Counter(check.verdict for check in checks)
    cells = " | ".join(str(verdicts[verdict]) for verdict in ("within", "beyond", "far beyond"))
    spread = f"{np.median(distances):.2f} ({min(distances):.2f}-{max(distances):.2f})"
    print(f"| {name} | {len(checks)} | {spread} | {cells} |", flush=True)


def _noisy(image: Image, amount: float, rng: np.random.Generator) -> Image:
    brain = image[image > np.percentile(image, 80)].mean()
    return image + amount * brain * rng.standard_normal(image.shape)


def _write(folder: Path, paths: Iterable[Path], change: Callable[[Image, np.random.Generator], Image]) -> None:
    for number, path in enumerate(paths):
        image = nib.load(path)
        made = change(np.asarray(image.dataobj, dtype=np.float64), np.random.default_rng(number))
        nib.save(nib.Nifti1Image(made.astype(np.float32), image.affine), folder / path.name)


if __name__ == "__main__":
    app()
