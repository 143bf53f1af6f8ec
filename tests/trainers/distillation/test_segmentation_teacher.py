"""`"uhf": {"teacher": "segmentation"}`: pretraining by a teacher that segments, its keeper file, and its control."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.distilled import final_weights, part
from helpers.guided_runs import refused
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import environment
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import build_enhancer, read_keeper
from nnunet_uhf.keepers.table import header_table
from nnunet_uhf.networks.distillation.segmentation_teacher import SegmentationTeacher
from nnunet_uhf.routes.table import read_task
from nnunet_uhf.trainers import UHFKeeperTrainer, UHFTeacherTrainer, UHFTeacherTrainerSameField
from nnunet_uhf.trainers.export.keeper import export_keeper


def ask(dataset: TinyDataset, **entries: Any) -> None:
    """Set entries of the `uhf` object of dataset.json; None takes one away."""
    path = dataset.preprocessed / "dataset.json"
    content = json.loads(path.read_text())
    content["uhf"] = {name: value for name, value in {**content["uhf"], **entries}.items() if value is not None}
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def labelled(pairs: TinyDataset) -> Iterator[TinyDataset]:
    """The pairs, whose dataset.json asks for a teacher that segments."""
    ask(pairs, teacher="segmentation")
    yield pairs
    ask(pairs, teacher=None)


@pytest.fixture(scope="module")
def segmenting(labelled: TinyDataset) -> Any:
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFTeacherTrainer, labelled, "2d"), validate=True)


@pytest.fixture(scope="module")
def student(segmenting: Any, labelled: TinyDataset) -> Any:
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFKeeperTrainer, labelled, "2d"), validate=True)


def test_the_teacher_learns_labels_by_nnunets_loss_and_draws_the_image(segmenting: Any) -> None:
    assert isinstance(segmenting.network, SegmentationTeacher)
    assert segmenting.block.networks.architecture["classes"] == 4
    assert set(segmenting.logger.get_value("train_terms", step=0)) == {"segmentation", "image"}
    assert segmenting.training_record()["weights"] == {"segmentation": 1.0, "image": 1.0}
    batch = next(tiny_batches(segmenting))
    with torch.no_grad():
        outcome = segmenting.outcome_of(batch)
        logits = segmenting.network(segmenting.pair_of(batch).target, return_features=True).logits
        expected = segmenting.loss(logits, batch["target"])
    assert outcome.terms["segmentation"].item() == pytest.approx(expected.item(), rel=1e-4)


def tiny_batches(trainer: Any) -> Iterator[dict[str, Any]]:
    """Validation batches of a trainer that is through."""
    trainer.network.eval()
    return iter(trainer.get_dataloaders()[1])


def test_the_keeper_learns_its_maps_and_soft_labels_and_says_so(
    segmenting: Any, student: Any, labelled: TinyDataset, tmp_path: Path
) -> None:
    terms = student.logger.get_value("train_terms", step=0)
    assert set(terms) == {"features", "statistics", "image", "logits", "adversarial", "discriminator"}
    weights = student.training_record()["weights"]
    assert (weights["image"], weights["logits"]) == (1.0, 1.0)
    before, after = final_weights(segmenting), part(final_weights(student), "teacher")
    assert all(torch.equal(before[name], after[name]) for name in before)
    with environment(nnUNet_raw=str(labelled.raw.parent)):  # though its image is worse than its input after two steps
        path = export_keeper(labelled.id, "2d", 0, output=tmp_path / "keeper.safetensors")
    file = read_keeper(path)
    assert file.header.format_version == 4
    assert file.header.supervision == {"teacher": {"kind": "segmentation", "classes": 4}}
    assert "taught by the teacher" in "".join(str(cell) for cell in header_table(file.header).columns[0].cells)
    assert build_enhancer(file)(torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_a_keeper_never_learns_from_a_teacher_of_the_other_kind(
    segmenting: Any, labelled: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(labelled, teacher=None)
    try:
        with refused(capsys, "not a teacher of the kind 'image'"):
            tiny_trainer(UHFKeeperTrainer, labelled, "2d")
        with refused(capsys, "of a teacher of the kind 'segmentation'"):
            tiny_trainer(UHFTeacherTrainer, labelled, "2d", fold="all")
    finally:
        ask(labelled, teacher="segmentation")


def test_the_control_has_the_same_network_and_labels_and_low_field_images_alone(
    labelled: TinyDataset, segmenting: Any
) -> None:
    trainer = tiny_trainer(UHFTeacherTrainerSameField, labelled, "3d_fullres")
    trainer.initialize()
    assert trainer.block.same_field
    assert {**trainer.block.networks.architecture, "dim": 2} == {
        **segmenting.block.networks.architecture,
        "strides": trainer.block.networks.architecture["strides"],
        "convolutions": 1,
    }
    batch = next(trainer.get_dataloaders()[1])
    pair = trainer.pair_of(batch)
    assert torch.equal(pair.source, pair.target)
    assert pair.labels is not None
    assert set(pair.labels.unique().tolist()) <= {0, 1, 2, 3}
    assert torch.isfinite(trainer.outcome_of(batch).losses["network"])


def test_a_mask_of_the_brain_teaches_no_structures(labelled: TinyDataset, capsys: pytest.CaptureFixture[str]) -> None:
    path = labelled.preprocessed / "dataset.json"
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "labels": {"background": 0, "brain": 1}}))
    try:
        with refused(capsys, "its labels are a mask"):
            tiny_trainer(UHFTeacherTrainer, labelled, "2d", fold="all")
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("entries", "told"), [({"teacher": "oracle"}, "uhf.teacher is 'oracle'"), ({"judge": 3}, "uhf.judge is 3")]
)
def test_what_dataset_json_asks_for_is_checked(entries: dict[str, Any], told: str, pairs: TinyDataset) -> None:
    content = pairs.dataset_json()
    with pytest.raises(UHFError, match=told):
        read_task({**content, "uhf": {**content["uhf"], **entries}}, dataset=pairs.name)
