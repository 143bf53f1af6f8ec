"""Environment of the commands that a benchmark runs: nnU-Net's folders in its output folder, and a CPU to share."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_uhf.installation.trainer_path import PATHS_VARIABLE, add_trainers


def environment(out: Path, *, processes: int = 2, trainers: Path | None = None, **further: str) -> dict[str, str]:
    """Variables of the process and those of a benchmark.

    Args:
        out: output folder of the benchmark.
        processes: for preprocessing and evaluation.
        trainers: folder of the benchmark's own trainers.
        further: variables beside these.
    """
    variables = {
        **os.environ,
        **{name: str(out / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
        "nnUNet_def_n_proc": str(processes),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_compile": "f",
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # other work on the machine must not be waited for by spinning
        **further,
    }
    if trainers is not None:
        variables[PATHS_VARIABLE] = str(trainers)
    add_trainers(variables)
    return variables
