"""What data a fold was trained on: recorded when a training starts, held against the folders ever after (ours).

nnU-Net reads splits_final.json anew each time. People write that file before, between and after trainings; what was
held out is only known for sure when the training itself says it. The record travels in every checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.files import configuration_settings, read_json
from nnunet_uhf.nnunet.orientation import common_orientation

RECORD = "uhf_data"
"""Key of the record in `init_args` of a checkpoint: nnU-Net hands these on to every later checkpoint."""
SPLITS = "splits_final.json"
FINGERPRINT = "dataset_fingerprint.json"
FOLDS = 5
"""As many as nnU-Net makes where there is no split file."""
_ASKS = ("channel_names", "labels", "uhf")
_PREPROCESSING = ("data_identifier", "spacing", "normalization_schemes", "use_mask_for_norm", "preprocessor_name")
_DIGITS = 6  # of the numbers in a fingerprint: the last ones depend on the version of numpy


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data of one fold.

    Attributes:
        training: cases that are learnt from.
        validation: cases that are held out; empty for fold "all".
        images: hash of nnU-Net's fingerprint of the images and of how they are preprocessed.
        task: hash of what dataset.json asks for: channels, labels, `uhf`.
        orientation: in which the training's images are stored ("LAS"), "mixed" of several, None where it is not known.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    images: str
    task: str
    orientation: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As it stands in a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def of(
        cls,
        fold: int | str,
        training: Sequence[str],
        validation: Sequence[str],
        *,
        preprocessed: Path,
        plans: Mapping[str, Any],
        configuration: str,
        dataset_json: Mapping[str, Any],
    ) -> TrainingData:
        """The record of a fold whose cases are known; ``preprocessed`` is the dataset's folder."""
        settings = configuration_settings(plans, configuration)
        fingerprint = preprocessed / FINGERPRINT
        seen = read_json(fingerprint, advice="extract the fingerprint again") if fingerprint.is_file() else {}
        return cls(
            training=tuple(map(str, training)),
            validation=() if fold == "all" else tuple(map(str, validation)),
            images=_digest([_rounded(seen), {name: settings.get(name) for name in _PREPROCESSING}]),
            task=_digest({name: dataset_json.get(name) for name in _ASKS}),
            orientation=common_orientation(preprocessed / str(settings.get("data_identifier")), map(str, training)),
        )

    @classmethod
    def at_hand(
        cls, fold: int | str, *, preprocessed: Path, plans: Mapping[str, Any], configuration: str
    ) -> TrainingData:
        """What a training of this fold would be of, were it started now.

        Raises:
            UHFError: no split file, or no such fold in it; no preprocessed cases.
        """
        identifier = configuration_settings(plans, configuration)["data_identifier"]
        training, validation = cases_of_fold(preprocessed, identifier, fold)
        asks = preprocessed / "dataset.json"
        return cls.of(
            fold,
            training,
            validation,
            preprocessed=preprocessed,
            plans=plans,
            configuration=configuration,
            dataset_json=read_json(asks, advice="preprocess again") if asks.is_file() else {},
        )

    @classmethod
    def recorded(cls, init_args: Mapping[str, Any]) -> TrainingData | None:
        """The record in `init_args` of a checkpoint; None in those of version 0.1.0."""
        entry = init_args.get(RECORD)
        if not isinstance(entry, Mapping) or not cls.__dataclass_fields__.keys() - {"orientation"} <= entry.keys():
            return None
        return cls(
            training=tuple(entry["training"]),
            validation=tuple(entry["validation"]),
            images=entry["images"],
            task=entry["task"],
            orientation=entry.get("orientation"),
        )

    def changes(self, now: TrainingData, *, task: bool = False) -> list[str]:
        """What is another now than it was in the training, in words; ``task``: dataset.json, too."""
        found = []
        if set(self.validation) != set(now.validation):
            found.append(f"it held out {_some(self.validation)}, {SPLITS} now holds out {_some(now.validation)}")
        elif set(self.training) != set(now.training):
            changed = sorted(set(self.training) ^ set(now.training))
            found.append(f"its training cases are others now: {_some(changed)} came or went")
        if self.images != now.images:
            found.append(f"the images or their preprocessing changed since ({FINGERPRINT}, plans)")
        if None not in (self.orientation, now.orientation) and self.orientation != now.orientation:
            found.append(f"its images were stored in {self.orientation}, they are in {now.orientation} now")
        if task and self.task != now.task:
            found.append("dataset.json asks for something else since (channels, labels or uhf)")
        return found


def refuse_changes(
    recorded: TrainingData | None,
    now: TrainingData,
    *,
    summary: Path,
    where: Path,
    advice: str,
    task: bool = False,
) -> None:
    """Hold the data of a training against those that are there now.

    Args:
        recorded: of the training; None where its checkpoint is of version 0.1.0, which recorded nothing: then its
            validation tells which cases were held out.
        now: of the same fold.
        summary: summary.json of the training's validation, whether it is there or not.
        where: the file or folder of the training, for the message.
        advice: the end of the message.
        task: whether dataset.json has to be the same, too.

    Raises:
        UHFError: they differ.
    """
    if recorded is not None:
        found = recorded.changes(now, task=task)
    else:
        validated, judged = validated_cases(summary), now.validation or now.training
        differ = validated is not None and validated != set(judged)
        found = [f"its validation was of {_some(sorted(validated or ()))}, {SPLITS} now holds out {_some(judged)}"]
        found = found if differ else []
    if found:
        raise UHFError(f"{where}: {'; '.join(found)}; {advice}")


def validated_cases(summary: Path) -> set[str] | None:
    """The cases of a summary.json, of images or of nnU-Net's segmentations; None where it does not tell them."""
    try:
        rows = json.loads(summary.read_text(encoding="utf-8"))["metric_per_case"]
        return {row["case"] if "case" in row else _case_of(row["prediction_file"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cases_of_fold(preprocessed: Path, data_identifier: str, fold: int | str) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold, as nnU-Net chooses them; fold "all" holds out none.

    Raises:
        UHFError: no split file, or no such fold in it; no preprocessed cases.
    """
    if fold == "all":  # every preprocessed case; nnU-Net then neither reads nor writes the splits
        from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

        folder = preprocessed / data_identifier
        if not folder.is_dir():
            raise UHFError(f"{folder} does not exist; a keeper must name the cases it was trained on: preprocess again")
        return sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder))), []
    splits = preprocessed / SPLITS
    if not splits.is_file():
        raise UHFError(f"{splits} does not exist; a keeper must name the cases it was trained on: restore that file")
    folds = folds_in(splits)
    if int(fold) >= len(folds):
        raise UHFError(f"{splits} has {len(folds)} folds, so the cases of fold {fold} are unknown; train one of those")
    return list(folds[int(fold)]["train"]), list(folds[int(fold)]["val"])


def planned_cases(
    preprocessed: Path, plans: Mapping[str, Any], configuration: str, fold: int | str
) -> tuple[list[str], list[str]]:
    """As :func:`cases_of_fold`; no cases where nnU-Net has not split them yet, but will.

    Raises:
        UHFError: no such fold in the split file, or among those that nnU-Net makes without one.
    """
    if fold != "all" and not (preprocessed / SPLITS).is_file():
        if int(fold) >= FOLDS:
            raise UHFError(
                f"{preprocessed / SPLITS} does not exist, and nnU-Net splits into {FOLDS} folds: train one from 0 to "
                f"{FOLDS - 1}, not {fold}"
            )
        return [], []
    return cases_of_fold(preprocessed, configuration_settings(plans, configuration)["data_identifier"], fold)


def folds_in(splits: Path) -> list[dict[str, list[str]]]:
    """The folds of a split file; UHFError when it is damaged."""
    advice = "restore that file, or delete it to have nnU-Net make it anew"
    try:
        folds = json.loads(splits.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        raise UHFError(f"{splits} is not readable as JSON; {advice}") from None
    if not isinstance(folds, list) or not all(
        isinstance(each, dict) and {"train", "val"} <= set(each) for each in folds
    ):
        raise UHFError(f"{splits} is no list of folds with train and val; {advice}")
    return folds


def _case_of(file: str) -> str:
    name = Path(file).name
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _some(cases: Sequence[str]) -> str:
    return f"{', '.join(cases[:5])}{', ...' if len(cases) > 5 else ''}" if cases else "no case"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
