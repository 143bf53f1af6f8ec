"""What is compared: finished nnU-Net model folders with their validation, or folders of predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from nnunet_uhf.errors import UHFError
from nnunet_uhf.guidance.stated import StatedGuidance
from nnunet_uhf.imageio.volumes import volume_files
from nnunet_uhf.keepers.training_block import TrainingRole
from nnunet_uhf.nnunet.files import read_json, stated_settings
from nnunet_uhf.nnunet.model_folder import (
    DATASET_JSON,
    LIKE,
    PLANS_JSON,
    SEPARATOR,
    FoldFolder,
    ModelFolder,
    description_of,
)
from nnunet_uhf.nnunet.plans_block import block_of, role_of


@dataclass(frozen=True)
class Entry:
    """One side of a comparison.

    Attributes:
        name: as it is called in the report.
        folder: model folder, or folder of predictions.
        files: predicted label map by case.
        folds: fold by case; empty for predictions.
        plans: content of plans.json, None where predictions come without.
        dataset_json: content of dataset.json, None where predictions come without.
        trainer: class name of the trainer, None for predictions.
        configuration: such as 3d_fullres, None where predictions do not tell.
        fold_folders: by fold; empty for predictions.
        warnings: what the reader has to know.
        again: further trainings of the same model.
    """

    name: str
    folder: Path
    files: Mapping[str, Path]
    folds: Mapping[str, str] = field(default_factory=dict)
    plans: Mapping[str, Any] | None = None
    dataset_json: Mapping[str, Any] | None = None
    trainer: str | None = None
    configuration: str | None = None
    fold_folders: Mapping[str, FoldFolder] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    again: tuple[Entry, ...] = ()

    @property
    def trainings(self) -> tuple[Entry, ...]:
        """This one and the further trainings."""
        return (self, *self.again)

    @property
    def is_model(self) -> bool:
        """Whether it is a model folder, with trainings to look at."""
        return self.trainer is not None

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the configuration, inheritance resolved; empty where it is not known."""
        if self.plans is None or self.configuration is None:
            return {}
        return self._stated(self.configuration)

    @property
    def blocks(self) -> dict[str, StatedGuidance]:
        """What the `uhf` block of the configuration says, or of all where predictions do not tell which one it was.

        Raises:
            UHFError: plans.json has configurations that nnU-Net cannot read.
        """
        if self.plans is None:
            return {}
        stated = self.plans.get("configurations", {})
        every = list(stated) if isinstance(stated, Mapping) else [""]  # which no plans have
        names = every if self.configuration is None else [self.configuration]
        found = {name: StatedGuidance.read(block_of(self._stated(name))) for name in names}
        return {name: block for name, block in found.items() if block is not None}

    def _stated(self, configuration: str) -> Mapping[str, Any]:
        try:
            return stated_settings(self.plans or {}, configuration)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            where = description_of(self.folder, PLANS_JSON)
            raise UHFError(
                f"{where}: its configurations are not as nnU-Net writes them; repair or remove it"
            ) from error


def read_model(folder: Path) -> Entry:
    """A finished nnU-Net model folder: the validation of all its numbered folds.

    ``fold_all`` is validated on the cases it was trained on. It is used only where there is no other fold, with a
    warning.

    Raises:
        UHFError: no model folder, a model that makes images, no validated fold, a case in two folds.
    """
    model = ModelFolder.parse(folder)
    plans, dataset_json = model.plans(advice=LIKE), model.dataset_json(advice=LIKE)
    _require_segmentation(folder, plans)
    folds = model.folds
    warnings = []
    if "all" in folds and len(folds) > 1:
        del folds["all"]
        warnings.append(f"{folder.name}: fold_all is left out, it is validated on the cases it was trained on.")
    elif "all" in folds:
        warnings.append(
            f"{folder.name} has only fold_all, which is validated on the cases IT WAS TRAINED ON: its scores are no "
            "held-out scores."
        )
    files: dict[str, Path] = {}
    fold_of: dict[str, str] = {}
    for fold, place in folds.items():
        if not place.summary.is_file():
            warnings.append(f"{folder.name}: fold {fold} is left out, it has no finished validation (summary.json).")
            continue
        for case, file in volume_files(place.validation).items():
            if case in files:
                raise UHFError(
                    f"{place.validation} holds case {case}, and so does fold {fold_of[case]}: remove one of them"
                )
            files[case], fold_of[case] = file, fold
    if not files:
        raise UHFError(
            f"{folder} has no fold with a finished validation: finish its training, or run nnUNetv2_train with --val"
        )
    used = {fold: folds[fold] for fold in sorted(set(fold_of.values()))}
    trainer, _, configuration = model.name
    return Entry(
        str(model.name), folder, files, fold_of, plans, dataset_json, trainer, configuration, used, tuple(warnings)
    )


def _require_segmentation(folder: Path, plans: Mapping[str, Any]) -> None:
    """UHFError when what a folder's model makes are images: keepers, translations, super-resolution."""
    configurations = plans.get("configurations")
    settings = configurations.values() if isinstance(configurations, Mapping) else ()
    roles = {role_of(block_of(one)) for one in settings if isinstance(one, Mapping)}
    if roles & set(get_args(TrainingRole)):
        raise UHFError(
            f"{folder} is a model that makes images, no label maps: measure what it makes with nnunet-uhf "
            "evaluate-images, without a truth of the same subjects with --unpaired"
        )


def read_predictions(folder: Path) -> Entry:
    """A folder of predicted label maps; plans.json and dataset.json, which nnU-Net leaves there, are read if present.

    Raises:
        UHFError: no such folder, no label map in it, damaged JSON.
    """
    files = volume_files(folder)
    described = (description_of(folder, name) for name in (PLANS_JSON, DATASET_JSON))
    plans, dataset_json = (
        read_json(path, advice="remove or repair it") if path.is_file() else None for path in described
    )
    return Entry(folder.resolve().name, folder, files, plans=plans, dataset_json=dataset_json)


def name_entries(entries: Sequence[Entry], names: Sequence[str] | None) -> list[Entry]:
    """The entries under the names given, or under the part of their folder's name that tells them apart.

    Raises:
        UHFError: not one name an entry, an empty name, or two alike.
    """
    if names is None:
        chosen = _short_names([entry.name for entry in entries])
    elif len(names) != len(entries):
        raise UHFError(f"-names: {len(names)} names for {len(entries)} folders; give one a folder, -m before -pred")
    else:
        chosen = [name.strip() for name in names]
    twice = [name for name, count in Counter(chosen).items() if count > 1]
    if twice or not all(chosen):
        raise UHFError(f"Several folders are called {(twice or [''])[0]!r}: give each a name of its own (-names)")
    return [replace(entry, name=name) for entry, name in zip(entries, chosen, strict=True)]


def baseline_first(entries: Sequence[Entry], baseline: str | None) -> list[Entry]:
    """The entries with the baseline, by name or folder, in front.

    Raises:
        UHFError: none or several are called so.
    """
    if baseline is None:
        return list(entries)
    found = [entry for entry in entries if baseline in (entry.name, entry.folder.resolve().name, str(entry.folder))]
    if len(found) != 1:
        listed = ", ".join(entry.name for entry in entries)
        raise UHFError(f"--baseline {baseline}: choose one of {listed}")
    return [found[0], *(entry for entry in entries if entry is not found[0])]


def _short_names(names: Sequence[str]) -> list[str]:
    """Names without the parts (trainer, plans, configuration) that all of them share."""
    split = [name.split(SEPARATOR) for name in names]
    if len({len(parts) for parts in split}) != 1 or len(set(names)) < len(names) or len(names) < 2:
        return list(names)
    kept = [index for index, column in enumerate(zip(*split, strict=True)) if len(set(column)) > 1]
    return [" ".join(parts[index] for index in kept) for parts in split]
