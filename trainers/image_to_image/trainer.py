"""nnU-Net trainers for networks that make one image of another: what teacher, keeper and SIQT share (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.routes.task import EnhancementTask, Task
from nnunet_uhf.routes.training import JUDGE
from nnunet_uhf.trainers.base import unwrap
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked, ImageTrainer, Plans
from nnunet_uhf.trainers.image_to_image.judge import JUDGE_WEIGHT, FeatureJudge, find_judge
from nnunet_uhf.trainers.image_to_image.pair_source import Pair
from nnunet_uhf.trainers.image_to_image.pairs import ImagePairs
from nnunet_uhf.trainers.image_to_image.patch_quality import data_range, patch_psnr, patch_ssim
from nnunet_uhf.trainers.image_to_image.players import Outcome
from nnunet_uhf.trainers.image_to_image.sources import Planned, pair_source
from nnunet_uhf.trainers.image_to_image.validation import HeldOutImages


class ImageToImageTrainer(ImagePairs, ImageTrainer):
    """Source in, target out, both of the same subject: the pairs of :mod:`.sources`. Validation: PSNR and SSIM.

    A subclass gives its `role`, its networks, the network of a block, and its loss.

    Raises:
        SystemExit: status 2 with one line on stderr when dataset.json does not describe an enhancement task; nothing
            is written then. NotImplementedError for a cascade.
    """

    same_field: ClassVar[bool] = False
    """Whether the target is the low-field source, as a control."""
    takes_thick_slices: ClassVar[bool] = False
    judge: FeatureJudge | None = None
    """Who judges images beside the trainer's own loss, where dataset.json names one (`uhf.judge`)."""

    def read_dataset(self, asked: Asked) -> tuple[TrainingBlock, dict[str, Any]]:
        """The block of a training on pairs, and the patch size that they can have."""
        planned = asked.planned
        task = read_task(asked.dataset_json, dataset=asked.dataset)
        masked = bool(planned.use_mask_for_norm[task.target_channel])
        of_plans = Planned(patch_size=planned.patch_size, masked=masked, dataset=asked.dataset)
        self.pairs = pair_source(task, of_plans)
        self.take_wishes(task)
        self.classes = PlansManager(dict(asked.plans)).get_label_manager(dict(asked.dataset_json))
        self.judge = self._find_judge(task, asked)
        if max(self.pairs.stretch(dim=3)) > 1 and not self.takes_thick_slices:
            raise UHFError(
                f"uhf.simulate in dataset.json of {asked.dataset}: {type(self).__name__} cannot train on thick "
                'slices ("mode": "native"), SIQTTrainer can; use it, or "mode": "regrid"'
            )
        networks = self.describe_networks(
            task, planned, plans=asked.plans, configuration=asked.configuration, fold=asked.fold
        )
        block = TrainingBlock(
            role=self.role,
            source_channel=task.source_channel,
            target_channel=task.target_channel,
            networks=networks,
            same_field=self.same_field,
            simulation=self.pairs.record,
            training=self.training_record(),
        )
        patch_size = self.pairs.fitted(planned.patch_size)
        return block, {} if patch_size == list(planned.patch_size) else {"patch_size": patch_size}

    def _find_judge(self, task: EnhancementTask, asked: Asked) -> FeatureJudge | None:
        if task.judge is None:
            return None
        return find_judge(task.judge, asked.planned, channel=task.target_channel, dataset=asked.dataset)

    def weights_for(self, task: Task) -> Mapping[str, float]:
        """With that of a judge where there is one."""
        judged = isinstance(task, EnhancementTask) and task.judge is not None
        return {**super().weights_for(task), **({JUDGE: JUDGE_WEIGHT} if judged else {})}

    def training_record(self) -> dict[str, Any]:
        """With who judges, where somebody does."""
        return {**super().training_record(), **({} if self.judge is None else {JUDGE: self.judge.record})}

    def check_block(self, before: TrainingBlock, checkpoint: Path) -> None:
        """No going on with another judge, either."""
        super().check_block(before, checkpoint)
        judged_by = (before.training or {}).get(JUDGE)
        now = None if self.judge is None else self.judge.record
        if judged_by != now:
            raise UHFError(
                f"{checkpoint}: trained with another uhf.judge than dataset.json of {self.plans_manager.dataset_name} "
                "has now, or that model was trained anew; restore it, or train anew without --c"
            )

    def keeper_block(self, asked: Asked) -> TrainingBlock | None:
        """This training's block with the networks of :meth:`keeper_to_be`."""
        task = read_task(asked.dataset_json, dataset=asked.dataset)
        networks = self.keeper_to_be(self.block.networks, task, dataset=asked.dataset)
        return None if networks is None else replace(self.block, networks=networks)

    # ---- what a subclass gives

    def describe_networks(
        self, task: EnhancementTask, planned: ConfigurationManager, *, plans: Plans, configuration: str, fold: int | str
    ) -> NetworksEntry:
        """What :meth:`network_of` builds the network from; runs before all else."""
        raise NotImplementedError

    def keeper_to_be(self, networks: NetworksEntry, task: EnhancementTask, *, dataset: str) -> NetworksEntry | None:
        """Networks that a keeper file will be made of, by default the training's; None where none is made."""
        return networks

    def compute(self, pair: Pair) -> Outcome:
        """The loss of every player, what the log shows, and the image, of one pass of `self.network`."""
        raise NotImplementedError

    # ---- what the base asks

    def start_lines(self) -> list[str]:
        """What there is to say of the pairs and the training."""
        judged = [] if self.judge is None else [f"Images are judged by {self.judge}"]
        return [*self.pairs.log_lines(), *super().start_lines(), *judged]

    def outcome_of(self, batch: dict[str, Any]) -> Outcome:
        """:meth:`compute` of the pairs of the batch; a judge's term is a part of the first player's loss."""
        pair = self.pair_of(batch)
        outcome = self.compute(pair)
        if self.judge is None:
            return outcome
        term = self.weights[JUDGE] * self.judge.distance(outcome.image, pair.target)
        first = next(iter(outcome.losses))
        return outcome._replace(
            losses={**outcome.losses, first: outcome.losses[first] + term}, terms={**outcome.terms, JUDGE: term}
        )

    def quality_of(self, batch: dict[str, Any], outcome: Outcome) -> dict[str, list[float]]:
        """PSNR and SSIM; patches without brain or without contrast are not judged."""
        target = self.pair_of(batch).target
        brain = (batch["target"].to(self.device) > 0).flatten(1).any(dim=1)
        judged = brain & (data_range(target) > 0)
        truth, image = target[judged], outcome.image[judged].float()
        return {"psnr": patch_psnr(truth, image).tolist(), "ssim": patch_ssim(truth, image).tolist()}

    def held_out_images(self) -> HeldOutImages:
        """Each by sliding windows, against the target of its subject."""
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
