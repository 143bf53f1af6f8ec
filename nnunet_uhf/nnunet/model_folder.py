"""nnU-Net's model folders: the one place that puts together and takes apart what they and their files are called.

``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION/fold_N/checkpoint_final.pth``, as nnU-Net 2 has it.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.nnunet.files import read_json, root_folder

CHECKPOINT = "checkpoint_final.pth"
"""Of a training that has come to its end."""
LATEST = "checkpoint_latest.pth"
"""Of the last epoch of a training under way."""
BEST = "checkpoint_best.pth"
"""Of the best epoch of a training under way."""
CHECKPOINTS = (CHECKPOINT, LATEST, BEST)
"""The one to take first comes first."""
DATASET_JSON = "dataset.json"
PLANS_JSON = "plans.json"
SEPARATOR = "__"
RESTORE = "give the results folder of a finished training, or restore that file"
LIKE = "name a folder such as nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
_FOLD = "fold_"
_ALL = "all"
_VALIDATION = "validation"


def description_of(predictions: Path, name: str) -> Path:
    """Where a folder of predictions has plans.json or dataset.json: in it; of a validation folder beside the folds."""
    if predictions.name == _VALIDATION and not (predictions / name).exists():
        return predictions.parent.parent / name
    return predictions / name


class Progress(Enum):
    """How far a training came; the value is what is left to do."""

    NEW = "train"
    STARTED = "continue"
    TRAINED = "validate"
    FINISHED = "done"


@dataclass(frozen=True)
class FoldFolder:
    """The training of one fold."""

    path: Path

    @property
    def name(self) -> str:
        """Number of the fold, or "all"."""
        return self.path.name.removeprefix(_FOLD)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint of the finished training is."""
        return self.path / CHECKPOINT

    @property
    def begun_anew(self) -> bool:
        """Whether the final checkpoint is of an earlier training than the latest one, as version 0.1.0 left it."""
        latest = self.path / LATEST
        both = self.checkpoint.is_file() and latest.is_file()
        return both and latest.stat().st_mtime_ns > self.checkpoint.stat().st_mtime_ns

    @property
    def any_checkpoint(self) -> Path | None:
        """The checkpoint that was trained longest; None without any. It holds all weights, a keeper's included."""
        return next((self.path / name for name in CHECKPOINTS if (self.path / name).is_file()), None)

    @property
    def validation(self) -> Path:
        """Folder of what was predicted for the held-out cases."""
        return self.path / _VALIDATION

    @property
    def summary(self) -> Path:
        """Where the scores of the held-out cases are; written last, so that a validation with it is finished."""
        return self.validation / "summary.json"

    @property
    def progress(self) -> Progress:
        """How far the training came, from the files that are there."""
        if self.checkpoint.is_file() and not self.begun_anew:
            return Progress.FINISHED if self.summary.is_file() else Progress.TRAINED
        return Progress.NEW if self.any_checkpoint is None else Progress.STARTED


class ModelName(NamedTuple):
    """What the name of a model folder says."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return SEPARATOR.join(self)


@dataclass(frozen=True)
class ModelFolder:
    """The folds of one trainer, plans and configuration.

    A copy of a model folder may lie anywhere under any name: the name is only taken apart where it is asked for.
    """

    path: Path

    @classmethod
    def of(
        cls, dataset: str, trainer: str, plans: str, configuration: str, *, results: Path | None = None
    ) -> ModelFolder:
        """Where nnU-Net trains.

        Args:
            dataset: full name, DatasetXXX_NAME.
            trainer: name of the class.
            plans: name of the plans.
            configuration: such as 3d_fullres.
            results: nnU-Net's folder of results; None: that of ``nnUNet_results``.

        Raises:
            UHFError: ``nnUNet_results`` is not set.
        """
        place = root_folder("nnUNet_results") if results is None else results
        return cls(place / dataset / str(ModelName(trainer, plans, configuration)))

    @classmethod
    def of_every_trainer(cls, dataset: str, plans: str, configuration: str) -> list[ModelFolder]:
        """The model folders that are there of a dataset, plans and configuration, by name.

        Raises:
            UHFError: ``nnUNet_results`` is not set.
        """
        place, like = root_folder("nnUNet_results") / dataset, ModelName("*", plans, configuration)
        return [cls(path) for path in sorted(place.glob(str(like))) if path.name.count(SEPARATOR) == 2]

    @classmethod
    def parse(cls, path: Path) -> ModelFolder:
        """A model folder that is there, under the name that nnU-Net gave it.

        Raises:
            UHFError: it is not, or is called otherwise.
        """
        if not path.is_dir() or path.resolve().name.count(SEPARATOR) != 2:
            raise UHFError(f"{path} is no model folder: {LIKE}")
        return cls(path)

    @property
    def name(self) -> ModelName:
        """What the folder's name says, see :meth:`parse`."""
        return ModelName(*self.path.resolve().name.split(SEPARATOR))

    def of_other_lengths(self, fold: int | str) -> list[ModelFolder]:
        """Models of the same trainer at other lengths (``_50epochs``) beside this one, whose fold is finished."""
        name = self.name
        base = name.trainer.partition("_")[0]
        beside = [ModelFolder(path) for path in sorted(self.path.parent.glob(f"{base}*{SEPARATOR}*")) if path.is_dir()]
        return [
            other
            for other in beside
            if other.path != self.path
            and other.name[1:] == name[1:]
            and re.fullmatch(rf"{base}(_[0-9]+epochs?)?", other.name.trainer)
            and other.fold(fold).checkpoint.is_file()
        ]

    def fold(self, number: int | str) -> FoldFolder:
        """The folder of a fold, whether it is there or not: a number, or "all"."""
        return FoldFolder(self.path / f"{_FOLD}{number}")

    @property
    def folds(self) -> dict[str, FoldFolder]:
        """The folds whose folders are there, by number or "all"."""
        found = (FoldFolder(path) for path in sorted(self.path.glob(f"{_FOLD}*")) if path.is_dir())
        return {fold.name: fold for fold in found if fold.name == _ALL or fold.name.isdecimal()}

    @property
    def finished_folds(self) -> tuple[int | str, ...]:
        """The numbered folds that have a final checkpoint; fold "all" where there is no other.

        Raises:
            UHFError: there is none.
        """
        finished = [name for name, fold in self.folds.items() if fold.checkpoint.is_file()]
        folds: tuple[int | str, ...] = tuple(int(name) for name in finished if name != _ALL) or tuple(finished)
        if not folds:
            raise UHFError(f"{self.path} has no finished fold ({_FOLD}*/{CHECKPOINT}); finish the training first")
        return folds

    @property
    def plans_file(self) -> Path:
        """Where the plans it was trained with are."""
        return self.path / PLANS_JSON

    @property
    def dataset_file(self) -> Path:
        """Where the dataset.json it was trained with is."""
        return self.path / DATASET_JSON

    def plans(self, *, advice: str = RESTORE) -> dict[str, Any]:
        """The plans it was trained with.

        nnU-Net writes them in place at every start: a kill may leave half of them. The checkpoints hold them, too, and
        from one of these the file is then made again.

        Raises:
            UHFError: they are missing, or damaged without a checkpoint to make them of; ends with the advice.
        """
        try:
            return read_json(self.plans_file, advice=advice)
        except UHFError:
            plans = self._plans_of_a_checkpoint() if self.plans_file.is_file() else None
            if plans is None:
                raise
        with suppress(UHFError), written_whole(self.plans_file) as temporary:  # a folder may be read-only
            temporary.write_text(json.dumps(plans, indent=4), encoding="utf-8")
        sys.stderr.write(f"note: {self.plans_file} was damaged and is made again from a checkpoint\n")
        return plans

    def _plans_of_a_checkpoint(self) -> dict[str, Any] | None:
        from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights

        for fold in self.folds.values():
            for name in CHECKPOINTS:
                with suppress(UHFError):
                    plans = load_checkpoint_weights(fold.path / name)["init_args"].get("plans")
                    if isinstance(plans, dict):
                        return plans
        return None

    def dataset_json(self, *, advice: str = RESTORE) -> dict[str, Any]:
        """The dataset.json it was trained with; UHFError, which ends with the advice, when it is missing or damaged."""
        return read_json(self.dataset_file, advice=advice)
