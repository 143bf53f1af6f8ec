"""Both ends of the gaps between slices: what a trained Uni-COAL makes at the places of the slices themselves.

At delta = 0 the volume should be no further from the truth than the thick slice there, and delta = 1 behind one slice
is the same place as delta = 0 at the next. Reads the output folder of benchmarks/unicoal.py.
"""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import numpy as np
import typer
from commands import environment
from jobs import Data, Device, Out, Places
from unicoal import DATASET, PLANS, Job, fold

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
JUST_BEFORE = 1e-6  # of a slice distance: delta rounds to 1


def ends(job: Job, places: Places, device: str) -> list[dict[str, Any]]:
    """A row for every held-out subject and ratio: PSNR within the brain at the places of inner slices, in dB."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_uhf.evaluation.image_metrics import psnr
    from nnunet_uhf.inference.slice_volumes import Wanted
    from nnunet_uhf.networks.unicoal.modalities import Slices
    from nnunet_uhf.preprocessing.low_field.slice_profile import profile_weights

    trainer = get_trainer_from_args(DATASET, "2d", 0, job.trainer, PLANS, device=torch.device(device))
    trainer.initialize()
    trainer.load_checkpoint(str(fold(job, places).checkpoint))
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    held = trainer.held_out_images()
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, trainer.judged_cases())
    known, rows = held.task.modalities, []
    gap = float(np.mean(known.gap))
    for case in dataset.identifiers:
        data, labels, _, properties = dataset.load_case(case)
        name = known.targets[0]
        mm = float(properties["spacing"][held.plan.transpose[0]])
        inside = np.asarray(labels[0]) >= 0
        truth = held.cases[case].ranges[name].shifted(np.asarray(data[held.task.channels[name]], np.float32), inside)
        for ratio in (2, 4):
            positions = list(range(0, len(truth), ratio))
            thickness = ratio * (1 - gap)
            weights = profile_weights(len(truth), positions, thickness=thickness).astype(np.float32)
            slices = np.tensordot(weights, truth, axes=1)
            told = Slices(distance_mm=ratio * mm, thickness_mm=thickness * mm)
            wanted = Wanted(target=name, slices=told, spacing_mm=mm)
            inner = np.arange(2, len(slices) - 2)
            zero, one = (
                held.volumes.predict({name: slices}, wanted, places=[float(n) - before for n in inner])
                for before in (0.0, JUST_BEFORE)
            )
            brain = np.asarray(labels[0])[inner * ratio] > 0
            true = truth[inner * ratio] - 1
            rows.append(
                {
                    "case": case,
                    "ratio": ratio,
                    "slice": psnr(true, slices[inner] - 1, mask=brain),
                    "delta_0": psnr(true, zero, mask=brain),
                    "delta_1": psnr(true, one, mask=brain),
                    "delta_0_against_1": psnr(zero, one, mask=brain),
                }
            )
    return rows


@app.command()
def main(
    data: Data,
    out: Out,
    device: Device = "cpu",
    epochs: Annotated[int, typer.Option(help="As of the training.")] = 10,
) -> None:
    """Measure, print the means, and write ends.json beside the training's results.json.

    Example: python benchmarks/unicoal_ends.py --data ../shared/data/ixi_hh_2mm --out unicoal
    """
    job, places = Job(epochs=epochs), Places(data.resolve(), out.resolve())
    os.environ.update(environment(places.out))
    rows = ends(job, places, device)
    (places.out / "ends.json").write_text(json.dumps(rows, indent=1))
    for ratio in (2, 4):
        chosen = [row for row in rows if row["ratio"] == ratio]
        means = {key: float(np.mean([row[key] for row in chosen])) for key in list(chosen[0])[2:]}
        typer.echo(f"r = {ratio}: " + ", ".join(f"{key} {value:.2f} dB" for key, value in means.items()))


if __name__ == "__main__":
    app()
