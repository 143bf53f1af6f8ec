"""What the jobs on IXI scans share: their options, their folders, and a run of stages that goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nnunet_uhf.nnunet.model_folder import LATEST, FoldFolder, ModelFolder
from nnunet_uhf.stages import Stage, open_folder, run_stages

LABELS = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
"""Of labels_tissue/ of ixi_hh_2mm."""

Data = Annotated[Path, typer.Option(help="Folder with images/ and labels_tissue/ of ixi_hh_2mm.")]
Out = Annotated[Path, typer.Option(help="Output folder; a stopped run goes on there.")]
Device = Annotated[str, typer.Option("-device", help="cpu or cuda.")]


@dataclass(frozen=True)
class Places:
    """Folders of one run: the scans, and the folder it works in."""

    data: Path
    out: Path

    @property
    def cases(self) -> list[str]:
        """All scans, in the order of their names."""
        return sorted(path.name.removesuffix(".nii.gz") for path in (self.data / "images").glob("*.nii.gz"))

    def groups(self, *sizes: int) -> list[list[str]]:
        """So many of the scans for each purpose, in this order; none is in two groups."""
        cases, first, groups = self.cases, 0, []
        for size in sizes:
            groups.append(cases[first : first + size])
            first += size
        return groups

    def of(self, folder: str, cases: Sequence[str]) -> dict[str, Path]:
        """Files of the data by case."""
        return {case: self.data / folder / f"{case}.nii.gz" for case in cases}

    def raw(self, dataset: str) -> Path:
        """A raw dataset."""
        return self.out / "nnUNet_raw" / dataset

    def preprocessed(self, dataset: str) -> Path:
        """A preprocessed dataset, where its plans are."""
        return self.out / "nnUNet_preprocessed" / dataset

    def model(self, dataset: str, trainer: str, plans: str, configuration: str) -> ModelFolder:
        """What nnU-Net trained."""
        return ModelFolder.of(dataset, trainer, plans, configuration, results=self.out / "nnUNet_results")

    def keeper(self, name: str) -> Path:
        """Exported keeper file."""
        return self.out / "keepers" / f"{name}.safetensors"


def going_on(fold: FoldFolder) -> tuple[str, ...]:
    """What nnUNetv2_train has to be told for a training that was stopped."""
    return ("--c",) if (fold.path / LATEST).is_file() else ()


def run_job(
    stages: Sequence[Stage],
    places: Places,
    *,
    settings: Mapping[str, Any],
    environment: Mapping[str, str],
    console: Console,
    results: Callable[[], Mapping[str, Any]],
) -> None:
    """Run the stages that are not finished, then write results.json: what was measured, and the seconds of each stage.

    Args:
        stages: all of them, in order.
        places: of the run.
        settings: what decides its numbers; an output folder of other settings is refused.
        environment: of the commands.
        console: for progress.
        results: measures, once all stages are finished.
    """
    state = open_folder(places.out, json.loads(json.dumps(settings)))
    run_stages(stages, state=state, environment=environment, logs=places.out / "logs", console=console)
    (places.out / "results.json").write_text(json.dumps({**results(), "seconds": state.finished}, indent=1))
