"""A raw dataset for `nnunet-uhf probe` of an experiment's keepers: its pool to learn from, its test subjects to test.

None of them was in the training of a keeper. The labels may be those of another task than the experiment's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.datasets.write import write_segmentation_dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of the benchmarks, as for those beside it

from experiment.data import CHANNEL
from experiment.settings import HIGH_FIELD, Places, Severity, find_task

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="ixi_hh_2mm, or msd_hippocampus for that task.")],
    experiment: Annotated[Path, typer.Option(help="Output folder of experiment/run.py.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset, DatasetXXX_NAME, new.")],
    task: Annotated[str, typer.Option(help="tissue, region or hippocampus.")] = "tissue",
    severity: Annotated[str, typer.Option(help="RATIO:NOISE[:BIAS[:CROP]] of the images, or high.")] = "3:4",
) -> None:
    """Write the dataset.

    Example: python benchmarks/experiment/probed.py --data ixi_hh_2mm --experiment tissue --out raw/Dataset301_Probed
    """
    places = Places(data.resolve(), experiment.resolve())
    found = find_task(task, places.data)
    images = places.images(HIGH_FIELD if severity == HIGH_FIELD else Severity.parse(severity).name)
    files = {group: {p.name.removesuffix(".nii.gz"): p for p in sorted((images / group).glob("*.nii.gz"))}
             for group in ("pool", "test")}  # fmt: skip
    if not all(files.values()):
        raise UHFError(f"{images}: no images of a pool and of test subjects; give the folder of a finished run")
    labels = {
        group: {case: places.labels(found) / f"{case}.nii.gz" for case in cases} for group, cases in files.items()
    }
    write_segmentation_dataset(
        out,
        channels={CHANNEL: files["pool"]},
        labels=labels["pool"],
        label_names=found.names,
        test_channels={CHANNEL: files["test"]},
        test_labels=labels["test"],
    )


if __name__ == "__main__":
    app()
