from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from nnunet_uhf import trainers
from nnunet_uhf.errors import UHFError
from nnunet_uhf.evaluation import image_metrics as metrics
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.networks.distillation import losses
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import FoldFolder, Progress
from nnunet_uhf.trainers.distillation import pretrain as pretraining
from nnunet_uhf.trainers.distillation.finished_teacher import find_teacher, teacher_names
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer, UHFKeeperTrainerNoAdversarial
from nnunet_uhf.trainers.distillation.pretrain import pretrain
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.image_to_image.pair_source import Pair


@pytest.fixture(scope="module")
def teacher(pairs: TinyDataset) -> Any:
    """A 2d teacher, hardly trained; its summary says what it would after a long training."""
    torch.manual_seed(0)
    trainer = fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d"), validate=True)
    praise(trainer, 34.0)
    return trainer


@pytest.fixture(scope="module")
def keeper(teacher: Any, pairs: TinyDataset) -> Any:
    """A 2d keeper after one short epoch and its validation."""
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFKeeperTrainer, pairs, "2d"), validate=True)


def praise(teacher: Any, psnr: float) -> None:
    path = Path(teacher.output_folder) / "validation" / "summary.json"
    summary = json.loads(path.read_text())
    for row in ("prediction", "prediction_fitted"):
        summary["mean"][row]["psnr"] = psnr
    summary["mean"]["input"]["psnr"] = 20.0
    path.write_text(json.dumps(summary))


def final_weights(trainer: Any) -> dict[str, torch.Tensor]:
    return load_checkpoint_weights(Path(trainer.output_folder) / "checkpoint_final.pth")["network_weights"]


def part(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def only_line(capsys: pytest.CaptureFixture[str], action: Callable[[], Any]) -> str:
    """The one line on stderr with which an action ends in status 2."""
    with pytest.raises(SystemExit) as end:
        action()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_teacher_is_bit_identical_after_the_keepers_training(teacher: Any, keeper: Any) -> None:
    before = final_weights(teacher)
    after = part(final_weights(keeper), "teacher")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    frozen = list(keeper.distillation.teacher.parameters())
    assert all(parameter.grad is None for parameter in frozen)
    optimised = {id(p) for group in keeper.optimizer.param_groups for p in group["params"]}
    assert optimised.isdisjoint(id(parameter) for parameter in frozen)
    assert optimised == {id(p) for p in keeper.network.parameters() if p.requires_grad}


def test_keeper_and_discriminator_both_learn_from_one_step(teacher: Any, pairs: TinyDataset) -> None:
    trainer = tiny_trainer(UHFKeeperTrainer, pairs, "2d")
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    batch = {"data": torch.randn(2, 2, 32, 32)}
    trainer.network.train()
    trainer.train_step(batch)
    changed = {
        name.partition(".")[0] for name, value in trainer.network.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"keeper", "discriminator"}


def test_the_logged_terms_make_up_the_keepers_loss(keeper: Any) -> None:
    log = keeper.logger.local_logger.my_fantastic_logging
    terms = log["train_terms"][0]
    assert set(terms) == {"features", "statistics", "image", "adversarial", "discriminator"}
    assert sum(terms.values()) == pytest.approx(log["train_losses"][0], rel=1e-5)


def test_the_block_names_the_teacher_without_naming_a_place(teacher: Any, keeper: Any) -> None:
    plans = json.loads((Path(keeper.output_folder_base) / "plans.json").read_text())
    named = plans["configurations"]["2d"]["uhf"]["teacher"]
    assert named["trainer"] == "UHFTeacherTrainer"
    assert named["sha256"] == weights_sha256(final_weights(teacher))
    assert (named["psnr"], named["input_psnr"]) == (34.0, 20.0)
    assert str(Path(keeper.output_folder).parents[2]) not in json.dumps(plans)


def test_without_the_adversarial_term_there_is_no_discriminator(teacher: Any, pairs: TinyDataset) -> None:
    trainer = fit(tiny_trainer(UHFKeeperTrainerNoAdversarial, pairs, "2d", iterations=1))
    assert trainer.distillation.discriminator is None
    assert part(final_weights(trainer), "discriminator") == {}
    assert set(trainer.logger.get_value("train_terms", step=0)) == {"features", "statistics", "image"}


def test_a_keepers_summary_carries_the_teachers_ceiling(teacher: Any, keeper: Any) -> None:
    summary = json.loads((Path(keeper.output_folder) / "validation" / "summary.json").read_text())
    dataset = keeper.dataset_class(keeper.preprocessed_dataset_folder, ["case_00"])
    data, labels, _, _ = dataset.load_case("case_00")
    ceiling = teacher.held_out_images().predict(teacher.network, data[[1]].astype("float32"))
    expected = metrics.image_quality(data[1] - data[1].min(), ceiling - data[1].min(), labels[0] > 0)
    assert summary["metric_per_case"][0]["teacher"] == pytest.approx(expected, rel=1e-5)
    assert summary["mean"]["teacher"] == summary["metric_per_case"][0]["teacher"]
    own = json.loads((Path(teacher.output_folder) / "validation" / "summary.json").read_text())
    assert own["metric_per_case"][0]["prediction"] == pytest.approx(expected, rel=1e-5)
    assert own["metric_per_case"][0]["input"] == summary["metric_per_case"][0]["input"]


def test_the_keeper_is_the_one_of_the_loss_functions(keeper: Any) -> None:
    source, target = torch.randn(2, 2, 1, 32, 32).unbind(1)
    keeper.network.eval()
    with torch.no_grad():
        losses_by_player, terms, image = keeper.compute(Pair(source=source, target=target))
        output = keeper.network(source, target)
    expected = {**losses.distillation_loss(output, target), **losses.discriminator_loss(output)}
    assert {k: float(v) for k, v in terms.items()} == pytest.approx({k: float(v) for k, v in expected.items()})
    judged = float(expected.pop("discriminator"))
    assert {k: float(v) for k, v in losses_by_player.items()} == pytest.approx(
        {"keeper": sum(float(v) for v in expected.values()), "discriminator": judged}
    )
    assert torch.equal(image, keeper.network(source).detach())


def test_a_keeper_refuses_a_teacher_far_below_its_input(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    class UHFKeeperTrainerRefused(UHFKeeperTrainer):
        pass

    praise(teacher, 18.9)
    try:
        error = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainerRefused, pairs, "2d"))
    finally:
        praise(teacher, 34.0)
    assert "reconstructs held-out images at 18.9 dB, its low-field input is at 20.0 dB" in error
    assert "UHFTeacherTrainer trains for 250 epochs, UHFTeacherTrainer_1000epochs for" in error
    assert not list(Path(teacher.output_folder_base).parent.glob("UHFKeeperTrainerRefused*"))


def test_a_teacher_one_decibel_below_its_input_is_accepted(teacher: Any, pairs: TinyDataset) -> None:
    praise(teacher, 19.0)
    found = find_teacher("UHFKeeperTrainer", dataset=pairs.name, plans="nnUNetPlans", configuration="2d", fold=0)
    praise(teacher, 34.0)
    assert found.trainer == "UHFTeacherTrainer"
    assert found.psnr == 19.0


def test_where_there_is_no_teacher_of_the_keepers_length_the_longest_one_will_do(
    teacher: Any, pairs: TinyDataset
) -> None:
    def found() -> str:
        options = {"dataset": pairs.name, "plans": "nnUNetPlans", "configuration": "2d", "fold": 0}
        return find_teacher("UHFKeeperTrainer_20epochs", **options).trainer

    folder = Path(teacher.output_folder_base)
    model = folder.name.removeprefix("UHFTeacherTrainer")
    praise(teacher, 34.0)
    others = [
        folder.with_name(f"UHFTeacherTrainer_{length}{model}")
        for length in ("5epochs", "10epochs", "20epochs", "1000epochs")
    ]
    try:
        shutil.copytree(folder, others[0])
        shutil.copytree(folder, others[1])
        assert found() == "UHFTeacherTrainer"
        shutil.copytree(folder, others[3])
        assert found() == "UHFTeacherTrainer_1000epochs"  # without a suffix it is 250
        shutil.rmtree(others[3])
        folder.rename(folder.with_name("aside"))
        assert found() == "UHFTeacherTrainer_10epochs"
        (others[1] / "fold_0/checkpoint_final.pth").unlink()
        assert found() == "UHFTeacherTrainer_5epochs"
        shutil.copytree(others[0], others[2])
        assert found() == "UHFTeacherTrainer_20epochs"
    finally:
        for other in others:
            shutil.rmtree(other, ignore_errors=True)
        folder.with_name("aside").rename(folder)


def test_a_missing_teacher_is_named_with_the_command_that_trains_it(
    pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    error = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainer, pairs, "3d_fullres"))
    assert f"{pairs.name}/UHFTeacherTrainer__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth" in error
    assert f"nnUNetv2_train {pairs.name} 3d_fullres 0 -tr UHFTeacherTrainer -p nnUNetPlans" in error


@pytest.mark.parametrize("content", [None, "{}", "not JSON", '{"mean": {"prediction": {"psnr": NaN}}}'])
def test_a_teacher_without_a_validation_is_refused(
    content: str | None, teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = Path(teacher.output_folder) / "validation" / "summary.json"
    before = summary.read_text()
    summary.unlink()
    if content is not None:
        summary.write_text(content)
    try:
        error = only_line(capsys, lambda: tiny_trainer(UHFKeeperTrainer, pairs, "2d"))
    finally:
        summary.write_text(before)
    assert error.startswith(f"error: {summary}")
    assert "--val" in error


@pytest.mark.parametrize(
    ("epochs", "suffix"),
    [("1", "_1epoch"), ("7", "_7epochs"), ("_50epochs", "_50epochs"), ("1epoch", "_1epoch"), ("2000", "_2000epochs")],
)
def test_pretraining_takes_teacher_and_keeper_of_any_length(
    epochs: str, suffix: str, pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    monkeypatch.setattr(pretraining, "run_training", lambda *words, **_: trained.append(words[3]))
    monkeypatch.setattr(pretraining, "export_keeper", lambda *_, **options: Path(options["output"]))
    pretrain(pairs.id, "2d", 0, output="keeper.safetensors", device=torch.device("cpu"), epochs=epochs)
    assert trained == [f"UHFTeacherTrainer{suffix}", f"UHFKeeperTrainer{suffix}"]
    assert all(issubclass(getattr(trainers, name), nnUNetTrainer) for name in trained)


def test_a_keeper_does_not_continue_with_another_teacher(
    teacher: Any, keeper: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(teacher.output_folder) / "checkpoint_final.pth"
    before = path.read_bytes()
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.output.bias"] += 1
    torch.save(content, path)
    try:
        again = tiny_trainer(UHFKeeperTrainer, pairs, "2d", continue_training=True)
        checkpoint = str(Path(again.output_folder) / "checkpoint_final.pth")
        assert "learnt from teacher" in only_line(capsys, lambda: again.load_checkpoint(checkpoint))
        with pytest.raises(UHFError, match="delete the keeper's folder"):
            pretrain(pairs.name, "2d", 0, device=torch.device("cpu"))
    finally:
        path.write_bytes(before)


def test_a_replaced_teacher_is_noticed_before_training(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = tiny_trainer(UHFKeeperTrainer, pairs, "2d")
    trainer.initialize()
    with torch.no_grad():
        trainer.distillation.teacher.decoder.output.bias += 1  # as -pretrained_weights could
    assert "train without -pretrained_weights" in only_line(capsys, trainer.on_train_start)


def test_a_teacher_of_another_width_is_refused(
    teacher: Any, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    description = pairs.dataset_json()
    description["uhf"]["architecture"] = {"base_features": 8}
    plans = {**pairs.plans(), "continue_training": False}
    error = only_line(capsys, lambda: UHFKeeperTrainer(plans, "2d", 0, description, device=torch.device("cpu")))
    assert "another base_features" in error


def test_the_teacher_of_the_same_length_is_looked_for_first() -> None:
    assert teacher_names("UHFKeeperTrainer") == ["UHFTeacherTrainer"]
    assert teacher_names("UHFKeeperTrainer_50epochs") == ["UHFTeacherTrainer_50epochs", "UHFTeacherTrainer"]
    assert teacher_names("UHFKeeperTrainerNoAdversarial_5epochs") == [
        "UHFTeacherTrainerNoAdversarial_5epochs",
        "UHFTeacherTrainer_5epochs",
        "UHFTeacherTrainer",
    ]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Progress.NEW, {"continue_training": False, "only_run_validation": False}),
        (Progress.STARTED, {"continue_training": True, "only_run_validation": False}),
        (Progress.TRAINED, {"continue_training": False, "only_run_validation": True}),
        (Progress.FINISHED, None),
    ],
)
def test_pretraining_goes_on_where_it_stopped(
    state: Progress, expected: dict[str, bool] | None, pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(pretraining, "run_training", lambda *words, **options: calls.append((words[3], options)))
    monkeypatch.setattr(FoldFolder, "progress", state)
    monkeypatch.setattr(pretraining, "_check_same_teacher", lambda *_: None)
    monkeypatch.setattr(pretraining, "export_keeper", lambda *_, **options: Path(options["output"]))
    device = torch.device("cpu")
    written = pretrain(pairs.id, "2d", 0, output="keeper.safetensors", device=device, epochs="5")
    assert written == Path("keeper.safetensors")
    names = ["UHFTeacherTrainer_5epochs", "UHFKeeperTrainer_5epochs"]
    assert calls == ([] if expected is None else [(name, {**expected, "device": device}) for name in names])


def test_pretraining_runs_nnunets_own_training_and_writes_a_keeper_file(
    teacher: Any, keeper: Any, pairs: TinyDataset
) -> None:
    from nnunet_uhf.keepers.file import read_keeper

    summary = Path(keeper.output_folder) / "validation" / "summary.json"
    summary.unlink()
    with pytest.raises(UHFError, match="worse than the low-field input"):  # two training steps: no wonder
        pretrain(pairs.id, "2d", 0, device=torch.device("cpu"))
    assert summary.is_file()
    praise(keeper, 33.0)
    path = pretrain(pairs.id, "2d", 0, device=torch.device("cpu"))
    trained = part(final_weights(keeper), "keeper")
    written = read_keeper(path).keeper_state
    assert trained.keys() == written.keys()
    assert all(torch.equal(trained[name], written[name]) for name in trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("999", "2d", 0, ""), "dataset 999"),
        (("505", "2d", 0, "0"), "--epochs is '0': give a whole number from 1 to 9999"),
        (("505", "2d", 0, "ten"), "--epochs is 'ten'"),
        (("505", "2d", 0, "10000"), "--epochs is '10000'"),
    ],
)
def test_pretraining_says_in_one_line_what_is_wrong(
    arguments: tuple[str, str, int, str], message: str, pairs: TinyDataset
) -> None:
    dataset, configuration, fold, epochs = arguments
    with pytest.raises(UHFError, match=message) as caught:
        pretrain(dataset, configuration, fold, device=torch.device("cpu"), epochs=epochs)
    assert "\n" not in str(caught.value)


def test_pretraining_asks_for_plans_that_exist(pairs: TinyDataset) -> None:
    with pytest.raises(UHFError, match=r"nnUNetPlansNone\.json: no such plans"):
        pretrain(pairs.id, "2d", 0, plans="nnUNetPlansNone", device=torch.device("cpu"))
