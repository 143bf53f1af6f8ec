"""PTA's trainers on made scans of two domains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from helpers.fake_card import step_on_fake_card
from helpers.support import fit, only_line, tiny_trainer
from helpers.tiny_data import PAIRS, TinyDataset
from helpers.unpaired_samples import described_otherwise
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.keepers.file import weights_sha256
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.trainers.pta.pta import PTATrainer
from nnunet_uhf.trainers.pta.translation import held_then_linear


def summary_of(trainer: Any) -> dict[str, Any]:
    return json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())


def model_folder(dataset: TinyDataset, trainer: str) -> ModelFolder:
    return ModelFolder.of(dataset.name, trainer, "nnUNetPlans", "2d")


def test_pretext_trainings_report_figures_of_their_own(pretrained: TinyDataset) -> None:
    gap = json.loads((model_folder(pretrained, "SGPTrainer").fold(0).summary).read_text())
    assert set(gap["mean"]["bank"]) == {"position_error", "random_error"}
    assert {row["case"].partition("_")[0] for row in gap["metric_per_case"]} == {"LF"}
    structure = json.loads((model_folder(pretrained, "LSCTrainer").fold(0).summary).read_text())
    assert structure["mean"].keys() == {"put_right", "corrupted"}
    assert {row["case"].partition("_")[0] for row in structure["metric_per_case"]} == {"HF"}


@pytest.mark.parametrize("name", ["PTATrainerPaper", "PTATrainerHybrid", "PTATrainer25D", "CUTTrainer", "SGPTrainer"])
def test_steps_leave_nothing_on_the_cpu(name: str, pretrained: TinyDataset) -> None:
    step_on_fake_card(tiny_trainer(name, pretrained, "2d", fold=1 if name == "SGPTrainer" else 0))


@pytest.mark.parametrize("name", ["PTATrainerPaper", "PTATrainerUNet", "PTATrainer25D", "CUTTrainer"])
def test_a_translation_trains_validates_and_enhances(name: str, pretrained: TinyDataset, tmp_path: Path) -> None:
    trainer = fit(tiny_trainer(name, pretrained, "2d"), validate=True)
    folder = model_folder(pretrained, name)
    assert not (folder.fold(0).path / "checkpoint_best.pth").exists()
    summary = summary_of(trainer)
    mean = summary["mean"]
    assert {"translation", "low_field", "high_field", "prediction", "matched", "input"} <= set(mean)
    assert ("cycle_error" in mean["translation"]) == (name != "CUTTrainer")
    assert all("ms_ssim_diversity" in mean[image] for image in ("translation", "low_field", "high_field", "matched"))
    assert "ms_ssim_reference" in mean["prediction"]
    assert not any(key.startswith("fd_") for numbers in mean.values() for key in numbers)
    held_out = [row for row in summary["metric_per_case"] if "prediction" in row]
    assert [row["case"] for row in held_out] == ["LF_both"]
    changes = sorted(path.name for path in (folder.fold(0).validation / "changes").iterdir())
    assert changes == [f"{row['case']}.nii.gz" for row in summary["metric_per_case"]]
    source = pretrained.raw / "imagesTr" / "LF_0_0000.nii.gz"
    enhance(source, tmp_path / "made.nii.gz", folder.path, device="cpu", progress=False)
    made, before = nibabel.load(tmp_path / "made.nii.gz"), nibabel.load(source)
    assert made.shape == before.shape
    note = json.loads((tmp_path / "made.json").read_text())
    assert note["route"] == "unpaired"
    assert "typical of the other group, not measured in this one" in note["description"]
    brain = before.get_fdata() > 0
    high_field = nibabel.load(pretrained.raw / "imagesTr" / "HF_0_0000.nii.gz").get_fdata()
    values = made.get_fdata()[brain]
    assert high_field[high_field > 0].min() - 60 < values.min() < values.max() < high_field.max() + 60


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("PTATrainerHybrid", {"foreground_source", "foreground_target"}),
        ("PTATrainerStructure", {"gradient"}),
    ],
)
def test_a_variant_learns_from_terms_of_its_own(name: str, terms: set[str], pretrained: TinyDataset) -> None:
    small = described_otherwise(pretrained, architecture={"features": 2, "width": 12, "heads": 3})
    trainer = tiny_trainer(name, small, "2d")
    trainer.initialize()
    trainer.on_train_start()
    before = [parameter.detach().clone() for player in trainer._learning for parameter in player.parameters]
    numbers = trainer.train_step(next(trainer.dataloader_train))
    assert terms <= set(numbers["terms"])
    assert np.isfinite(numbers["loss"])
    after = [parameter for player in trainer._learning for parameter in player.parameters]
    assert sum(not torch.equal(one, other) for one, other in zip(before, after, strict=True)) > 0.75 * len(
        before
    )  # no token is background yet


def test_the_structure_network_stays_as_it_was_trained_and_travels_in_the_checkpoint(pretrained: TinyDataset) -> None:
    trainer = fit(tiny_trainer("PTATrainer", pretrained, "2d", iterations=1))
    kept = trainer.pretexts["structure"]
    assert weights_sha256(trainer.translation.structure.state_dict()) == kept.sha256
    assert trainer.block.networks.part("pretexts")["structure"]["sha256"] == kept.sha256
    assert trainer.pools["target"].images


@pytest.mark.parametrize(
    ("file", "told"),
    [("splits_final.json", "splits_final.json now holds out"), ("dataset_fingerprint.json", "the images or their")],
)
def test_pretext_networks_of_other_data_are_never_used(
    file: str, told: str, pretrained: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pretrained.preprocessed / file
    before = path.read_text()
    content = json.loads(before)
    if file == "splits_final.json":
        content[0] = content[1]
    else:
        content["spacings"][0][0] += 1
    try:
        path.write_text(json.dumps(content))
        trainer = tiny_trainer("PTATrainer", pretrained, "2d")
        capsys.readouterr()
        error = only_line(capsys, trainer.run_training)
    finally:
        path.write_text(before)
    assert "LSCTrainer__nnUNetPlans__2d" in error
    assert told in error
    assert "train it anew" in error


def one_step(trainer: Any, batch: dict[str, Any], *, seed: int) -> None:
    torch.manual_seed(seed)  # of corrupted blocks
    trainer.network.train()
    trainer.train_step(batch)


def test_it_goes_on_with_c_as_if_it_had_not_stopped_and_not_with_other_terms(
    pretrained: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    class Short(PTATrainer):
        """Named apart, so that its folder is its own."""

    first = tiny_trainer(Short, pretrained, "2d", iterations=1, epochs=3)
    first.initialize()
    first.on_train_start()
    batches = [next(first.dataloader_train) for _ in range(2)]
    first.on_epoch_start()
    first.on_train_epoch_start()
    one_step(first, batches[0], seed=1)
    first.on_train_epoch_end([{"loss": np.array(1.0), "terms": {}}])
    first.on_validation_epoch_start()
    first.on_validation_epoch_end([first.validation_step(next(first.dataloader_val))])
    first.on_epoch_end()
    latest = str(Path(first.output_folder) / "checkpoint_latest.pth")
    again = tiny_trainer(Short, pretrained, "2d", iterations=1, epochs=3, continue_training=True)
    again.initialize()
    again.load_checkpoint(latest)
    assert again.current_epoch == first.current_epoch == 1
    for trainer in (first, again):
        trainer.on_train_epoch_start()  # the learning rates of the epoch
        one_step(trainer, batches[1], seed=2)
    for name, value in first.translation.state_dict().items():
        assert torch.equal(value, again.translation.state_dict()[name]), name

    class Detached(Short):
        structure_in_generator = False

    Detached.__name__ = "Short"
    other = tiny_trainer(Detached, pretrained, "2d", iterations=1, epochs=2, continue_training=True)
    other.initialize()
    capsys.readouterr()
    assert "trained with other settings" in only_line(capsys, lambda: other.load_checkpoint(latest))


def test_the_learning_rate_stays_and_then_falls_to_nearly_nothing() -> None:
    factors = [held_then_linear(epoch, 150) for epoch in range(150)]
    assert factors[:100] == [1.0] * 100
    assert factors[100] == pytest.approx(1 - 1 / 51)
    assert factors[-1] == pytest.approx(1 / 51)


def test_a_trainer_of_pairs_names_who_trains_on_two_domains_and_the_other_way_round(
    pretrained: TinyDataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = only_line(capsys, lambda: tiny_trainer("UHFTeacherTrainer", pretrained, "2d"))
    assert "this dataset is unpaired: use PTATrainer" in told
    paired = {"channel_names": {"0": "LF", "1": "HF"}, "uhf": PAIRS}
    monkeypatch.setattr(TinyDataset, "dataset_json", lambda _: paired)
    told = only_line(capsys, lambda: tiny_trainer("PTATrainer", pretrained, "2d"))
    assert "this dataset is paired: use UHFTeacherTrainer" in told


def test_the_paper_holds_an_image_against_the_nearest_slice_of_another_subject(pretrained: TinyDataset) -> None:
    trainer = tiny_trainer("PTATrainerPaper", pretrained, "2d")
    trainer.initialize()
    trainer.on_train_start()
    loader = trainer.loader_of(trainer.domains[0], crop=(48, 48), transforms=trainer.get_validation_transforms(None))
    assert loader.partners is not None
    cases = trainer.domains[0]["source"].slices
    assert set(loader.partners) == {
        (case, place) for case, found in cases.items() for place in range(len(found.numbers))
    }
    assert {high for high, _ in loader.partners.values()} <= set(trainer.domains[0]["target"].cases)
    batch = next(loader)
    assert batch["data"].shape == (4, 2, 48, 48)
    assert np.isfinite(batch["data"].numpy()).all()
