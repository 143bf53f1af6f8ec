"""One training of `run.py` and its predictions, by nnU-Net's own functions inside this process.

Starting Python, torch and nnU-Net anew for each of many short trainings would take as long as the trainings.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

from nnunet_uhf.nnunet.model_folder import CHECKPOINT, ModelFolder

PATCHES = 64
"""Of a test image that are predicted together."""


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
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    model = ModelFolder.of(dataset, trainer, plans, configuration).path
    predictor = ManyPatches(use_mirroring=False, device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,), CHECKPOINT)
    predictor.predict_from_files_sequential(str(images), str(output))


class ManyPatches(nnUNetPredictor):
    """nnU-Net's predictor, which takes one patch at a time, with many in a batch: small ones leave a device idle."""

    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: Any, do_on_device: bool = True
    ) -> Any:
        """As nnU-Net, of what :meth:`_of_batches` makes."""
        self._waiting = self._of_batches(data, slicers)
        return super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)

    def _of_batches(self, data: Tensor, slicers: Any) -> Iterator[Tensor]:
        for first in range(0, len(slicers), PATCHES):
            patches = torch.stack([data[place] for place in slicers[first : first + PATCHES]])
            yield from super()._internal_maybe_mirror_and_predict(patches.to(self.device)).split(1)

    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """The logits of the next patch: nnU-Net asks in the order of its slicers."""
        return next(self._waiting)


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
