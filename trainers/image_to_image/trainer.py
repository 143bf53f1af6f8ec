"""nnU-Net trainers for networks that return an image: what teacher and keeper share (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from time import time
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.helpers import dummy_context
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, autocast, distributed, nn

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock, TrainingRole
from nnunet_uhf.networks.distillation.levels import level_strides
from nnunet_uhf.nnunet.plans_block import block_of, put_block
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.routes.task import EnhancementTask
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.logger import ImageLogger, moving_average
from nnunet_uhf.trainers.image_to_image.pairs import ImagePairs
from nnunet_uhf.trainers.image_to_image.patch_quality import data_range, patch_psnr, patch_ssim
from nnunet_uhf.trainers.image_to_image.simulated_pairs import SimulatedPairs, simulation_line
from nnunet_uhf.trainers.image_to_image.validation import validate

Plans = Mapping[str, Any]
GRADIENT_NORM = 12.0  # nnU-Net's clip


class ImageToImageTrainer(ImagePairs):
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
    _best_ema: float | None  # nnU-Net's name; of the PSNR here
    learning_rate: ClassVar[float] = 1e-3  # ours, for nnU-Net's schedule and batches; paper 2e-4 at batch 1
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)  # paper
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
        self.pairs = None
        changed: dict[str, Any] = {}
        if task.simulation is not None:
            self.pairs = SimulatedPairs(
                task.simulation,
                patch_size=planned.patch_size,
                masked=bool(planned.use_mask_for_norm[task.target_channel]),
                where=plans["dataset_name"],
            )
            if self.pairs.slices is not None:
                if not self.takes_thick_slices:
                    raise UHFError(
                        f"uhf.simulate in dataset.json of {plans['dataset_name']}: {type(self).__name__} cannot train "
                        'on thick slices ("mode": "native"), SIQTTrainer can; use it, or "mode": "regrid"'
                    )
                changed["patch_size"] = self.pairs.slices.fitted(planned.patch_size)
        self.block = TrainingBlock(
            role=self.role,
            source_channel=task.source_channel,
            target_channel=task.target_channel,
            networks=self.describe_networks(task, planned, plans=plans, configuration=configuration, fold=fold),
            same_field=self.same_field,
            simulation=None if self.pairs is None else self.pairs.record,
        )
        put_block(plans, configuration, self.block.as_json(), **changed)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.learning_rate
        self.num_epochs = self.epochs
        self.enable_deep_supervision = False
        self.logger.local_logger = ImageLogger()

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

    def compute(self, source: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, what the log shows of it by name, and the image; source and target are `(B, 1, *S)`."""
        raise NotImplementedError

    # ---- network and optimiser

    @classmethod
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

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Adam as in the paper over what is not frozen; nnU-Net's polynomial schedule."""
        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trainable, self.initial_lr, betas=self.betas)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Nothing to switch: an image has one resolution, and no decoder here has side outputs."""

    def plot_network_architecture(self) -> None:
        """No plot: nnU-Net traces a network whose input has all channels of the dataset."""

    # ---- one epoch

    @exit_on_user_error
    def on_train_start(self) -> None:
        """As nnU-Net; the log says when the source is simulated."""
        if self.pairs is not None:
            self.print_to_log_file(simulation_line(self.pairs.record, left_out=self.pairs.left_out))
        super().on_train_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step of nnU-Net's: autocast and gradient scaling on CUDA, clipped gradients."""
        source, target = self.source_and_target(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss, terms, _ = self.compute(source, target)
        if self.grad_scaler is None:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return _numbers(loss, terms)

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss and its parts over all steps of all ranks."""
        loss, terms = self._mean_over_ranks(train_outputs)
        self.logger.log("train_losses", loss, self.current_epoch)
        self.logger.log("train_terms", terms, self.current_epoch)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Loss and image quality of one batch; patches without brain or without contrast are not judged."""
        source, target = self.source_and_target(batch)
        with self._autocast():
            loss, terms, image = self.compute(source, target)
        brain = (batch["target"].to(self.device) > 0).flatten(1).any(dim=1)
        judged = brain & (data_range(target) > 0)
        truth, image = target[judged], image[judged].float()
        quality = {"psnr": patch_psnr(truth, image).tolist(), "ssim": patch_ssim(truth, image).tolist()}
        return {**_numbers(loss, terms), "quality": quality}

    @exit_on_user_error
    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log loss, PSNR, SSIM and the moving average of the PSNR that chooses the best checkpoint."""
        loss, terms = self._mean_over_ranks(val_outputs)
        pooled: dict[str, list[float]] = {"psnr": [], "ssim": []}
        for outputs in self._gather(val_outputs):
            for output in outputs:
                for name, values in pooled.items():
                    values.extend(output["quality"][name])
        if not pooled["psnr"]:
            raise UHFError(
                f"no validation patch of {self.plans_manager.dataset_name}, fold {self.fold}, shows a brain with "
                "contrast; check the target images and the labels"
            )
        psnr, ssim = float(np.mean(pooled["psnr"])), float(np.mean(pooled["ssim"]))
        average = moving_average(self.logger.get_value("ema_psnr", step=None)[: self.current_epoch], psnr)
        for name, value in (("psnr", psnr), ("ssim", ssim), ("ema_psnr", average)):
            self.logger.log(name, value, self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)
        self.logger.log("val_terms", terms, self.current_epoch)

    def on_epoch_end(self) -> None:
        """As nnU-Net: log lines, checkpoints and progress.png; the best epoch is that of the highest mean PSNR."""
        epoch = self.current_epoch
        self.logger.log("epoch_end_timestamps", time(), epoch)
        now = {key: values[-1] for key, values in self.logger.local_logger.my_fantastic_logging.items()}
        for part in ("train", "val"):
            self.print_to_log_file(f"{part}_loss {now[f'{part}_losses']:.4f} ({_written(now[f'{part}_terms'])})")
        self.print_to_log_file(f"PSNR {now['psnr']:.2f} dB, SSIM {now['ssim']:.4f} on validation patches")
        self.print_to_log_file(f"Epoch time: {now['epoch_end_timestamps'] - now['epoch_start_timestamps']:.2f} s")
        # before the latest one, which has to know what the best is: or a continued training replaces it by a worse one
        if np.isfinite(now["ema_psnr"]) and (self._best_ema is None or now["ema_psnr"] > self._best_ema):
            self._best_ema = now["ema_psnr"]
            self.print_to_log_file(f"New best moving average of the PSNR: {now['ema_psnr']:.2f} dB")
            self.save_checkpoint(f"{self.output_folder}/checkpoint_best.pth")
        if (epoch + 1) % self.save_every == 0 and epoch != self.num_epochs - 1:
            self.save_checkpoint(f"{self.output_folder}/checkpoint_latest.pth")
        if self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)
        self.current_epoch += 1

    # ---- whole volumes

    @exit_on_user_error
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict whole held-out volumes; write NIfTI files and summary.json into the fold's `validation` folder."""
        if save_probabilities:
            self.print_to_log_file("--npz asks for class probabilities, an image has none: ignored")
        validate(self, unwrap(self.network))

    def ceiling(self) -> nn.Module | None:
        """A network whose image of the target no prediction can be expected to surpass; none by default."""
        return None

    # ---- helpers

    def _autocast(self) -> Any:
        # nnU-Net's choice: half precision pays on CUDA only
        return autocast(self.device.type, enabled=True) if self.device.type == "cuda" else dummy_context()

    def _gather(self, value: Any) -> list[Any]:
        """This value of every rank."""
        if not self.is_ddp:
            return [value]
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, value)
        return gathered

    def _mean_over_ranks(self, outputs: list[dict[str, Any]]) -> tuple[float, dict[str, float]]:
        """Mean loss and mean of each part over all steps of all ranks."""
        steps = [step for rank in self._gather(outputs) for step in rank]
        loss = float(np.mean([step["loss"] for step in steps]))
        return loss, {name: float(np.mean([step["terms"][name] for step in steps])) for name in steps[0]["terms"]}


def planned_strides(planned: ConfigurationManager) -> list[list[int]]:
    """Strides of teacher and keeper for the spacing of a configuration, one list per level."""
    dim = len(planned.patch_size)
    return [list(step) for step in level_strides(dim, spacing=list(planned.spacing)[-dim:])]


def checked_config(network: type[nn.Module], options: dict[str, Any], *, dataset: str) -> dict[str, Any]:
    """All arguments of a network, JSON-able; UHFError when those from dataset.json do not make one."""
    try:
        with torch.device("meta"):
            config: dict[str, Any] = network(**options).config()  # type: ignore[operator]
    except (TypeError, ValueError) as error:
        raise UHFError(f"dataset.json of {dataset}: uhf.architecture does not make a network: {error}") from error
    return config


def _numbers(loss: Tensor, terms: dict[str, Tensor]) -> dict[str, Any]:
    """Loss and its parts as floats, moved to the CPU in one go."""
    values = torch.stack([value.detach().float() for value in (loss, *terms.values())]).tolist()
    return {"loss": values[0], "terms": dict(zip(terms, values[1:], strict=True))}


def _written(terms: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in terms.items())
