"""The fast lane: nnU-Net's batches and numbers, from cases in memory; the gate of true guides; memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.support import REPOSITORY, fit, tiny_trainer
from helpers.workspace import Workspace, environment
from nnunet_uhf.errors import UHFError
from nnunet_uhf.trainers import SeededTraining, UHFTeacherTrainer, UHFTeacherTrainerSameField


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("experiment.resident")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with environment(nnUNet_UHF_SEED="3", nnUNet_n_proc_DA="0"):
        yield


def same(first: Any, second: Any) -> bool:
    if isinstance(first, list):
        return all(same(one, other) for one, other in zip(first, second, strict=True))
    return bool(torch.equal(first, second))


@pytest.mark.parametrize(("key", "configuration"), [("single", "2d"), ("regions", "3d_fullres")])
def test_batches_are_those_of_nnunets_own_loop_bit_for_bit(
    key: str, configuration: str, nnunet: Workspace, lane: SimpleNamespace
) -> None:
    own = type("OwnLoop", (SeededTraining, nnUNetTrainer), {})
    fast = type("FastLane", (SeededTraining, lane.Resident, nnUNetTrainer), {})
    loaders = []
    for kind in (own, fast):
        trainer = tiny_trainer(kind, nnunet.dataset(key), configuration)
        trainer.initialize()
        loaders.append(trainer.get_dataloaders())
    for part in (0, 1):
        for _ in range(4):
            expected, found = (next(pair[part]) for pair in loaders)
            assert list(expected["keys"]) == list(found["keys"])
            assert same(expected["data"], found["data"])
            assert same(expected["target"], found["target"])


def test_batches_of_a_training_on_a_card_can_be_made_on_the_cpu(nnunet: Workspace, lane: SimpleNamespace) -> None:
    batches = []
    for bases in ((SeededTraining, nnUNetTrainer), (SeededTraining, lane.Resident, nnUNetTrainer)):
        trainer = tiny_trainer(type("Lane", bases, {}), nnunet.dataset("single"), "2d")
        trainer.initialize()
        trainer.device, trainer.batches_on_cpu = torch.device("meta"), True  # as if the network were elsewhere
        batches.append(next(trainer.get_dataloaders()[0]))
    assert same(*(batch["data"] for batch in batches))
    assert same(*(batch["target"] for batch in batches))


def test_patches_predicted_together_are_those_of_nnunets_own_predictor(
    nnunet: Workspace, lane: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = importlib.import_module("experiment.training")
    monkeypatch.setattr(training, "PATCHES", 3)
    image = torch.rand(1, 5, 40, 33)  # 2D: five slices of four patches each
    found = []
    trainer = fit(tiny_trainer(nnUNetTrainer, nnunet.dataset("single"), "2d"))
    for kind in (nnUNetPredictor, training.ManyPatches):
        predictor = kind(use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(
            str(Path(trainer.output_folder).parent), (0,), "checkpoint_final.pth"
        )
        found.append(predictor.predict_logits_from_preprocessed_data(image))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=2e-3)  # sums in half precision


def test_a_training_has_the_weights_of_nnunets_own_loop(nnunet: Workspace, lane: SimpleNamespace) -> None:
    weights = []
    for bases in ((SeededTraining, nnUNetTrainer), (SeededTraining, lane.Resident, nnUNetTrainer)):
        trainer = fit(tiny_trainer(type("Lane", bases, {}), nnunet.dataset("single"), "2d", iterations=3, epochs=2))
        weights.append(trainer.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_pairs_of_images_are_those_of_their_own_loop_and_cases_stay_as_they_are(
    nnunet: Workspace, lane: SimpleNamespace
) -> None:
    for base in (UHFTeacherTrainer, UHFTeacherTrainerSameField):
        batches = []
        for bases in ((SeededTraining, base), (SeededTraining, lane.Resident, base)):
            trainer = tiny_trainer(type("UHFTeacherTrainer", bases, {}), nnunet.dataset("pairs"), "2d")
            trainer.initialize()
            loader = trainer.get_dataloaders()[0]
            batches.append([next(loader)["data"] for _ in range(3)])
        assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))
    cases = lane.ResidentCases(
        SimpleNamespace(identifiers=["a"], load_case=lambda _: whole_case()), torch.device("cpu")
    )
    before = cases.load_case("a")[0].clone()
    loader = lane.ResidentLoader.__new__(lane.ResidentLoader)
    loader.__dict__.update(
        _data=cases,
        patch_size_was_2d=True,
        get_bbox=lambda *_: ([0, 0, 0], [1, 4, 4]),
        get_do_oversample=lambda _: False,
        transforms=lambda image, segmentation: {"image": image.mul_(0), "segmentation": segmentation},
    )
    assert not loader._sample(0, "a")[0].any()
    assert torch.equal(cases.load_case("a")[0], before)


def whole_case() -> tuple[Any, ...]:
    return np.ones((1, 1, 4, 4), np.float32), np.zeros((1, 1, 4, 4), np.int16), None, {"class_locations": {}}


def test_the_grid_of_a_spatial_transform_goes_where_the_image_is(lane: SimpleNamespace) -> None:
    plain = SpatialTransform((8, 8), 0, False, p_rotation=1, rotation=(0.5, 0.5), p_scaling=0)
    moved = lane.on_device(plain)
    image = torch.rand(1, 10, 10)
    np.random.seed(0)  # noqa: NPY002 - the library draws from the global generator
    expected = plain(image=image.clone(), segmentation=torch.ones(1, 10, 10))
    np.random.seed(0)  # noqa: NPY002
    found = moved(image=image.clone(), segmentation=torch.ones(1, 10, 10))
    torch.testing.assert_close(found["image"], expected["image"])
    assert type(plain) is SpatialTransform
    assert moved.get_parameters(image=image.to("meta"))["grid"].device.type == "meta"


def test_the_kernel_of_a_blur_is_made_where_the_image_is(lane: SimpleNamespace) -> None:
    plain = GaussianBlurTransform((0.5, 1), benchmark=True)
    moved = lane.on_device(plain)
    image = torch.rand(2, 12, 12)
    found = []
    for one in (plain, moved):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the library draws from the global generator
        found.append(one(image=image.clone())["image"])
    torch.testing.assert_close(*found)
    with pytest.raises(RuntimeError, match="meta"):
        plain(image=image.to("meta"))
    assert moved(image=image.to("meta"))["image"].device.type == "meta"


def test_what_the_lane_cannot_do_is_said(nnunet: Workspace, lane: SimpleNamespace) -> None:
    fast = type("UHFTeacherTrainer", (lane.Resident, UHFTeacherTrainer), {})
    trainer = tiny_trainer(fast, nnunet.dataset("high field"), "2d")
    trainer.initialize()
    with pytest.raises(NotImplementedError, match="--lane nnunet"):
        trainer.get_dataloaders()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "SingleThreadedAugmenter", type("Other", (), {}))
        other = tiny_trainer(type("Lane", (lane.Resident, nnUNetTrainer), {}), nnunet.dataset("single"), "2d")
        other.initialize()
        with pytest.raises(UHFError, match="nnUNet_n_proc_DA=0"):
            other.get_dataloaders()
    assert lane.peak_bytes(torch.device("cpu")) > 10**7


def test_the_gate_of_true_guides_starts_as_plain_sees_low_field_and_hears_high_field(
    nnunet: Workspace, lane: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks" / "experiment" / "trainers"))
    trainers = importlib.import_module("experiment_trainers")
    pairs = nnunet.dataset("pairs")
    with environment(nnUNet_UHF_SEED=None):
        teacher = fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d", iterations=1))
    monkeypatch.setenv("UHF_EXPERIMENT_TEACHER", str(Path(teacher.output_folder).parent))
    guided = tiny_trainer(trainers.UHFTrainerTrueGuides_experiment, pairs, "2d")
    guided.initialize()
    plain = tiny_trainer(trainers.nnUNetTrainer_experiment, nnunet.dataset("single"), "2d")
    plain.initialize()
    network = guided.network.eval()
    for name, weight in plain.network.state_dict().items():
        assert torch.equal(weight, network.state_dict()[name]), name
    x = torch.rand(1, 2, 32, 32)
    torch.testing.assert_close(network(x)[0], plain.network.eval()(x[:, :1])[0])  # fusions pass skips through at first
    for parameter in network.fusions.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    changed = x.clone()
    changed[:, 1] += torch.rand(32, 32)
    assert not torch.allclose(network(x)[0], network(changed)[0])
    assert not any(parameter.requires_grad for parameter in network.keeper.parameters())
    assert guided.optimizer.rate == pytest.approx(3e-3)
