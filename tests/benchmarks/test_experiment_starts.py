"""Conditions of the experiment that start from another training, or learn from labels that another model gives."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from helpers.guided_runs import use_keeper
from helpers.support import REPOSITORY, fit, tiny_trainer
from helpers.workspace import Workspace, environment, threaded_pools
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.file import build_keeper, read_keeper
from nnunet_uhf.networks.blocks import resize


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "experiment" / "trainers"))
    monkeypatch.setenv("nnUNet_UHF_SEED", "3")
    return importlib.import_module("experiment_trainers")


def imported(name: str) -> ModuleType:
    return importlib.import_module(f"experiment.{name}")


def started(trainer: type, dataset: Any, folder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trainer that starts from the model of another, ready to train."""
    monkeypatch.setenv("UHF_EXPERIMENT_START", str(Path(folder).parent))
    made = tiny_trainer(trainer, dataset, "2d", iterations=1)
    made.initialize()
    return made


def test_what_starts_from_a_baseline_has_its_weights_and_a_frozen_one_keeps_them(
    nnunet: Workspace, trainers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2)
    plain = fit(tiny_trainer(trainers.nnUNetTrainer_experiment, dataset, "2d", iterations=1))
    weights = plain.network.state_dict()
    for name in (
        "nnUNetTrainerGoesOn_experiment",
        "UHFTrainerFromBaseline_experiment",
        "UHFTrainerFrozenBaseline_experiment",
        "UHFTrainerRandomKeeperFromBaseline_experiment",
    ):
        trainer = started(getattr(trainers, name), dataset, plain.output_folder, monkeypatch)
        own = trainer.network.state_dict()
        assert all(torch.equal(own[key], value) for key, value in weights.items()), name
        assert trainer.optimizer.param_groups[0]["lr"] == trainer.initial_lr
        if "Frozen" not in name:
            continue
        fusions = [value.clone() for value in trainer.network.fusions.parameters()]
        fit(trainer)
        own = trainer.network.state_dict()
        assert all(torch.equal(own[key], value) for key, value in weights.items())
        assert any(not torch.equal(*pair) for pair in zip(fusions, trainer.network.fusions.parameters(), strict=True))
    with pytest.raises(UHFError, match="no finished model"):
        started(trainers.nnUNetTrainerGoesOn_experiment, dataset, tmp_path / "fold_0", monkeypatch)


@pytest.mark.parametrize(("drawn", "configuration"), [("0", "2d"), ("1", "2d"), ("0", "3d_fullres")])
def test_a_linear_head_learns_of_the_maps_of_a_keeper_that_stays_as_it_is(
    nnunet: Workspace,
    trainers: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    drawn: str,
    configuration: str,
) -> None:
    dim = 2 if configuration == "2d" else 3
    path = use_keeper(tmp_path, dim)
    monkeypatch.setenv("UHF_EXPERIMENT_DRAWN_KEEPER", drawn)
    trainer = tiny_trainer(trainers.nnUNetTrainerLinearHead_experiment, nnunet.dataset("single"), configuration)
    trainer.initialize()
    keeper = build_keeper(read_keeper(path)).eval()
    before = {name: value.clone() for name, value in trainer.network.keeper.state_dict().items()}
    same_as_file = all(torch.equal(before[name], value) for name, value in keeper.state_dict().items())
    assert same_as_file == (drawn == "0")
    head = trainer.network.head.weight.clone()
    fit(trainer)
    network = trainer.network.eval()
    assert all(torch.equal(before[name], value) for name, value in network.keeper.state_dict().items())
    assert not torch.equal(head, network.head.weight)
    image = torch.rand(2, 1, *(32,) * dim)
    logits = network(image)
    assert logits.shape[2:] == image.shape[2:]
    if drawn == "0":
        maps = torch.cat([resize(one, image.shape[2:]) for one in keeper(image)], dim=1)
        expected = network.head(network.norm(maps))
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("rate", "kind", "expected"), [("0", "SGD", 1e-2), ("2e-3", "AdamW", 2e-3)])
def test_backbones_learn_by_nnunets_sgd_or_its_adamw_and_fusions_at_their_own_rate_beside_either(
    nnunet: Workspace,
    trainers: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rate: str,
    kind: str,
    expected: float,
) -> None:
    monkeypatch.setenv("UHF_EXPERIMENT_LEARNING_RATE", rate)
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2)
    plain = tiny_trainer(trainers.nnUNetTrainer_experiment, dataset, "2d", iterations=1)
    guided = tiny_trainer(trainers.UHFTrainer_experiment, dataset, "2d", iterations=1)
    for trainer in (plain, guided):
        trainer.initialize()
    backbone = guided.optimizer.backbone
    assert type(plain.optimizer).__name__ == type(backbone).__name__ == kind
    for optimizer in (plain.optimizer, backbone):
        assert optimizer.param_groups[0]["lr"] == expected
        assert optimizer.param_groups[0]["weight_decay"] == plain.weight_decay
    assert guided.optimizer.rate == guided.fusion_rate > 0


def test_as_many_blocks_are_hidden_in_every_sample_and_all_else_is_seen(trainers: ModuleType) -> None:
    masked = imported("masked")
    for size in ((32, 24), (16, 24, 10)):
        hidden = masked.hidden_blocks(torch.Size((3, 2, *size)))
        assert hidden.shape == (3, 1, *size)
        blocks = hidden[(..., *(slice(None, None, masked.BLOCK) for _ in size))].flatten(1)
        assert (blocks.sum(dim=1) == round(0.75 * blocks.shape[1])).all()
        whole = blocks.reshape(hidden[(..., *(slice(None, None, masked.BLOCK) for _ in size))].shape)
        for axis, n in enumerate(size, start=2):
            whole = whole.repeat_interleave(masked.BLOCK, dim=axis).narrow(axis, 0, n)
        assert torch.equal(whole, hidden)
        assert not torch.equal(hidden[0], hidden[1])


def test_the_error_is_that_of_hidden_voxels_alone(trainers: ModuleType) -> None:
    hidden_error = imported("masked").hidden_error
    image, output = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hidden[..., :2] = True
    output[..., 2:] = 9
    assert hidden_error(output, image, hidden) == 0
    output[:, 0, :, 0] = 2  # a half of one of two channels
    assert hidden_error(output, image, hidden) == pytest.approx(4 / 4)


def test_a_masked_autoencoder_learns_of_images_alone_and_gives_all_but_the_heads(
    nnunet: Workspace, trainers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = nnunet.dataset("single")
    first = tiny_trainer(trainers.nnUNetTrainerMasked_experiment, dataset, "2d", iterations=8, epochs=3)
    assert first.oversample_foreground_percent == 0
    fit(first)
    errors = first.logger.get_value("val_losses", step=None)
    assert errors[-1] < errors[0]
    weights = first.network.state_dict()
    heads = {key for key in weights if ".seg_layers." in key}
    assert weights[min(heads)].shape[0] in (1, first.num_input_channels)
    second = started(trainers.nnUNetTrainerFromMasked_experiment, dataset, first.output_folder, monkeypatch)
    own = second.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in weights.items() if key not in heads)
    plain = tiny_trainer(trainers.nnUNetTrainer_experiment, dataset, "2d")
    plain.initialize()
    assert all(torch.equal(own[key], plain.network.state_dict()[key]) for key in heads)
    fit(second)


def test_keeper_subjects_get_the_labels_that_a_model_gives_them_and_the_few_keep_theirs(
    nnunet: Workspace, trainers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pseudo, settings, conditions = (imported(name) for name in ("pseudo", "settings", "conditions"))
    dataset = nnunet.dataset("single")
    places = settings.Places(tmp_path / "data", tmp_path / "out")
    low = conditions.LOW
    for kind, folder in (("raw", dataset.raw), ("preprocessed", dataset.preprocessed)):
        shutil.copytree(folder, places.out / f"nnUNet_{kind}" / low)
    ready = places.out / "nnUNet_preprocessed" / low
    plans = json.loads((ready / "nnUNetPlans.json").read_text())
    (ready / "nnUNetPlans.json").write_text(json.dumps({**plans, "dataset_name": low}))
    (ready / f"{settings.PLANS}.json").write_text(
        json.dumps({**plans, "dataset_name": low, "plans_name": settings.PLANS})
    )
    (ready / "splits_final.json").write_text("[]")
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (dataset.raw / "labelsTr").glob("*.nii.gz"))
    keeper, few = cases[:2], cases[2:]
    trained = settings.Severity(3, 4)
    asked = type("Asked", (), {"trained": trained, "labels": (2,), "fold": lambda *_: 0})()
    for case in keeper:
        for place in (places.images("high"), places.images(trained.name)):
            (place / "keeper").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(dataset.raw / "imagesTr" / f"{case}_0000.nii.gz", place / "keeper" / f"{case}.nii.gz")
    monkeypatch.setattr(pseudo, "subjects", lambda *_: {"keeper": keeper})
    seen: list[dict[str, Any]] = []

    def predicts(**asked_for: Any) -> None:
        seen.append(asked_for)
        asked_for["output"].mkdir()
        for path in sorted(asked_for["images"].iterdir()):
            image = nibabel.load(path.resolve())
            labels = (image.get_fdata() != 0).astype(np.uint8)  # as if all were CSF
            name = path.name.replace("_0000", "")
            nibabel.save(nibabel.Nifti1Image(labels, image.affine), asked_for["output"] / name)

    monkeypatch.setattr(pseudo, "trained_model_predicts", predicts)
    with threaded_pools(), environment(nnUNet_def_n_proc="1"):
        pseudo.label_keeper_subjects(asked, None, places, source="high_plain", labels=2, seed=1, device="cpu")
    assert (seen[0]["dataset"], seen[0]["trainer"]) == (conditions.HIGH, "nnUNetTrainer_experiment")
    made = places.pseudo("high_plain", 2, 1)
    assert (made / "images" / f"{keeper[0]}_0000.nii.gz").resolve().parent.parent.name == "high"
    with environment(**pseudo.roots(made)):
        from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

        folder = made / "nnUNet_preprocessed" / low / "nnUNetPlans_2d"
        after = infer_dataset_class(str(folder))(str(folder))
        before = infer_dataset_class(str(dataset.preprocessed / "nnUNetPlans_2d"))(
            str(dataset.preprocessed / "nnUNetPlans_2d")
        )
        for case in cases:
            new, old = (np.array(one.load_case(case)[1][:]) for one in (after, before))
            assert np.array_equal(new, old) is (case in few)
            assert np.array_equal(np.array(after.load_case(case)[0][:]), np.array(before.load_case(case)[0][:]))
        assert set(np.unique(np.array(after.load_case(keeper[0])[1][:]))) <= {-1, 1}
    shutil.rmtree(made)
    with threaded_pools(), environment(nnUNet_def_n_proc="1"):
        pseudo.label_keeper_subjects(asked, None, places, source="plain", labels=2, seed=1, device="cpu")
    assert seen[1]["dataset"] == low
