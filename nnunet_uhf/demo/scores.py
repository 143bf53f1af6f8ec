"""Read what the chain measured: image quality from the keepers' validation, Dice from `nnunet-uhf compare`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from nnunet_uhf.demo.settings import (
    FOLD,
    KEEPER,
    MODEL_TRAINERS,
    MODELS,
    NAMES,
    PAIRS,
    TISSUES_DATASET,
    DemoSettings,
    Folders,
)
from nnunet_uhf.demo.subjects import TISSUES
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation.label_scores import MEAN
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.report.analysis import PRIMARY_METRIC
from nnunet_uhf.report.records import JSON_NAME

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
    """2d or 3d_fullres."""
    tissues: dict[str, float]
    mean: float
    difference: float | None = None
    """Mean minus that of plain nnU-Net; None for plain nnU-Net itself."""


@dataclass(frozen=True)
class DemoScores:
    """All numbers of a finished demo."""

    images: list[ImageScore]
    dice: list[DiceScore]
    curves: dict[str, dict[str, list[float]]]
    """nnU-Net's pseudo Dice after every epoch, in percent, by configuration and model: had the networks learnt out?"""
    validation_cases: int
    test_cases: int


def read_scores(settings: DemoSettings, folders: Folders) -> DemoScores:
    """Collect the numbers of a finished demo. Raises UHFError when a file of them is missing or not as expected."""
    images, dice, cases = [], [], 0
    curves: dict[str, dict[str, list[float]]] = {}
    for configuration in settings.configurations:
        model = folders.model(PAIRS, settings.trainer(KEEPER), configuration)
        summary = _read(model.fold(FOLD).summary)
        cases = len(summary["metric_per_case"])
        images += [
            ImageScore(configuration, row, float(mean["psnr"]), float(mean["ssim"]))
            for row, mean in summary["mean"].items()
            if row in IMAGE_ROWS
        ]
        dice += _dice(_read(folders.comparison(configuration) / JSON_NAME), configuration)
        curves[configuration] = {
            model_name: _curve(settings, folders, model_name, configuration) for model_name in MODELS
        }
    return DemoScores(images, dice, curves, cases, settings.held_out)


def _dice(record: dict[str, Any], configuration: str) -> list[DiceScore]:
    """Dice of every model in what `nnunet-uhf compare` wrote."""
    means = {
        (row["entry"], row["structure"]): 100 * float(row["mean"])
        for row in record["summaries"]
        if row["metric"] == PRIMARY_METRIC
    }
    plain = means[NAMES["plain"], MEAN]
    return [
        DiceScore(
            model,
            configuration,
            {tissue: means[name, tissue] for tissue in TISSUES},
            means[name, MEAN],
            None if model == "plain" else means[name, MEAN] - plain,
        )
        for model, name in NAMES.items()
    ]


def _curve(settings: DemoSettings, folders: Folders, model: str, configuration: str) -> list[float]:
    fold = folders.model(TISSUES_DATASET, settings.trainer(MODEL_TRAINERS[model]), configuration).fold(FOLD)
    return [100 * float(value) for value in load_checkpoint_weights(fold.checkpoint)["logging"]["mean_fg_dice"]]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UHFError(f"{path} is missing or damaged: delete the demo folder and run the demo again") from error


def image_table(scores: DemoScores) -> Table:
    """Console table: PSNR and SSIM of input, keeper and teacher for each configuration."""
    table = Table(title=f"Image quality, {scores.validation_cases} subjects outside the keepers' training")
    table.add_column("image")
    configurations = list(dict.fromkeys(score.configuration for score in scores.images))
    for configuration in configurations:
        table.add_column(f"PSNR dB\n{configuration}", justify="right")
        table.add_column(f"SSIM\n{configuration}", justify="right")
    for row, title in IMAGE_ROWS.items():
        found = {score.configuration: score for score in scores.images if score.row == row}
        cells = [(f"{found[c].psnr:.2f}", f"{found[c].ssim:.3f}") for c in configurations]
        table.add_row(title, *(cell for pair in cells for cell in pair))
    return table


def dice_table(scores: DemoScores) -> Table:
    """Console table: Dice per tissue of every model."""
    table = Table(title=f"Dice in percent, {scores.test_cases} held-out subjects")
    for heading in ("configuration", "model"):
        table.add_column(heading)
    for heading in (*TISSUES, "mean", "minus plain"):
        table.add_column(heading, justify="right")
    for score in scores.dice:
        cells = [f"{score.tissues[name]:.1f}" for name in TISSUES]
        difference = "" if score.difference is None else f"{score.difference:+.1f}"
        table.add_row(
            score.configuration,
            NAMES[score.model],
            *cells,
            f"{score.mean:.1f}",
            difference,
            end_section=score.model == MODELS[-1],
        )
    return table
