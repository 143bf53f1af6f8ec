"""The control trainers: each is UHFTrainer with one thing changed, for training, resuming and predicting alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from helpers.guided_runs import brief, checkpoint, forget_keeper, model_folder, refused, train, use_keeper
from helpers.support import predict_folder, tiny_keeper, tiny_trainer
from helpers.workspace import Workspace, environment
from nnunet_uhf import trainers
from nnunet_uhf.guidance.plans import write_plans
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.keepers.file import build_enhancer, read_keeper, weights_sha256
from nnunet_uhf.networks.guided.controls import (
    CONTROLS,
    EnhancedInputNet,
    TrainableKeeperNet,
    ZeroGuideNet,
    drawn_keeper,
)
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.networks.guided.spec import KeeperSpec

TRAINERS: dict[str, type] = {
    "random": trainers.UHFTrainerRandomKeeper,
    "zero": trainers.UHFTrainerZeroGuide,
    "trainable": trainers.UHFTrainerTrainableKeeper,
    "unfrozen": trainers.UHFTrainerUnfrozenKeeper,
    "enhanced_input": trainers.UHFTrainerEnhancedInput,
}
NETWORKS = {
    "random": UHFGuidedNet,
    "zero": ZeroGuideNet,
    "trainable": TrainableKeeperNet,
    "unfrozen": TrainableKeeperNet,
    "enhanced_input": EnhancedInputNet,
}


def initialised(control: str, nnunet: Workspace, configuration: str = "2d", **options: Any) -> Any:
    trainer = tiny_trainer(TRAINERS[control], nnunet.dataset("single"), configuration, **options)
    trainer.initialize()
    return trainer


def images(trainer: Any) -> torch.Tensor:
    return torch.randn(2, 1, *trainer.configuration_manager.patch_size)


def test_every_control_has_its_trainer() -> None:
    assert set(TRAINERS) == set(CONTROLS)
    assert all(trainer.control == name for name, trainer in TRAINERS.items())


@pytest.mark.parametrize("control", list(CONTROLS))
def test_a_control_trains_continues_validates_and_predicts_without_a_keeper_file(
    nnunet: Workspace, tmp_path: Path, control: str
) -> None:
    dataset, trainer = nnunet.dataset("single"), TRAINERS[control]
    use_keeper(tmp_path, 2)
    train(brief(trainer), dataset, "2d")
    folder = model_folder(nnunet.results, trainer, dataset, "2d")
    block = json.loads((folder / "plans.json").read_text())["configurations"]["2d"]["uhf"]
    assert block["control"] == control
    assert checkpoint(folder)["init_args"]["plans"]["configurations"]["2d"]["uhf"] == block
    assert f"CONTROL {control}, " in next((folder / "fold_0").glob("training_log_*.txt")).read_text()

    forget_keeper()
    summary = folder / "fold_0" / "validation" / "summary.json"
    summary.unlink()
    train(brief(trainer, epochs=2), dataset, "2d", continue_training=True)
    assert checkpoint(folder)["current_epoch"] == 2
    summary.unlink()
    train(brief(trainer, epochs=2), dataset, "2d", only_run_validation=True)
    assert summary.is_file()
    with environment(nnUNet_extTrainer=trainer_path(), nnUNet_preprocessed=None, nnUNet_raw=None):
        predicted = predict_folder(folder, dataset.raw / "imagesTs", tmp_path / "predicted")
    assert list(predicted.glob("case_*.nii.gz"))


@pytest.mark.parametrize("control", list(CONTROLS))
@pytest.mark.parametrize(("configuration", "dim"), [("2d", 2), ("3d_fullres", 3)])
def test_the_block_decides_the_network(
    nnunet: Workspace, tmp_path: Path, control: str, configuration: str, dim: int
) -> None:
    use_keeper(tmp_path, dim, spacing_mm=(0.5,) * dim)
    trainer = initialised(control, nnunet, configuration)
    network = trainer.guided_network
    assert type(network) is NETWORKS[control]
    rebuilt = trainers.UHFTrainer.build_network_architecture(  # the class does not matter, the block does
        trainer.plans_manager, trainer.configuration_manager, 1, trainer.label_manager.num_segmentation_heads
    )
    assert type(rebuilt) is NETWORKS[control]
    rebuilt.load_state_dict(network.state_dict())
    x = images(trainer)
    for output, expected in zip(rebuilt.eval()(x), network.eval()(x), strict=True):
        assert torch.equal(output, expected)


@pytest.mark.parametrize("control", list(CONTROLS))
def test_only_a_trained_keeper_is_in_the_optimizer(nnunet: Workspace, tmp_path: Path, control: str) -> None:
    use_keeper(tmp_path, 2)
    trainer = initialised(control, nnunet)
    trainer.on_train_epoch_start()
    network = trainer.guided_network
    optimised = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    keeper = {id(parameter) for parameter in network.keeper.parameters()}
    trained = CONTROLS[control].trained
    assert network.keeper.training == trained
    assert keeper <= optimised if trained else not keeper & optimised
    assert optimised == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("control", ["random", "zero", "trainable"])
def test_a_drawn_keeper_is_the_seeds_and_owns_to_no_knowledge(nnunet: Workspace, tmp_path: Path, control: str) -> None:
    known = read_keeper(use_keeper(tmp_path, 2, seed=5))
    trainer = initialised(control, nnunet)
    drawn = drawn_keeper(KeeperSpec(architecture=known.header.architecture), 0).state_dict()
    present = trainer.guided_network.keeper.state_dict()
    assert all(torch.equal(present[name], drawn[name]) for name in drawn)
    entry = trainer.guidance.keeper
    assert entry.sha256 == weights_sha256(drawn) != known.header.sha256
    assert entry.seed == 0
    assert entry.provenance.content["training_cases"] == []
    assert entry.provenance.content["metrics"] == {}
    trainer.check_keeper()


def test_drawing_leaves_the_random_state_alone_and_depends_on_the_seed_only(tmp_path: Path) -> None:
    entry = KeeperSpec(architecture=read_keeper(tiny_keeper(tmp_path, 2)).header.architecture)
    before = torch.random.get_rng_state()
    first, again, other = (weights_sha256(drawn_keeper(entry, seed).state_dict()) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again != other


class SecondDraw(trainers.UHFTrainerRandomKeeper):
    keeper_seed = 1


def test_folds_of_one_model_share_their_random_keeper(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    train(brief(trainers.UHFTrainerRandomKeeper), nnunet.dataset("single"), "2d")
    SecondDraw.__name__ = "UHFTrainerRandomKeeper"
    with refused(capsys, "trained with keeper"):
        tiny_trainer(SecondDraw, nnunet.dataset("single"), "2d", fold=1)


def test_zero_guides_have_the_shapes_of_the_keepers_maps(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2, spacing_mm=(0.5, 0.5))
    network = initialised("zero", nnunet).guided_network
    for shape in ((2, 1, 32, 32), (1, 1, 17, 40), (1, 1, 9, 9)):
        x = torch.randn(shape)
        zeros, maps = network.guides(x), UHFGuidedNet.guides(network, x)
        assert [guide.shape for guide in zeros] == [guide.shape for guide in maps]
        assert all(guide.dtype == x.dtype and not guide.any() for guide in zeros)


def test_the_keeper_has_no_say_with_zero_guides(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 2)
    trainer = initialised("zero", nnunet)
    network, x = trainer.guided_network.eval(), images(trainer)
    with torch.no_grad():
        for fusion in network.fusions:
            fusion.scale.fill_(0.5)
        before = network(x)[0]
        for parameter in network.keeper.parameters():
            parameter.normal_()
        assert torch.equal(network(x)[0], before)


@pytest.mark.parametrize("control", ["trainable", "unfrozen"])
def test_a_trained_keeper_moves_from_where_the_plans_say_it_started(
    nnunet: Workspace, tmp_path: Path, control: str
) -> None:
    use_keeper(tmp_path, 2)
    dataset, trainer = nnunet.dataset("single"), TRAINERS[control]
    train(brief(trainer, iterations=3), dataset, "2d")
    folder = model_folder(nnunet.results, trainer, dataset, "2d")
    content = checkpoint(folder)
    keeper = {k.removeprefix("keeper."): v for k, v in content["network_weights"].items() if k.startswith("keeper.")}
    entry = content["init_args"]["plans"]["configurations"]["2d"]["uhf"]["keeper"]
    start = initialised(control, nnunet, fold=1).guided_network.keeper.state_dict()
    assert entry["sha256"] == weights_sha256(start)
    moved = [name for name in start if not torch.equal(start[name], keeper[name])]
    assert len(moved) > len(start) / 2


def test_a_trained_keeper_replaced_before_the_start_is_refused(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    trainer = initialised("unfrozen", nnunet)
    with torch.no_grad():
        next(trainer.guided_network.keeper.parameters()).add_(1)  # as -pretrained_weights could
    with refused(capsys, "-pretrained_weights"):
        trainer.on_train_start()


def test_the_enhanced_input_is_the_keeper_files_image(nnunet: Workspace, tmp_path: Path) -> None:
    path = use_keeper(tmp_path, 2)
    trainer = initialised("enhanced_input", nnunet)
    network, x = trainer.guided_network.eval(), images(trainer)
    assert network.encoder.stages[0][0].convs[0].conv.in_channels == 2
    with torch.no_grad():
        assert torch.equal(network.enhanced(x), build_enhancer(read_keeper(path))(x))
        expected = network.decoder(network.encoder(torch.cat((x, network.enhanced(x)), dim=1)))
        assert torch.equal(network(x)[0], expected[0])


def test_the_enhanced_input_needs_a_decoder(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2, decoder=False)
    with refused(capsys, "has no decoder"):
        tiny_trainer(TRAINERS["enhanced_input"], nnunet.dataset("single"), "2d")
    assert not any(nnunet.results.rglob("*.json"))


def test_another_decoder_in_memory_is_noticed(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    trainer = initialised("enhanced_input", nnunet)
    with torch.no_grad():
        next(trainer.guided_network.image_decoder.parameters()).add_(1)
    with refused(capsys, "-pretrained_weights"):
        trainer.on_train_start()


def test_the_enhanced_input_works_where_a_cascade_adds_channels(nnunet: Workspace, tmp_path: Path) -> None:
    use_keeper(tmp_path, 3)
    trainer = tiny_trainer(TRAINERS["enhanced_input"], nnunet.dataset("cascade"), "3d_fullres")
    network = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1 + 3, 4)
    assert network(torch.randn(1, 4, 32, 32, 32))[0].shape == (1, 4, 32, 32, 32)


@pytest.mark.parametrize("control", ["random", "zero", "trainable"])
def test_plans_that_name_a_keeper_are_enough_where_it_is_drawn(nnunet: Workspace, tmp_path: Path, control: str) -> None:
    workspace = nnunet.private("single", tmp_path / "private")
    dataset = workspace.dataset("single")
    path = write_plans(dataset.id, ["2d"], [tiny_keeper(tmp_path, 2)])
    forget_keeper()
    trainer = tiny_trainer(TRAINERS[control], dataset, "2d", plans=path.stem)
    trainer.initialize()
    trainer.check_keeper()


@pytest.mark.parametrize(("control", "trainer"), [("random", "UHFTrainer"), ("zero", "UHFTrainerRandomKeeper")])
def test_plans_of_another_control_are_refused(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], control: str, trainer: str
) -> None:
    use_keeper(tmp_path, 2)
    plans = tiny_trainer(TRAINERS[control], nnunet.dataset("single"), "2d").plans_manager.plans
    with refused(capsys, f"these plans are the control {control}'s"):
        tiny_trainer(trainer, nnunet.dataset("single"), "2d", plans=plans)


@pytest.mark.parametrize("control", list(CONTROLS))
def test_every_parameter_that_is_trained_gets_a_gradient_on_every_rank(
    nnunet: Workspace, tmp_path: Path, control: str
) -> None:
    use_keeper(tmp_path, 2)
    trainer = initialised(control, nnunet)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        network = DistributedDataParallel(trainer.guided_network)  # as nnU-Net: an unused parameter is an error
        for _ in range(3):
            sum(output.square().mean() for output in network(images(trainer))).backward()
    finally:
        torch.distributed.destroy_process_group()
    missing = [name for name, p in network.module.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_controls_differ_from_the_guided_network_in_their_parameters_as_they_say(
    nnunet: Workspace, tmp_path: Path
) -> None:
    use_keeper(tmp_path, 2)
    guided = tiny_trainer(trainers.UHFTrainer, nnunet.dataset("single"), "2d")
    guided.initialize()
    shapes = {name: p.shape for name, p in guided.guided_network.named_parameters()}
    for control in ("random", "zero", "trainable", "unfrozen"):
        network = initialised(control, nnunet).guided_network
        assert {name: p.shape for name, p in network.named_parameters()} == shapes
    names = {name for name, _ in initialised("enhanced_input", nnunet).guided_network.named_parameters()}
    assert not any(name.startswith("fusions.") for name in names)
    assert np.any([name.startswith("image_decoder.") for name in names])
