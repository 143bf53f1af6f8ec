"""What a guided model says of its guidance, and how loud it is: `nnunet-uhf inspect MODEL_FOLDER` (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.networks.guided.controls import CONTROLS
from nnunet_uhf.nnunet.checkpoints import last_loudness, load_checkpoint_weights, recorded_seed
from nnunet_uhf.nnunet.model_folder import LIKE, ModelFolder


@dataclass(frozen=True, kw_only=True)
class FoldFacts:
    """A training: its number or "all", finished epochs, seed, and loudness of every stage, finest first."""

    fold: str
    epochs: int
    seed: int | None
    loudness: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The guidance of a model folder, as its block has it; ``keeper`` is a hash, ``origin`` says whose."""

    trainer: str
    configuration: str
    control: str | None
    preset: str
    fusion_rate: float | None
    keeper: str
    origin: str
    folds: tuple[FoldFacts, ...]


def model_facts(folder: Path) -> ModelFacts:
    """Read the plans and the checkpoints of a guided model.

    Raises:
        UHFError: no model folder, no guided one, or a checkpoint that cannot be read.
    """
    model = ModelFolder.parse(folder)
    trainer, _, configuration = model.name
    block = GuidedBlock.of(model.plans(advice=LIKE), configuration, where=model.plans_file)
    if block is None:
        raise UHFError(f"{folder} is the model of a plain training: there is no guidance to inspect")
    return ModelFacts(
        trainer=trainer,
        configuration=configuration,
        control=block.control,
        preset=block.preset,
        fusion_rate=block.fusion_rate,
        keeper=block.keeper.sha256,
        origin=block.keeper.provenance.described(),
        folds=tuple(
            _fold_facts(fold, place.any_checkpoint)
            for fold, place in model.folds.items()
            if place.any_checkpoint is not None
        ),
    )


def _fold_facts(fold: str, checkpoint: Path) -> FoldFacts:
    content = load_checkpoint_weights(checkpoint)
    epochs = len(content.get("logging", {}).get("train_losses", []))
    return FoldFacts(fold=fold, epochs=epochs, seed=recorded_seed(content), loudness=last_loudness(content))


def model_table(facts: ModelFacts) -> Table:
    """The facts as a two-column rich table."""
    table = Table(title="Guided model", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        ("trainer", facts.trainer),
        ("configuration", facts.configuration),
        *([("CONTROL", CONTROLS[facts.control].description)] if facts.control else []),
        ("preset", facts.preset),
        ("fusions learn", _rate(facts.fusion_rate)),
        ("keeper", facts.keeper),
        ("it comes from", facts.origin),
    ]
    for each in facts.folds:
        seed = "" if each.seed is None else f", seed {each.seed}"
        loudness = " ".join(f"{value:.3f}" for value in each.loudness) or "not recorded"
        rows.append(
            (
                f"fold {each.fold}",
                f"{each.epochs} epoch{'s' if each.epochs != 1 else ''}{seed}, loudness, finest stage first: {loudness}",
            )
        )
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _rate(rate: float | None) -> str:
    if rate is None:
        return "not stated"
    return f"by Adam, rate {rate:g}" if rate else "by the backbone's optimizer"
