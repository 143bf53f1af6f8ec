"""nnU-Net trainers for networks that return an image: what teacher and keeper share (ours)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.helpers import dummy_context
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import autocast, distributed, nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.keepers.trained import describe_keeper, require_describable
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock, TrainingRole
from nnunet_uhf.nnunet.files import root_folder
from nnunet_uhf.nnunet.model_folder import DATASET_JSON, FoldFolder
from nnunet_uhf.nnunet.plans_block import block_of, put_block
from nnunet_uhf.nnunet.training_data import planned_cases
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.asked import TrainsAsAsked
from nnunet_uhf.trainers.image_to_image.epochs import ImageEpochs
from nnunet_uhf.trainers.image_to_image.logger import ImageLogger
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.pairs import ImagePairs
from nnunet_uhf.trainers.image_to_image.patch_quality import data_range, patch_psnr, patch_ssim
from nnunet_uhf.trainers.image_to_image.players import Outcome
from nnunet_uhf.trainers.image_to_image.sources import Planned, pair_source
from nnunet_uhf.trainers.image_to_image.validation import HeldOutImages, summarise_images

Plans = Mapping[str, Any]


class ImageToImageTrainer(ImagePairs, TrainsAsAsked, ImageEpochs):
    """Planning, sampling, folds, schedule, DDP, resuming: nnU-Net's. Loss, augmentation, log, validation: of images.

    A subclass gives its `role`, its `uhf` block, the network of a block, and its loss.

    Raises:
        SystemExit: status 2 with one line on stderr when dataset.json does not describe an enhancement task; nothing
            is written then. NotImplementedError for a cascade.
    """

    role: ClassVar[TrainingRole]
    same_field: ClassVar[bool] = False
    """Whether the target is the low-field source, as a control."""
    takes_thick_slices: ClassVar[bool] = False
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
        task = read_task(dataset_json, dataset=plans["dataset_name"])
        masked = bool(planned.use_mask_for_norm[task.target_channel])
        of_plans = Planned(patch_size=planned.patch_size, masked=masked, dataset=plans["dataset_name"])
        self.pairs = pair_source(task, of_plans)
        self.take_wishes(task)
        if max(self.pairs.stretch(dim=3)) > 1 and not self.takes_thick_slices:
            raise UHFError(
                f"uhf.simulate in dataset.json of {plans['dataset_name']}: {type(self).__name__} cannot train on thick "
                'slices ("mode": "native"), SIQTTrainer can; use it, or "mode": "regrid"'
            )
        self.block = TrainingBlock(
            role=self.role,
            source_channel=task.source_channel,
            target_channel=task.target_channel,
            networks=self.describe_networks(task, planned, plans=plans, configuration=configuration, fold=fold),
            same_field=self.same_field,
            simulation=self.pairs.record,
            training=self.training_record(),
        )
        self._require_exportable(plans, configuration, fold, dataset_json)
        patch_size = self.pairs.fitted(planned.patch_size)
        changed = {} if patch_size == list(planned.patch_size) else {"patch_size": patch_size}
        put_block(plans, configuration, self.block.as_json(), **changed)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.learning_rate
        self.num_epochs = self.epochs
        self.enable_deep_supervision = False
        self.logger.local_logger = ImageLogger()

    def _require_exportable(
        self, plans: Plans, configuration: str, fold: int | str, dataset_json: Mapping[str, Any]
    ) -> None:
        """UHFError, before anything is trained, when no keeper file could be made of it in the end."""
        name = str(plans["dataset_name"])
        preprocessed = root_folder("nnUNet_preprocessed") / name
        where = f"{preprocessed / DATASET_JSON}, plans {plans['plans_name']}, fold {fold}"
        task = read_task(dataset_json, dataset=name)
        to_be = self.keeper_to_be(self.block.networks, task, dataset=name)
        if to_be is None:
            return
        block = replace(self.block, networks=to_be)
        header = describe_keeper(block, plans, configuration, dataset_json, fold=fold, where=where)
        training, validation = planned_cases(preprocessed, plans, configuration, fold)
        require_describable(replace(header, training_cases=training, validation_cases=validation), where=where)

    def keeper_to_be(self, networks: NetworksEntry, task: EnhancementTask, *, dataset: str) -> NetworksEntry | None:
        """Networks that a keeper file will be made of, by default the training's; None where none is made."""
        return networks

    # ---- what a subclass gives

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """What :meth:`network_of` builds the network from; runs before all else."""
        raise NotImplementedError

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:
        """A network with random weights as the `uhf` block describes it."""
        raise NotImplementedError

    def compute(self, pair: Pair) -> Outcome:
        """The loss of every player, what the log shows, and the image, of one pass of `self.network`."""
        raise NotImplementedError

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
        """The network of the configuration's `uhf` block; its input is one channel, whatever the dataset has."""
        block = block_of(configuration_manager.configuration)
        return cls.network_of(TrainingBlock.parse(block, where=f"plans {plans_manager.plans_name}"))

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Nothing to switch: an image has one resolution, and no decoder here has side outputs."""

    def plot_network_architecture(self) -> None:
        """No plot: nnU-Net traces a network whose input has all channels of the dataset."""

    # ---- one epoch

    @exit_on_user_error
    def on_train_start(self) -> None:
        """As nnU-Net; the log says what there is to say of the pairs and the training."""
        for line in (*self.pairs.log_lines(), self.training_line()):
            self.print_to_log_file(line)
        super().on_train_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One pass of the network, one step of every player."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            outcome = self.compute(self.pair_of(batch))
        self.learn(outcome.losses)
        numbers = _numbers(outcome)
        self.after_step(numbers["loss"])
        return numbers

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Loss and image quality of one batch; patches without brain or without contrast are not judged."""
        pair = self.pair_of(batch)
        with self._autocast():
            outcome = self.compute(pair)
        brain = (batch["target"].to(self.device) > 0).flatten(1).any(dim=1)
        judged = brain & (data_range(pair.target) > 0)
        truth, image = pair.target[judged], outcome.image[judged].float()
        quality = {"psnr": patch_psnr(truth, image).tolist(), "ssim": patch_ssim(truth, image).tolist()}
        return {**_numbers(outcome), "quality": quality}

    # ---- whole volumes

    @exit_on_user_error
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict whole held-out volumes; write NIfTI files and summary.json into the fold's `validation` folder."""
        if save_probabilities:
            self.print_to_log_file("--npz asks for class probabilities, an image has none: ignored")
        _, cases = self.do_split()
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
            self._report(summarise_images(rows), fold.summary)

    def held_out_images(self) -> HeldOutImages:
        """How a whole held-out volume is predicted and measured."""
        return HeldOutImages(
            network=unwrap(self.network),
            ceiling=self.ceiling(),
            pairs=self.pairs,
            sees_target=self.role == "teacher",
            same_field=self.same_field,
            plans=self.plans_manager,
            configuration=self.configuration_manager,
            file_ending=self.dataset_json["file_ending"],
            device=self.device,
        )

    def ceiling(self) -> nn.Module | None:
        """A network whose image of the target no prediction can be expected to surpass; none by default."""
        return None

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
