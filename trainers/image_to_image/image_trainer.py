"""What nnU-Net trainers of images share, however their batches come about: networks, epochs, checkpoints (ours)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.helpers import dummy_context
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import autocast, distributed, nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.imageio.orientation import MIXED
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.keepers.trained import describe_keeper, require_describable
from nnunet_uhf.keepers.training_block import TrainingBlock, TrainingRole
from nnunet_uhf.nnunet.files import root_folder
from nnunet_uhf.nnunet.model_folder import DATASET_JSON, FoldFolder
from nnunet_uhf.nnunet.orientation import mixed_note
from nnunet_uhf.nnunet.plans_block import block_of, put_block
from nnunet_uhf.nnunet.training_data import planned_cases
from nnunet_uhf.trainers.image_to_image.asked import TrainsAsAsked
from nnunet_uhf.trainers.image_to_image.described import described_network
from nnunet_uhf.trainers.image_to_image.epochs import ImageEpochs
from nnunet_uhf.trainers.image_to_image.players import Outcome
from nnunet_uhf.trainers.image_to_image.validation import summarise_images

Plans = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What nnU-Net asks a trainer for: its plans, not yet changed, a configuration of them, a fold, the dataset."""

    plans: Plans
    configuration: str
    fold: int | str
    dataset_json: Mapping[str, Any]
    planned: ConfigurationManager
    """The configuration as nnU-Net reads it."""

    @property
    def dataset(self) -> str:
        """Full name, DatasetXXX_NAME."""
        return str(self.plans["dataset_name"])

    @property
    def preprocessed(self) -> Path:
        """Folder of the dataset in nnUNet_preprocessed."""
        return root_folder("nnUNet_preprocessed") / self.dataset


class JudgesVolumes(Protocol):
    """Predicts, writes and measures whole held-out volumes."""

    def enhance(self, case: str, loaded: Sequence[Any], folder: Path) -> dict[str, Any]:
        """An entry of `metric_per_case` for a case as nnU-Net's dataset loads it; its image goes into the folder."""


class ImageTrainer(TrainsAsAsked, ImageEpochs):
    """Folds, schedule, DDP, resuming: nnU-Net's. Networks, log, validation: of images.

    Nothing here knows how the images of a batch belong together: :class:`.trainer.ImageToImageTrainer` knows it of
    pairs, and trainers of other routes know it of theirs. A subclass reads the dataset (:meth:`read_dataset`), builds
    the network of its `uhf` block, computes losses and qualities of a batch, and judges whole volumes.

    Raises:
        SystemExit: status 2 with one line on stderr when dataset.json does not describe what the trainer trains on;
            nothing is written then. NotImplementedError for a cascade.
    """

    role: ClassVar[TrainingRole]
    block: TrainingBlock
    """The `uhf` block of this training."""
    epochs: ClassVar[int] = 250

    @exit_on_user_error
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        planned = PlansManager(deepcopy(plans)).get_configuration(configuration)
        if planned.previous_stage_name is not None:
            raise NotImplementedError(
                f"{type(self).__name__} cannot train {configuration}: a cascade refines a segmentation, and an image "
                "has none to refine; use 2d, 3d_lowres or 3d_fullres"
            )
        asked = Asked(plans=plans, configuration=configuration, fold=fold, dataset_json=dataset_json, planned=planned)
        self.block, changed = self.read_dataset(asked)
        self._require_exportable(asked)
        put_block(plans, configuration, self.block.as_json(), **changed)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.learning_rate
        self.num_epochs = self.epochs
        self.enable_deep_supervision = False
        self.logger.local_logger = self.new_logger()

    def _require_exportable(self, asked: Asked) -> None:
        """UHFError, before anything is trained, when no keeper file could be made of it in the end."""
        where = f"{asked.preprocessed / DATASET_JSON}, plans {asked.plans['plans_name']}, fold {asked.fold}"
        to_be = self.keeper_block(asked)
        if to_be is None:
            return
        header = describe_keeper(
            to_be, asked.plans, asked.configuration, asked.dataset_json, fold=asked.fold, where=where
        )
        training, validation = planned_cases(asked.preprocessed, asked.plans, asked.configuration, asked.fold)
        require_describable(replace(header, training_cases=training, validation_cases=validation), where=where)

    # ---- what a subclass gives

    def read_dataset(self, asked: Asked) -> tuple[TrainingBlock, dict[str, Any]]:
        """The `uhf` block, and settings of the configuration that are others than planned; runs before all else.

        Raises:
            UHFError: dataset.json or plans do not fit this trainer.
        """
        raise NotImplementedError

    def keeper_block(self, asked: Asked) -> TrainingBlock | None:
        """The block that the header of a keeper file will be made of; None where no file is made."""
        return self.block

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """A network with random weights as the `uhf` block describes it."""
        raise NotImplementedError

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """The loss of every player, what the log shows, and what was made, of one pass of `self.network`."""
        raise NotImplementedError

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """The values of :attr:`qualities` for the patches of a validation batch, as many as can be judged."""
        raise NotImplementedError

    def held_out_images(self) -> JudgesVolumes:
        """How a whole held-out volume is predicted and measured."""
        raise NotImplementedError

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The content of summary.json; `mean` has names of images, each with its numbers by name."""
        return summarise_images(rows)

    def start_lines(self) -> list[str]:
        """What the log says of the training when it starts."""
        return [self.training_line()]

    # ---- network

    @classmethod
    @exit_on_user_error
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network of the configuration's `uhf` block, which says what its input is."""
        block = block_of(configuration_manager.configuration)
        where = f"plans {plans_manager.plans_name}"
        return described_network(cls.network_of, TrainingBlock.parse(block, where=where), where=where)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Nothing to switch: an image has one resolution, and no decoder here has side outputs."""

    def plot_network_architecture(self) -> None:
        """No plot: nnU-Net traces a network whose input has all channels of the dataset."""

    # ---- one epoch

    @exit_on_user_error
    def on_train_start(self) -> None:
        """As nnU-Net; the log says what there is to say of the data and the training."""
        for line in self.start_lines():
            self.print_to_log_file(line)
        super().on_train_start()
        if self.data.orientation == MIXED:
            self.print_to_log_file(mixed_note(Path(self.preprocessed_dataset_folder), self.data.training))

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One pass of the network, one step of every player."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            outcome = self.outcome_of(batch)
        self.learn(outcome.losses)
        numbers = _numbers(outcome)
        self.after_step(numbers["loss"])
        return numbers

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Losses and qualities of one batch."""
        with self._autocast():
            outcome = self.outcome_of(batch)
        return {**_numbers(outcome), "quality": self.quality_of(batch, outcome)}

    # ---- whole volumes

    @exit_on_user_error
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict whole held-out volumes; write NIfTI files and summary.json into the fold's `validation` folder."""
        if save_probabilities:
            self.print_to_log_file("--npz asks for class probabilities, an image has none: ignored")
        cases = self.judged_cases()
        share = cases[self.local_rank :: distributed.get_world_size() if self.is_ddp else 1]
        dataset = self.dataset_class(self.preprocessed_dataset_folder, list(share))
        fold = FoldFolder(Path(self.output_folder))
        folder = fold.validation
        folder.mkdir(parents=True, exist_ok=True)
        held_out = self.held_out_images()
        rows = []
        for case in dataset.identifiers:
            self.print_to_log_file(f"predicting {case}")
            rows.append(held_out.enhance(case, dataset.load_case(case), folder))
        rows = sorted((row for part in self.gathered(rows) for row in part), key=lambda row: row["case"])
        compute_gaussian.cache_clear()
        if self.local_rank == 0:
            self._report(self.summarise(rows), fold.summary)

    def judged_cases(self) -> list[str]:
        """The held-out cases that are predicted as whole volumes."""
        _, cases = self.do_split()
        return list(cases)

    def _report(self, summary: dict[str, Any], path: Path) -> None:
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(summary, indent=2))
        for name, quality in summary["mean"].items():
            self.print_to_log_file(f"held-out {name}: {', '.join(f'{k} {v:.4f}' for k, v in quality.items())}")
            for key, value in quality.items():
                self.logger.log_summary(f"final_val/{name}_{key}", value)
        self.print_to_log_file("Validation complete")

    # ---- helpers

    def _autocast(self) -> Any:
        # nnU-Net's choice: half precision pays on CUDA only
        return autocast(self.device.type, enabled=True) if self.device.type == "cuda" else dummy_context()


def checked_config(network: type[nn.Module], options: dict[str, Any], *, dataset: str) -> dict[str, Any]:
    """All arguments of a network, JSON-able; UHFError when those from dataset.json do not make one."""
    try:
        with torch.device("meta"):
            config: dict[str, Any] = network(**options).config()  # type: ignore[operator]
    except (TypeError, ValueError) as error:
        raise UHFError(f"dataset.json of {dataset}: uhf.architecture does not make a network: {error}") from error
    return config


def _numbers(outcome: Outcome) -> dict[str, Any]:
    """The sum of the losses and what the log shows, as floats, moved to the CPU in one go."""
    losses, terms = list(outcome.losses.values()), list(outcome.terms.values())
    values = torch.stack([value.detach().float() for value in (*losses, *terms)]).tolist()
    shown = dict(zip(outcome.terms, values[len(losses) :], strict=True))
    return {"loss": sum(values[: len(losses)]), "terms": shown}
