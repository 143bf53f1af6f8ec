"""The demo: phantom subjects through the real chain, from simulated low field to a guided segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from nnunet_uhf.demo.settings import DemoSettings


def run(
    *,
    out: Path,
    device: str = "cpu",
    settings: DemoSettings | None = None,
    console: Console | None = None,
) -> Path:
    """Run the demo in the folder `out`, see :func:`nnunet_uhf.demo.pipeline.run_demo`."""
    # Every nnU-Net training imports this package for the demo trainers: it must not wait for nilearn and matplotlib.
    from nnunet_uhf.demo.pipeline import run_demo

    return run_demo(out=out, device=device, settings=settings, console=console)
