"""One training of `run.py` and its predictions, by nnU-Net's own functions inside this process.

Starting Python, torch and nnU-Net anew for each of many short trainings would take as long as the trainings.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from unittest import mock

import torch

from nnunet_uhf.nnunet.model_folder import CHECKPOINT, ModelFolder


@contextmanager
def logged(path: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """What is printed goes to a file; the environment is that of the variables, and the old one afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("w", buffering=1, encoding="utf-8") as file,
        redirect_stdout(file),
        mock.patch.dict(os.environ, variables),
    ):
        yield


def train_and_predict(
    *, dataset: str, configuration: str, fold: int, trainer: str, plans: str, images: Path, output: Path, device: str
) -> None:
    """`nnUNetv2_train`, then `nnUNetv2_predict` of a folder without mirroring; `output` is made anew."""
    from nnunetv2.run.run_training import run_training

    run_training(dataset, configuration, fold, trainer, plans, device=torch.device(device))
    trained_model_predicts(
        dataset=dataset,
        configuration=configuration,
        fold=fold,
        trainer=trainer,
        plans=plans,
        images=images,
        output=output,
        device=device,
    )


def trained_model_predicts(
    *, dataset: str, configuration: str, fold: int, trainer: str, plans: str, images: Path, output: Path, device: str
) -> None:
    """`nnUNetv2_predict` of a folder by a finished model, without mirroring; `output` is made anew."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    model = ModelFolder.of(dataset, trainer, plans, configuration).path
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,), CHECKPOINT)
    predictor.predict_from_files_sequential(str(images), str(output))


def preprocess(dataset: str, configuration: str, plans: str, *, environment: Mapping[str, str]) -> None:
    """`nnUNetv2_preprocess` with plans that are there, in folders that the environment names."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess as nnunet_preprocess
    from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id

    with mock.patch.dict(os.environ, environment):
        nnunet_preprocess(
            [convert_dataset_name_to_id(dataset)],
            plans,
            configurations=[configuration],
            num_processes=[1],
            show_progress_bar=False,
        )
