"""High field at hand while training, none to predict: the data contract, whose maps are heard, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from helpers.distilled import final_weights, praise
from helpers.fake_card import step_on_fake_card
from helpers.guided_runs import refused
from helpers.support import fit, predict_folder, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace, environment
from nnunet_uhf.installation.trainer_path import trainer_path
from nnunet_uhf.keepers.file import read_header, write_keeper
from nnunet_uhf.networks.blocks import crop_levels
from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.guided.network import UHFGuidedNet
from nnunet_uhf.trainers import UHFKeeperTrainerNoAdversarial, UHFPrivilegedTrainer, UHFTeacherTrainer, UHFTrainer
from nnunet_uhf.trainers.export.keeper import export_keeper
from nnunet_uhf.trainers.guided.privileged import without_channel


@pytest.fixture(scope="module")
def made(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Pairs, a teacher and its keeper, both hardly trained; then dataset.json names the privileged channel."""
    folder = tmp_path_factory.mktemp("privileged")
    own = nnunet_module.private("pairs", folder)
    pairs = own.dataset("pairs")
    pairs.hold_out("case_00")
    torch.manual_seed(0)
    teacher = fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d"), validate=True)
    praise(teacher, 34.0)
    fit(tiny_trainer(UHFKeeperTrainerNoAdversarial, pairs, "2d"), validate=True)
    keeper = export_keeper(
        pairs.id, "2d", 0, trainer="UHFKeeperTrainerNoAdversarial", output=folder / "k.safetensors", accept_worse=True
    )
    ask(pairs, "hf")
    place = Path(teacher.output_folder).parent
    with environment(nnUNet_UHF_KKN=str(keeper), nnUNet_UHF_TEACHER=str(place)):
        yield SimpleNamespace(pairs=pairs, teacher=place, keeper=keeper, raw=own.root / "raw")
    nnunet_module.activate()


def ask(dataset: TinyDataset, channel: str | None) -> None:
    path = dataset.preprocessed / "dataset.json"
    uhf = {} if channel is None else {"privileged": channel}
    path.write_text(json.dumps({**json.loads(path.read_text()), "uhf": uhf}))


@pytest.fixture(scope="module")
def trained(made: SimpleNamespace) -> SimpleNamespace:
    """Two epochs of two batches, and in which of them the teacher was heard."""
    heard: list[int] = []
    original = UHFGuidedNet.guided_by
    trainer = tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", epochs=2)

    def spy(network: UHFGuidedNet, guides: list[torch.Tensor]) -> Any:
        heard.append(trainer.current_epoch)
        return original(network, guides)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UHFGuidedNet, "guided_by", spy)
        fit(trainer, validate=True)
    return SimpleNamespace(trainer=trainer, heard=heard, folder=Path(trainer.output_folder).parent)


def test_the_share_of_true_guides_falls_from_all_to_none(trained: SimpleNamespace) -> None:
    assert trained.heard == [0, 0]  # both batches of the first epoch, none of the last


def test_the_model_folder_knows_low_field_alone_and_predicts_without_high_field(
    trained: SimpleNamespace, made: SimpleNamespace, tmp_path: Path
) -> None:
    assert json.loads((trained.folder / "dataset.json").read_text())["channel_names"] == {"0": "LF"}
    plans = json.loads((trained.folder / "plans.json").read_text())
    assert len(plans["configurations"]["2d"]["normalization_schemes"]) == 1
    assert not any("teacher" in name for name in final_weights(trained.trainer))
    image = next((made.pairs.raw / "imagesTs").glob("*_0000.nii.gz"))
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / image.name).write_bytes(image.read_bytes())
    with environment(nnUNet_extTrainer=trainer_path()):
        (path,) = predict_folder(trained.folder, scans, tmp_path / "out").glob("*.nii.gz")
    predicted = nibabel.load(path)
    assert predicted.shape == nibabel.load(image).shape
    assert (Path(trained.trainer.output_folder) / "validation" / "summary.json").is_file()


def test_true_guides_are_the_teachers_maps_in_the_shapes_of_the_keepers(trained: SimpleNamespace) -> None:
    trainer = trained.trainer
    data = torch.rand(2, 2, 32, 32)
    low, high = trainer._apart(data)
    assert torch.equal(low, data[:, :1])
    assert torch.equal(high, data[:, 1:])
    teacher = trainer._teacher.network
    found = trainer.true_guides(low, high)
    expected = crop_levels(teacher.encode(high), (32, 32), teacher.steps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    network = trainer.guided_network
    assert [one.shape for one in found] == [one.shape for one in network.guides(low)]
    for fusion in network.fusions:  # so short a training hears nothing yet
        for parameter in fusion.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    alone = network(low)[0]
    with network.guided_by(found):
        assert not torch.allclose(network(low)[0], alone)
    torch.testing.assert_close(network(low)[0], alone)
    assert "weight" not in str(vars(trainer)["_teacher"])


def test_steps_leave_nothing_on_the_cpu(made: SimpleNamespace) -> None:
    step_on_fake_card(tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", fold="all"))


def test_the_high_field_image_keeps_its_intensities(made: SimpleNamespace) -> None:
    trainer = tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", fold="all")
    transform = trainer.get_training_transforms(
        (32, 32), (0.0, 0.0), None, None, False, use_mask_for_norm=[True], foreground_labels=[1, 2, 3]
    )
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - nnU-Net draws from the global generator
    image, labels = torch.rand(2, 32, 32), torch.ones(1, 32, 32, dtype=torch.int16)
    image[1] = torch.linspace(0, 1, 32)[:, None]
    changed = 0
    for _ in range(12):
        seen = transform(image=image.clone(), segmentation=labels.clone())["image"]
        rows = seen[1][:, 12:20]
        assert float(seen[1].max()) <= 1 + 1e-5
        assert float(rows.std(dim=1).max()) < 0.35
        changed += bool(seen[0].max() > 1.01 or seen[0].min() < -0.01)
    assert changed


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_is_taken_out_everywhere(channel: int) -> None:
    plans: dict[str, Any] = {
        "foreground_intensity_properties_per_channel": {"0": "a", "1": "b", "2": "c"},
        "configurations": {
            "2d": {"normalization_schemes": ["A", "B", "C"], "use_mask_for_norm": [True, False, True]},
            "3d": {"inherits_from": "2d"},
        },
    }
    names = {"channel_names": {"2": "x", "0": "y", "1": "z"}, "labels": {}, "uhf": {}}
    kept = [index for index in range(3) if index != channel]
    found = without_channel(plans, names, channel)
    assert found == {"labels": {}, "channel_names": {str(i): "yzx"[index] for i, index in enumerate(kept)}}
    assert list(plans["foreground_intensity_properties_per_channel"].values()) == ["abc"[index] for index in kept]
    assert plans["configurations"]["2d"]["normalization_schemes"] == ["ABC"[index] for index in kept]
    assert plans["configurations"]["3d"] == {"inherits_from": "2d"}


def test_what_does_not_fit_is_refused(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ask(made.pairs, None)
    with refused(capsys, "needs the channel of the high-field image"):
        tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", fold="all")
    ask(made.pairs, "HF")
    with environment(nnUNet_UHF_TEACHER=None), refused(capsys, "nnUNet_UHF_TEACHER is not set"):
        tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", fold="all").on_train_start()
    weights = torch.load(made.teacher / "fold_0" / "checkpoint_final.pth", weights_only=False)
    other = tmp_path / made.teacher.name
    (other / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (other / name).write_bytes((made.teacher / name).read_bytes())
    weights["network_weights"]["decoder.output.weight"] += 1
    torch.save(weights, other / "fold_0" / "checkpoint_final.pth")
    with environment(nnUNet_UHF_TEACHER=str(other)), refused(capsys, "is not that of the teacher"):
        tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", fold="all").on_train_start()
    header, wider = read_header(made.keeper), tmp_path / "wider.safetensors"
    keeper = KnowledgeKeeper(**{**header.architecture, "base_features": 2 * header.architecture["base_features"]})
    header = replace(header, architecture=keeper.config(), decoder_architecture=None, feature_statistics=None)
    write_keeper(wider, header=header, keeper_state=keeper.state_dict())
    elsewhere = {**made.pairs.plans(), "plans_name": "nnUNetPlans_wider"}  # no folder of folds with another keeper
    with (
        environment(nnUNet_UHF_TEACHER=str(made.teacher), nnUNet_UHF_KKN=str(wider)),
        refused(capsys, "of the preset reference or light"),
    ):
        tiny_trainer(UHFPrivilegedTrainer, made.pairs, "2d", fold="all", plans=elsewhere).on_train_start()
    assert issubclass(UHFPrivilegedTrainer, UHFTrainer.__mro__[1])
