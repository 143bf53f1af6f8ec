"""What a guided model says of its guidance, and how loud it is: `nnunet-uhf inspect MODEL_FOLDER` (ours)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.block import GuidedBlock
from nnunet_uhf.networks.guided.controls import CONTROLS
from nnunet_uhf.nnunet.checkpoints import last_loudness, load_checkpoint_weights, recorded_seed
from nnunet_uhf.nnunet.model_folder import LIKE, ModelFolder


def model_facts(folder: Path) -> dict[str, Any]:
    """The guidance of a model folder, and of every fold with a checkpoint its seed, epochs and loudness.

    Raises:
        UHFError: no model folder, no guided one, or a checkpoint that cannot be read.
    """
    model = ModelFolder.parse(folder)
    trainer, _, configuration = model.name
    block = GuidedBlock.of(model.plans(advice=LIKE), configuration, where=model.plans_file)
    if block is None:
        raise UHFError(f"{folder} is the model of a plain training: there is no guidance to inspect")
    folds = []
    for fold, place in model.folds.items():
        path = place.any_checkpoint
        if path is None:
            continue
        checkpoint = load_checkpoint_weights(path)
        folds.append(
            {
                "fold": fold,
                "epochs": len(checkpoint.get("logging", {}).get("train_losses", [])),
                "seed": recorded_seed(checkpoint),
                "loudness": list(last_loudness(checkpoint)),
            }
        )
    return {
        "trainer": trainer,
        "configuration": configuration,
        "control": block.control,
        "preset": block.preset,
        "fusion_rate": block.fusion_rate,
        "guide_channel": block.guide_channel,
        "keeper": block.keeper.sha256,
        "folds": folds,
    }


def model_table(facts: dict[str, Any]) -> Table:
    """The facts as a two-column rich table."""
    table = Table(title="Guided model", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    control = facts["control"]
    rows = [
        ("trainer", facts["trainer"]),
        ("configuration", facts["configuration"]),
        *([("CONTROL", CONTROLS[control].description)] if control else []),
        ("preset", facts["preset"]),
        ("fusions learn", _rate(facts["fusion_rate"])),
        ("keeper", facts["keeper"]),
    ]
    for each in facts["folds"]:
        seed = "" if each["seed"] is None else f", seed {each['seed']}"
        loudness = " ".join(f"{value:.3f}" for value in each["loudness"]) or "not recorded"
        rows.append(
            (f"fold {each['fold']}", f"{each['epochs']} epochs{seed}, loudness, finest stage first: {loudness}")
        )
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _rate(rate: float | None) -> str:
    if rate is None:
        return "not stated"
    return f"by Adam, rate {rate:g}" if rate else "by the backbone's optimizer"
