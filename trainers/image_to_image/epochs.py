"""What a trainer of images logs of an epoch, and which epoch is the best one (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any, ClassVar

import numpy as np
from torch import distributed

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.nnunet.model_folder import BEST, LATEST
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.image_to_image.logger import PSNR, SSIM, ImageLogger, PatchQuality, average_of, moving_average


class ImageEpochs(SafeCheckpoints):
    """The ends of nnU-Net's epochs, by qualities of the trainer in the place of Dice.

    `_best_ema`, nnU-Net's name, is of the quality that chooses; :class:`.logger.ImageLogger` holds the values.
    """

    qualities: ClassVar[tuple[PatchQuality, ...]] = (PSNR, SSIM)
    """What validation steps measure; each returns `quality`, the values of its patches by name."""
    chosen_by: ClassVar[PatchQuality | None] = PSNR
    """Whose moving average names the best epoch; None where no number of patches can, and no checkpoint is the best."""

    def new_logger(self) -> ImageLogger:
        """The log of such a training."""
        return ImageLogger(qualities=self.qualities, chosen_by=self.chosen_by)

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss and its parts over all steps of all ranks."""
        loss, terms = self._mean_over_ranks(train_outputs)
        self.logger.log("train_losses", loss, self.current_epoch)
        self.logger.log("train_terms", terms, self.current_epoch)

    @exit_on_user_error
    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log loss, qualities and the moving average that chooses the best checkpoint."""
        loss, terms = self._mean_over_ranks(val_outputs)
        pooled: dict[str, list[float]] = {quality.name: [] for quality in self.qualities}
        for outputs in self.gathered(val_outputs):
            for output in outputs:
                for name, values in pooled.items():
                    values.extend(output["quality"][name])
        if not all(pooled.values()):
            raise UHFError(
                f"no validation patch of {self.plans_manager.dataset_name}, fold {self.fold}, shows a brain with "
                "contrast; check the target images and the labels"
            )
        means = {name: float(np.mean(values)) for name, values in pooled.items()}
        if self.chosen_by is not None:
            key = average_of(self.chosen_by)
            before = self.logger.get_value(key, step=None)[: self.current_epoch]
            means[key] = moving_average(before, means[self.chosen_by.name])
        for name, value in means.items():
            self.logger.log(name, value, self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)
        self.logger.log("val_terms", terms, self.current_epoch)

    def on_epoch_end(self) -> None:
        """As nnU-Net: log lines, checkpoints and progress.png; the best epoch is that of the highest mean quality."""
        epoch = self.current_epoch
        self.logger.log("epoch_end_timestamps", time(), epoch)
        now = {key: values[-1] for key, values in self.logger.local_logger.my_fantastic_logging.items()}
        for part in ("train", "val"):
            self.print_to_log_file(f"{part}_loss {now[f'{part}_losses']:.4f} ({_written(now[f'{part}_terms'])})")
        measured = ", ".join(quality.written(now[quality.name]) for quality in self.qualities)
        if measured:
            self.print_to_log_file(f"{measured} on validation patches")
        self.print_to_log_file(f"Epoch time: {now['epoch_end_timestamps'] - now['epoch_start_timestamps']:.2f} s")
        # before the latest one, which has to know what the best is: or a continued training replaces it by a worse one
        if self.chosen_by is not None:
            average = now[average_of(self.chosen_by)]
            if np.isfinite(average) and (self._best_ema is None or average > self._best_ema):
                self._best_ema = average
                self.print_to_log_file(f"New best moving average: {self.chosen_by.written(average)}")
                self.save_checkpoint(f"{self.output_folder}/{BEST}")
        if (epoch + 1) % self.save_every == 0 and epoch != self.num_epochs - 1:
            self.save_checkpoint(f"{self.output_folder}/{LATEST}")
        if self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)
        self.current_epoch += 1

    def gathered(self, value: Any) -> list[Any]:
        """This value of every rank."""
        if not self.is_ddp:
            return [value]
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, value)
        return gathered

    def _mean_over_ranks(self, outputs: list[dict[str, Any]]) -> tuple[float, dict[str, float]]:
        """Mean loss and mean of each part over all steps of all ranks."""
        steps = [step for rank in self.gathered(outputs) for step in rank]
        loss = float(np.mean([step["loss"] for step in steps]))
        return loss, {name: float(np.mean([step["terms"][name] for step in steps])) for name in steps[0]["terms"]}


def _written(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in terms.items())
