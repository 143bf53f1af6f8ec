"""Read what the chain measured: image quality from the keepers' validation, Dice from nnU-Net's evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from nnunet_uhf.demo.settings import (
    CONFIGURATIONS,
    FOLD,
    KEEPER,
    MODELS,
    PAIRS,
    DemoSettings,
    Folders,
)
from nnunet_uhf.demo.subjects import TISSUES
from nnunet_uhf.errors import UHFError

IMAGE_ROWS = {
    "input": "low-field input, best linear fit",
    "prediction": "enhanced by keeper + decoder",
    "teacher": "teacher's own reconstruction (ceiling)",
}


@dataclass(frozen=True)
class ImageScore:
    """Mean image quality against the high-field phantom over the fold's held-out subjects."""

    configuration: str
    row: str
    """A key of IMAGE_ROWS."""
    psnr: float
    """dB."""
    ssim: float


@dataclass(frozen=True)
class DiceScore:
    """Mean Dice per tissue, in percent, over the held-out subjects."""

    model: str
    configuration: str
    """2d, 3d_fullres or ensemble."""
    tissues: dict[str, float]
    mean: float


@dataclass(frozen=True)
class DemoScores:
    """All numbers of a finished demo."""

    images: list[ImageScore]
    dice: list[DiceScore]
    validation_cases: int
    test_cases: int


def read_scores(settings: DemoSettings, folders: Folders) -> DemoScores:
    """Collect the numbers of a finished demo. Raises UHFError when a file of them is missing or not as expected."""
    images, cases = [], 0
    for configuration in CONFIGURATIONS:
        model = folders.model(PAIRS, settings.trainer(KEEPER), configuration)
        summary = _read(model.fold(FOLD).summary)
        cases = len(summary["metric_per_case"])
        for row in IMAGE_ROWS:
            mean = summary["mean"][row]
            images.append(ImageScore(configuration, row, float(mean["psnr"]), float(mean["ssim"])))
    dice = []
    for model_name in MODELS:
        for configuration in (*CONFIGURATIONS, "ensemble"):
            summary = _read(folders.prediction(model_name, configuration) / "summary.json")
            tissues = {name: 100 * float(summary["mean"][str(label)]["Dice"]) for name, label in TISSUES.items()}
            mean_dice = 100 * float(summary["foreground_mean"]["Dice"])
            dice.append(DiceScore(model_name, configuration, tissues, mean_dice))
    return DemoScores(images, dice, cases, settings.held_out)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UHFError(f"{path} is missing or damaged: delete the demo folder and run the demo again") from error


def image_table(scores: DemoScores) -> Table:
    """Console table: PSNR and SSIM of input, keeper and teacher for each configuration."""
    table = Table(title=f"Image quality, {scores.validation_cases} subjects outside the keepers' training")
    table.add_column("image")
    for configuration in CONFIGURATIONS:
        table.add_column(f"PSNR dB\n{configuration}", justify="right")
        table.add_column(f"SSIM\n{configuration}", justify="right")
    for row, title in IMAGE_ROWS.items():
        found = {score.configuration: score for score in scores.images if score.row == row}
        cells = [(f"{found[c].psnr:.2f}", f"{found[c].ssim:.3f}") for c in CONFIGURATIONS]
        table.add_row(title, *(cell for pair in cells for cell in pair))
    return table


def dice_table(scores: DemoScores) -> Table:
    """Console table: Dice per tissue of every model and of the ensembles."""
    table = Table(title=f"Dice in percent, {scores.test_cases} held-out subjects")
    for heading in ("model", "configuration"):
        table.add_column(heading)
    for heading in (*TISSUES, "mean"):
        table.add_column(heading, justify="right")
    for number, score in enumerate(scores.dice):
        cells = [f"{score.tissues[name]:.1f}" for name in TISSUES]
        last_of_model = number + 1 == len(scores.dice) or scores.dice[number + 1].model != score.model
        table.add_row(score.model, score.configuration, *cells, f"{score.mean:.1f}", end_section=last_of_model)
    return table
