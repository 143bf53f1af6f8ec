"""What a trainer of images logs of an epoch, and which epoch is the best one (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any

import numpy as np
from torch import distributed

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.nnunet.model_folder import BEST, LATEST
from nnunet_uhf.trainers.base import SafeCheckpoints
from nnunet_uhf.trainers.image_to_image.logger import moving_average


class ImageEpochs(SafeCheckpoints):
    """The ends of nnU-Net's epochs, by image quality in the place of Dice.

    `_best_ema`, nnU-Net's name, is of the PSNR here; :class:`.logger.ImageLogger` holds the values.
    """

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss and its parts over all steps of all ranks."""
        loss, terms = self._mean_over_ranks(train_outputs)
        self.logger.log("train_losses", loss, self.current_epoch)
        self.logger.log("train_terms", terms, self.current_epoch)

    @exit_on_user_error
    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log loss, PSNR, SSIM and the moving average of the PSNR that chooses the best checkpoint."""
        loss, terms = self._mean_over_ranks(val_outputs)
        pooled: dict[str, list[float]] = {"psnr": [], "ssim": []}
        for outputs in self.gathered(val_outputs):
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
