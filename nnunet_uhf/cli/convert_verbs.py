"""The verbs `nnunet-uhf convert ...`: datasets of other layouts as raw nnU-Net datasets."""

from __future__ import annotations

import typer

from nnunet_uhf.cli import convert_labels, convert_pairs


def add_to(app: typer.Typer) -> None:
    """Give `app` the verb convert with verbs of its own."""
    convert = typer.Typer(
        help="Make a raw nnU-Net dataset from data of another layout; sources stay as they are.",
        epilog="Example: nnunet-uhf convert ibsr -i IBSR_nifti_stripped -o $nnUNet_raw/Dataset111_IBSR",
    )
    convert_labels.add_to(convert)
    convert_pairs.add_to(convert)
    app.add_typer(convert, name="convert")
