"""Guided training with high field at hand, prediction without: privileged guides, annealed to the keeper's (ours).

The data contract. The dataset has the high-field image as a channel, which dataset.json names as `uhf.privileged`.
nnU-Net plans and preprocesses it as any other. The trainer takes it out of plans and dataset.json before anything is
built or written, so that backbone, checkpoint and model folder know the low-field channels alone: stock prediction asks
for these. Preprocessed cases still hold it. In a share of the batches, 1 at the start and 0 at the end, the fusions
hear the maps that the keeper's own teacher makes of it in place of the keeper's.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunet_uhf.errors import UHFError, exit_on_user_error
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.keepers.trained_teacher import TeacherMaps, read_trained_teacher
from nnunet_uhf.networks.blocks import crop_levels
from nnunet_uhf.networks.distillation.teacher import Teacher
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.nnunet.dataset_json import channel_names
from nnunet_uhf.nnunet.files import configuration_settings
from nnunet_uhf.seeds import derived_seed
from nnunet_uhf.trainers.guided.guidance import UHFGuidance
from nnunet_uhf.trainers.image_to_image.transforms import OnChannels, intensity_on

TEACHER_VARIABLE = "nnUNet_UHF_TEACHER"
RECORD = "uhf_privileged"
"""Key in `init_args` of a checkpoint: the hash of the teacher."""


@dataclass(frozen=True)
class Apart:
    """A network that is no part of the one in training; nnU-Net writes every attribute of a trainer down as text."""

    network: Teacher = field(repr=False)


_PER_CHANNEL = ("normalization_schemes", "use_mask_for_norm")


def without_channel(plans: dict[str, Any], dataset_json: dict[str, Any], channel: int) -> dict[str, Any]:
    """Take a channel out of plans, in place, and out of dataset.json, which is returned anew without `uhf`."""
    for configuration in plans["configurations"].values():
        for name in _PER_CHANNEL:
            if name in configuration:
                configuration[name] = [value for i, value in enumerate(configuration[name]) if i != channel]
    properties = plans["foreground_intensity_properties_per_channel"]
    kept = [properties[str(index)] for index in range(len(properties)) if index != channel]
    plans["foreground_intensity_properties_per_channel"] = {str(index): one for index, one in enumerate(kept)}
    names = [name for index, name in enumerate(channel_names(dataset_json)) if index != channel]
    shortened = {name: value for name, value in dataset_json.items() if name not in ("uhf", "modality")}
    return {**shortened, "channel_names": {str(index): name for index, name in enumerate(names)}}


class PrivilegedGuidance(UHFGuidance):
    """Mixin before any nnUNetTrainer subclass, see :class:`UHFPrivilegedTrainer`."""

    dataset_class: Any
    privileged: int
    """The high-field channel in preprocessed cases."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        shortened = self._set_apart(plans, configuration, dataset_json)
        self._generator = np.random.default_rng()
        super().__init__(plans, configuration, fold, shortened, device)

    @exit_on_user_error
    def _set_apart(self, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> dict[str, Any]:
        where = f"dataset.json of {plans['dataset_name']}"
        asked = dataset_json.get("uhf")
        name = asked.get("privileged") if isinstance(asked, dict) else None
        names = channel_names(dataset_json, where=where)
        found = [index for index, each in enumerate(names) if isinstance(name, str) and each.lower() == name.lower()]
        if len(found) != 1 or len(names) < 2:
            raise UHFError(
                f"{where}: {type(self).__name__} needs the channel of the high-field image, one of several: set "
                f'"uhf": {{"privileged": CHANNEL}} there, of {", ".join(names)}, and in nnUNet_preprocessed, too'
            )
        (self.privileged,) = found
        settings = configuration_settings(plans, configuration)
        self._masks = [bool(masked) for masked in settings["use_mask_for_norm"]]
        self._normalised = str(settings["normalization_schemes"][self.privileged]), self._masks[self.privileged]
        return without_channel(plans, dataset_json, self.privileged)

    # ---- the teacher

    @exit_on_user_error
    def on_train_start(self) -> None:
        """As any guided training, with the teacher of the keeper at hand."""
        if not self.was_initialized:
            self.initialize()
        self._teacher = self._find_teacher()
        super().on_train_start()

    def _find_teacher(self) -> Apart:
        place = os.environ.get(TEACHER_VARIABLE)
        if not place:
            raise UHFError(
                f"{TEACHER_VARIABLE} is not set: name the model folder of the teacher that the keeper learnt from "
                "(nnUNet_results/DATASET/UHFTeacherTrainer__PLANS__CONFIGURATION)"
            )
        entry, keeper = self.guidance.keeper, self.guided_network.keeper
        fold = entry.provenance.fold
        trained = read_trained_teacher(Path(place), int(fold) if fold and fold.isdecimal() else "all")
        maps = trained.network.keeper
        assert isinstance(maps, TeacherMaps)
        teacher = maps.teacher
        if (teacher.channels, teacher.strides) != (keeper.channels, keeper.strides):
            raise UHFError(
                f"{place}: its maps are not of the sizes of keeper {entry.sha256[:8]}'s; name its teacher, or, where "
                "that is it, take a keeper of the preset reference or light: maps of efficient have other sizes"
            )
        if (trained.header.normalisation, trained.header.use_mask_for_norm) != self._normalised:
            raise UHFError(
                f"{place}: this teacher's images were normalised by {trained.header.normalisation}, channel "
                f"{self.privileged} is by {self._normalised[0]} (or over another mask); plan it as the teacher's"
            )
        decoded_by, present = weights_sha256(teacher.decoder.state_dict()), weights_sha256(teacher.state_dict())
        if self.keeper_file is not None and self.keeper_file.header.decoder_sha256 != decoded_by:
            raise UHFError(
                f"{self.keeper_file.path}: this keeper's decoder is not that of the teacher in {place}: name the "
                "teacher it learnt from, and a keeper file with its decoder"
            )
        if self.my_init_kwargs.setdefault(RECORD, present) != present:
            raise UHFError(f"{place}: this training began with another teacher; restore it, or train without --c")
        self.print_to_log_file(
            f"Privileged guides: teacher {present[:8]} sees channel {self.privileged} of preprocessed cases in a share "
            "of the batches that falls from 1 to 0; the model folder knows the other channels alone"
        )
        return Apart(teacher.to(self.device).eval().requires_grad_(requires_grad=False))

    def true_guides(self, low: Tensor, high: Tensor) -> list[Tensor]:
        """The teacher's maps of the high-field image `(B, 1, *S)`, as the keeper's of `(B, C, *S)` would be."""
        network = self.guided_network
        shown = low.clone()
        shown[:, network.guide_channels[0] : network.guide_channels[0] + 1] = high
        with torch.no_grad(), torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            source, teacher = network.source(shown), self._teacher.network
            return crop_levels(teacher.encode(source), source.shape[2:], teacher.steps)

    # ---- batches

    @property
    def share(self) -> float:
        """Of the batches of this epoch in which the teacher is heard: 1 in the first epoch, 0 in the last."""
        return 1 - self.current_epoch / max(1, self.num_epochs - 1)

    def on_train_epoch_start(self) -> None:
        """As any guided training; which batches hear the teacher depends on seed and epoch."""
        super().on_train_epoch_start()
        if self.seed is not None:
            self._generator = np.random.default_rng(
                derived_seed(self.seed, "privileged", self.current_epoch, self.local_rank)
            )

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As nnU-Net, on the low-field channels; with the teacher's guides in a share of the batches."""
        low, high = self._apart(batch["data"].to(self.device, non_blocking=True))
        heard = self._generator.random() < self.share
        network = self.guided_network
        assert isinstance(network, UHFGuidedNet)
        with network.guided_by(self.true_guides(low, high)) if heard else nullcontext():
            result: dict[str, Any] = super().train_step({**batch, "data": low})
        return result

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As in prediction: the low-field channels and the keeper's guides."""
        result: dict[str, Any] = super().validation_step({**batch, "data": self._apart(batch["data"])[0]})
        return result

    def _apart(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Low-field channels, with those of a cascade, and the high-field one."""
        low = [index for index in range(data.shape[1]) if index != self.privileged]
        return data[:, low], data[:, self.privileged : self.privileged + 1]

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's; intensities of the high-field image stay as they are, since the teacher knows it so."""
        if kwargs.get("use_mask_for_norm") is not None:
            kwargs["use_mask_for_norm"] = self._masks
        low = [index for index in range(len(self._masks)) if index != self.privileged]
        return intensity_on(
            super().get_training_transforms(*args, **kwargs), lambda transform: OnChannels(transform, low)
        )

    # ---- whole volumes

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's validation, of the low-field channels."""
        whole, privileged = self.dataset_class, self.privileged

        class LowFieldCases(whole):  # type: ignore[misc, valid-type]
            """Preprocessed cases without the high-field channel."""

            def load_case(self, identifier: str) -> Any:
                data, *others = super().load_case(identifier)
                return np.delete(np.asarray(data[:]), privileged, axis=0), *others

        self.dataset_class = LowFieldCases
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self.dataset_class = whole


class UHFPrivilegedTrainer(PrivilegedGuidance, nnUNetTrainer):
    """UHFTrainer that hears the true high-field maps while it learns, less and less, and predicts without.

    dataset.json names the channel of the high-field image as `uhf.privileged`; ``nnUNet_UHF_TEACHER`` is the model
    folder of the teacher that the keeper learnt from.

    Raises:
        SystemExit: status 2 with one line: no such channel, or a teacher that is not the keeper's.
    """
