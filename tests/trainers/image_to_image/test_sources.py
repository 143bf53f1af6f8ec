"""A way in which pairs come about is one file and one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.support import fit, tiny_trainer
from helpers.workspace import Workspace
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.training_block import NetworksEntry, TrainingBlock
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.routes.table import ROUTES, read_task
from nnunet_uhf.trainers.image_to_image.dataset_channels import DatasetChannels
from nnunet_uhf.trainers.image_to_image.pair_source import Pair, PairSource
from nnunet_uhf.trainers.image_to_image.players import EVERYTHING, Outcome
from nnunet_uhf.trainers.image_to_image.simulated_pairs import SimulatedPairs
from nnunet_uhf.trainers.image_to_image.sources import SOURCES, Planned, pair_source
from nnunet_uhf.trainers.image_to_image.thick_pairs import ThickPairs
from nnunet_uhf.trainers.image_to_image.trainer import ImageToImageTrainer

PLANNED = Planned(patch_size=(32, 32), masked=True, dataset="Dataset001_Here")


class BothChannels(PairSource):
    """Two images are the source, with a number that says how bright they are."""

    source_channels = (0, 1)
    target_channel = 1

    def of_batch(self, batch: Mapping[str, Any], device: torch.device) -> Pair:
        pair = super().of_batch(batch, device)
        return replace(pair, conditions={"brightness": pair.source.flatten(1).mean(dim=1)})

    def of_case(self, case: str, data: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(data[:2], dtype=np.float32), np.asarray(data[1], dtype=np.float32)


class Mixture(nn.Module):
    """An image from two."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 1)

    def forward(self, source: Tensor, brightness: Tensor | None = None) -> Tensor:
        """`(B, 2, *S) -> (B, 1, *S)`."""
        image = self.mix(source)
        return image if brightness is None else image + brightness.view(-1, 1, 1, 1)


class MixtureTrainer(ImageToImageTrainer):
    """Learns from whatever the source of pairs gives."""

    role = "keeper"

    def describe_networks(self, *_: Any, **__: Any) -> NetworksEntry:
        return NetworksEntry(architecture=KnowledgeKeeper(dim=2, base_features=4).config())  # a block has to be whole

    def keeper_to_be(self, *_: Any, **__: Any) -> None:
        return None

    @staticmethod
    def network_of(block: TrainingBlock) -> nn.Module:  # noqa: ARG004
        return Mixture()

    def compute(self, pair: Pair) -> Outcome:
        image = self.network(pair.source, pair.conditions["brightness"])
        loss = F.l1_loss(image, pair.target)
        return Outcome(losses={EVERYTHING: loss}, terms={"image": loss}, image=image)


def test_a_source_of_two_images_and_a_condition_trains_and_is_validated(
    nnunet: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "paired", lambda task, planned: BothChannels())  # noqa: ARG005
    dataset = nnunet.dataset("pairs")
    trainer = fit(tiny_trainer(MixtureTrainer, dataset, "2d"), validate=True)
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"prediction", "prediction_fitted", "input"}
    assert np.isfinite(summary["foreground_mean"]["psnr"])


def test_every_route_that_a_dataset_can_ask_for_has_a_source() -> None:
    assert {name for name, route in ROUTES.items() if route.read is not None} <= set(SOURCES)


@pytest.mark.parametrize(
    ("key", "changes", "kind"),
    [
        ("pairs", {}, DatasetChannels),
        ("pairs", {"route": "simulated"}, DatasetChannels),  # simulated beforehand and stored
        ("high field", {}, SimulatedPairs),
        ("high field", {"mode": "native", "ratios": [4], "axes": [1]}, ThickPairs),
    ],
)
def test_the_route_says_where_the_pairs_come_from(
    nnunet: Workspace, key: str, changes: dict[str, Any], kind: type
) -> None:
    description = nnunet.dataset(key).dataset_json()
    description["uhf"].get("simulate", description["uhf"]).update(changes)
    made = pair_source(read_task(description, dataset=PLANNED.dataset), PLANNED)
    assert type(made) is kind


def test_a_route_without_a_source_is_refused_in_one_line(nnunet: Workspace) -> None:
    task = read_task(nnunet.dataset("pairs").dataset_json(), dataset=PLANNED.dataset)
    with pytest.raises(UHFError, match=r"cannot train on uhf\.route 'dreams', only on paired, simulated") as caught:
        pair_source(replace(task, route="dreams"), PLANNED)
    assert "\n" not in str(caught.value)
