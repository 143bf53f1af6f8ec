"""Seeded trainings: the same start and the same samples for plain and guided, and the same numbers after --c."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam

from helpers.guided_runs import checkpoint, model_folder, use_keeper
from helpers.support import fit, only_line, tiny_trainer
from helpers.workspace import Workspace, environment
from nnunet_uhf.errors import UHFError
from nnunet_uhf.trainers import SeededTraining, UHFGuidance, UHFTrainer, nnUNetTrainerSeeded
from nnunet_uhf.trainers.seeded import SEED_VARIABLE, training_seed


def batches(trainer: Any, count: int = 3) -> list[torch.Tensor]:
    """The first batches of training, as the trainer's own loaders make them."""
    if not trainer.was_initialized:
        trainer.initialize()
    made = trainer.get_dataloaders()
    drawn = [next(made[0])["data"] for _ in range(count)]
    for each in made:
        if hasattr(each, "_finish"):
            each._finish()
    return drawn


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def seeded(trainer: type, nnunet: Workspace, seed: int = 3, key: str = "single", **options: Any) -> Any:
    with environment(**{SEED_VARIABLE: str(seed)}):
        return tiny_trainer(trainer, nnunet.dataset(key), "3d_fullres" if key == "resenc" else "2d", **options)


class SeededAdam(SeededTraining, nnUNetTrainerAdam):
    """A plain trainer of another kind, seeded."""


class GuidedAdam(UHFGuidance, nnUNetTrainerAdam):
    """The same, guided."""


@pytest.mark.parametrize(
    ("key", "trainers"),
    [
        ("single", (nnUNetTrainerSeeded, UHFTrainer)),
        ("resenc", (nnUNetTrainerSeeded, UHFTrainer)),
        ("single", (SeededAdam, GuidedAdam)),
    ],
    ids=["default", "residual encoder", "Adam"],
)
def test_plain_and_guided_begin_with_the_same_backbone_and_see_the_same_batches(
    nnunet: Workspace, tmp_path: Path, key: str, trainers: tuple[type, type]
) -> None:
    use_keeper(tmp_path, 3 if key == "resenc" else 2)
    plain, guided = (seeded(trainer, nnunet, key=key) for trainer in trainers)
    other = seeded(trainers[0], nnunet, seed=4, key=key)
    drawn = [batches(trainer) for trainer in (plain, guided, other)]
    backbone = plain.network.state_dict()
    assert all(torch.equal(value, guided.network.state_dict()[key]) for key, value in backbone.items())
    assert equal(drawn[0], drawn[1])
    assert not equal(drawn[0], drawn[2])
    first = next(iter(backbone))
    assert not torch.equal(backbone[first], other.network.state_dict()[first])


def test_worker_processes_make_the_batches_that_one_process_makes(nnunet: Workspace) -> None:
    with environment(nnUNet_n_proc_DA="0"):
        expected = batches(seeded(nnUNetTrainerSeeded, nnunet), 5)
    for workers in ("1", "2"):
        with environment(nnUNet_n_proc_DA=workers):
            assert equal(batches(seeded(nnUNetTrainerSeeded, nnunet), 5), expected)


def test_making_batches_leaves_the_generators_of_others_alone(nnunet: Workspace) -> None:
    trainer = seeded(nnUNetTrainerSeeded, nnunet)
    trainer.initialize()
    loader = trainer.get_dataloaders()[0]
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    next(loader)
    drawn = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert drawn == (torch.rand(1), np.random.rand())  # noqa: NPY002


class StopsInTheSecondEpoch(UHFTrainer):
    """Killed where the second epoch of two begins."""

    def on_epoch_start(self) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        super().on_epoch_start()


StopsInTheSecondEpoch.__name__ = "UHFTrainer"


def test_a_guided_training_that_goes_on_ends_with_the_numbers_of_one_that_was_never_stopped(
    nnunet: Workspace, tmp_path: Path
) -> None:
    dataset = nnunet.dataset("single")
    use_keeper(tmp_path, 2)
    fit(seeded(UHFTrainer, nnunet, epochs=2))
    folder = model_folder(nnunet.results, UHFTrainer, dataset, "2d")
    expected = checkpoint(folder)
    folder.rename(folder.with_name("uninterrupted"))
    with pytest.raises(KeyboardInterrupt):
        fit(seeded(StopsInTheSecondEpoch, nnunet, epochs=2))
    going_on = seeded(UHFTrainer, nnunet, epochs=2, continue_training=True)
    going_on.load_checkpoint(str(folder / "fold_0" / "checkpoint_latest.pth"))
    fit(going_on)
    present = checkpoint(folder)
    weights = expected["network_weights"]
    assert all(torch.equal(value, present["network_weights"][key]) for key, value in weights.items())
    assert present["logging"]["train_losses"] == expected["logging"]["train_losses"]
    assert present["logging"]["loudness"] == expected["logging"]["loudness"]


def test_a_gradient_scaler_scales_backbone_and_fusions_alike_and_its_state_goes_on(
    nnunet: Workspace, tmp_path: Path
) -> None:
    use_keeper(tmp_path, 2)
    usual = fit(seeded(UHFTrainer, nnunet)).network.state_dict()
    scaled = seeded(UHFTrainer, nnunet)
    scaled.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)  # as on a card
    fit(scaled)
    for name, value in scaled.network.state_dict().items():
        torch.testing.assert_close(value, usual[name], rtol=1e-3, atol=1e-5)
    assert all(bool((fusion.scale != 0).all()) for fusion in scaled.guided_network.fusions)
    going_on = seeded(UHFTrainer, nnunet, continue_training=True)
    going_on.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    going_on.load_checkpoint(str(Path(scaled.output_folder) / "checkpoint_final.pth"))
    assert going_on.grad_scaler.get_scale() == 2.0**10


def test_a_training_goes_on_with_its_own_seed_alone(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(seeded(StopsInTheSecondEpoch, nnunet, epochs=2))
    path = Path(model_folder(nnunet.results, UHFTrainer, nnunet.dataset("single"), "2d")) / "fold_0"
    other = seeded(UHFTrainer, nnunet, seed=5, epochs=2, continue_training=True)
    line = only_line(capsys, lambda: other.load_checkpoint(str(path / "checkpoint_latest.pth")))
    assert f"began with seed 3; to go on, set {SEED_VARIABLE}=3" in line


def test_without_a_seed_nothing_is_seeded_and_the_seeded_plain_trainer_asks_for_one(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keeper(tmp_path, 2)
    trainer = tiny_trainer(UHFTrainer, nnunet.dataset("single"), "2d")
    assert trainer.seed is None
    assert not equal(batches(trainer), batches(trainer))
    line = only_line(capsys, lambda: tiny_trainer("nnUNetTrainerSeeded_5epochs", nnunet.dataset("single"), "2d"))
    assert f"set {SEED_VARIABLE}" in line


@pytest.mark.parametrize("value", ["-1", "one", "1.5", "99999999999", "²"])
def test_what_is_no_seed_is_refused(value: str) -> None:
    with environment(**{SEED_VARIABLE: value}), pytest.raises(UHFError, match="whole number from 0"):
        training_seed()


def test_a_trainer_that_makes_its_batches_itself_is_refused(nnunet: Workspace) -> None:
    class Own(nnUNetTrainer):
        def get_dataloaders(self) -> tuple[Any, Any]:
            return iter([]), iter([])

    class SeededOwn(nnUNetTrainerSeeded, Own):
        pass

    trainer = seeded(SeededOwn, nnunet)
    trainer.initialize()
    with pytest.raises(NotImplementedError, match="does not reach"):
        trainer.get_dataloaders()
