"""What a run is asked for, and where its files are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.packaged import BUILTIN
from nnunet_uhf.trainers.lengths import LONGEST, NNUNET_EPOCHS, suffix_of_length

PLAIN, GUIDED = "nnUNetTrainerSeeded", "UHFTrainer"
TRAINERS = {"plain": PLAIN, "guided": GUIDED}
DEFAULT_PLANS = "nnUNetPlans"
KEEPER_EPOCHS = 250
CASCADE = "3d_cascade_fullres"
DEFAULT_FOLDS: tuple[int | str, ...] = (0, 1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What decides the result of a run.

    Attributes:
        dataset: full name of the labelled dataset.
        configurations: nnU-Net's, such as 2d and 3d_fullres.
        folds: numbers, or "all".
        plans: name of the plans of the labelled dataset.
        pairs: full name of the dataset that a keeper is trained on first; None for one that is there.
        keeper: keeper files and folders as nnUNet_UHF_KKN has them, or "builtin"; unused where there are pairs.
        epochs: of plain and guided trainings; None for nnU-Net's 1000.
        keeper_epochs: of teacher and keeper; None for their 250.
        seed: of both trainings, which start and are fed alike.
        images: folder of images to predict; None for none.
        reference: folder of their true label maps; None where there are none.

    Raises:
        UHFError: nothing to do, an option without use, or values out of range.
    """

    dataset: str
    configurations: tuple[str, ...]
    folds: tuple[int | str, ...] = DEFAULT_FOLDS
    plans: str = DEFAULT_PLANS
    pairs: str | None = None
    keeper: str = BUILTIN
    epochs: int | None = None
    keeper_epochs: int | None = None
    seed: int = 1
    images: str | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        if not self.configurations or not self.folds:
            raise UHFError("a run needs a configuration (-c) and a fold (-f) at least")
        if CASCADE in self.configurations:
            raise UHFError(f"-c {CASCADE}: a run has no stages that wait for each other; take 3d_lowres and 3d_fullres")
        for name, several in (("-c", self.configurations), ("-f", self.folds)):
            if len(set(several)) != len(several):
                raise UHFError(f"{name} names {', '.join(map(str, several))}: each once")
        for name, length in (("--epochs", self.epochs), ("--keeper-epochs", self.keeper_epochs)):
            if length is not None and not 1 <= length <= LONGEST:
                raise UHFError(f"{name} is {length}: give a whole number from 1 to {LONGEST}")
        if self.keeper_epochs is not None and self.pairs is None:
            raise UHFError("--keeper-epochs: no keeper is trained without --pairs; leave one of them")
        if self.reference is not None and self.images is None:
            raise UHFError("-ref: true label maps of which images? Name their folder (-i)")

    def as_json(self) -> dict[str, Any]:
        """All settings, for the state of a run."""
        return asdict(self)

    def trainer(self, model: str) -> str:
        """The trainer of "plain" or "guided", with the length in its name."""
        return TRAINERS[model] + ("" if self.epochs is None else suffix_of_length(self.epochs))

    @property
    def train_epochs(self) -> int:
        """Of plain and guided trainings."""
        return self.epochs or NNUNET_EPOCHS

    @property
    def keeper_configurations(self) -> tuple[str, ...]:
        """Those that a keeper is trained for: one of slices, one of volumes."""
        wanted = {"2d" if name.startswith("2d") else "3d_fullres" for name in self.configurations}
        return tuple(sorted(wanted))


@dataclass(frozen=True)
class RunFolders:
    """Where a run keeps what is not in nnU-Net's own folders."""

    out: Path

    @property
    def logs(self) -> Path:
        """A log of every stage."""
        return self.out / "logs"

    @property
    def keepers(self) -> Path:
        """Of the keepers that it trains."""
        return self.out / "keepers"

    def keeper(self, configuration: str) -> Path:
        """The file of one of them."""
        return self.keepers / f"keeper_{configuration}.safetensors"

    def prediction(self, model: str, configuration: str) -> Path:
        """Segmentations of images without labels of their own."""
        return self.out / "predictions" / f"{model}_{configuration}"

    def comparison(self, configuration: str, *, held_out: bool) -> Path:
        """The page of plain against guided: on the folds' validation cases, or on the images with true label maps."""
        return self.out / f"comparison_{configuration}{'' if held_out else '_images'}"
