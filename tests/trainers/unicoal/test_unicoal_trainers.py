"""Trainers of Uni-COAL: one short training, what it writes, and how it goes on."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from helpers.damaged_models import told_or_the_same
from helpers.support import fit, tiny_trainer
from helpers.tiny_data import PAIRS
from helpers.two_ranks import OnCpu, on_two_ranks, one_of_two
from helpers.unicoal_samples import small_encoder
from helpers.workspace import Workspace, folders
from nnunet_uhf.errors import UHFError
from nnunet_uhf.keepers.trained import read_trained_keeper
from nnunet_uhf.networks.unicoal.network import UniCOAL
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.routes.modalities import ModalityTask
from nnunet_uhf.routes.table import read_task_of
from nnunet_uhf.trainers.unicoal.trainers import (
    UniCOALTrainer,
    UniCOALTrainerNoAdversarial,
    UniCOALTrainerNoSAM,
    constant_then_linear,
)

KEY = "modalities"


@pytest.fixture(scope="module")
def trained(nnunet_module: Workspace) -> Any:
    """One epoch of two batches, and its validation."""
    dataset = nnunet_module.dataset(KEY)
    torch.manual_seed(0)
    return fit(tiny_trainer(UniCOALTrainer, dataset, "2d", iterations=2), validate=True)


def test_a_training_of_both_players_leaves_a_checkpoint_of_the_average(trained: Any) -> None:
    content = load_checkpoint_weights(Path(trained.output_folder) / "checkpoint_final.pth")
    block = content["init_args"]["plans"]["configurations"]["2d"]["uhf"]
    assert block["network"] == "unicoal"
    assert block["modalities"]["sources"] == ["T1w", "T2w"]
    assert block["modalities"]["sam_sha256"] is None
    assert content["network_weights"]["seen"] > 0
    assert set(content["logging"]["train_terms"][0]) == {"l1", "adversarial", "fake", "real", "r1"}
    found = read_trained_keeper(Path(trained.output_folder).parent, 0)
    assert isinstance(found.network, UniCOAL)
    for name, value in trained.net.average.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], value)
    assert any(
        not torch.equal(mean, now)
        for mean, now in zip(trained.net.average.parameters(), trained.net.generator.parameters(), strict=True)
    )


def test_validation_has_a_row_for_every_task_and_files_in_the_geometry_of_the_scan(
    trained: Any, nnunet_module: Workspace
) -> None:
    folder = Path(trained.output_folder) / "validation"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["tasks"]) == {
        "SR_x2_T1w", "SR_x2_T2w", "CMS_T1w-T2w", "CMS_T2w-T1w", "CMSR_x2_T1w-T2w", "CMSR_x2_T2w-T1w",
    }  # fmt: skip
    for row in summary["tasks"].values():
        assert np.isfinite(list(row["prediction"].values())).all()
    # the spline through slices of the same contrast is nearer than another contrast
    assert summary["tasks"]["SR_x2_T1w"]["input"]["psnr"] > summary["tasks"]["CMSR_x2_T2w-T1w"]["input"]["psnr"]
    case = summary["metric_per_case"][0]["case"]
    scan = nibabel.load(nnunet_module.dataset(KEY).raw / "imagesTr" / f"{case}_0000.nii.gz")
    image = nibabel.load(folder / f"{case}_SR_x2_T1w.nii.gz")
    assert image.shape == scan.shape
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)


def test_a_damaged_description_of_modalities_is_told_in_one_line(trained: Any) -> None:
    found = told_or_the_same(Path(trained.output_folder).parent, ("modalities",))
    assert [way for way in found if "slice_filter" not in way] == []  # files of 0.2.0 do not say it


def test_the_log_says_what_is_trained_and_that_the_prior_is_off(trained: Any) -> None:
    log = next(Path(trained.output_folder).glob("training_log_*.txt")).read_text()
    assert "Uni-COAL: from T1w, T2w to T1w, T2w; slices 1 to 2.5 voxels apart" in log
    assert "SAM prior: off: nnUNet_UHF_SAM names no file of weights" in log


def test_gradients_are_clipped_only_where_that_is_asked_for(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def longest(trainer: Any) -> float:
        for parameter in trainer.network.parameters():
            parameter.grad = torch.ones_like(parameter)
        trainer._clip_gradients()
        return max(
            torch.linalg.vector_norm(torch.stack([each.grad.norm() for each in player.parameters])).item()
            for player in trainer._learning
        )

    unclipped = longest(trained)
    monkeypatch.setattr(trained, "wishes", replace(trained.wishes, gradient_clip=0.5))
    monkeypatch.setattr(trained, "_learning", trained.players())
    assert longest(trained) == pytest.approx(0.5, rel=1e-3)
    assert unclipped > 10


def test_a_training_goes_on_with_the_images_seen_both_optimisers_and_the_average(
    trained: Any, nnunet_module: Workspace
) -> None:
    other = tiny_trainer(UniCOALTrainer, nnunet_module.dataset(KEY), "2d", iterations=1)
    other.initialize()
    other.load_checkpoint(str(Path(trained.output_folder) / "checkpoint_final.pth"))
    assert torch.equal(other.net.seen, trained.net.seen)
    batch = next(trained.dataloader_train) if trained.dataloader_train is not None else None
    assert [group["lr"] for group in other.optimizer.param_groups] == [
        group["lr"] for group in trained.optimizer.param_groups
    ]
    assert batch is not None
    for one in (trained, other):
        torch.manual_seed(5)
        one.net.train()
        one.train_step(batch)
    for (name, mean), now in zip(trained.net.state_dict().items(), other.net.state_dict().values(), strict=True):
        torch.testing.assert_close(mean, now, msg=name)


def test_without_a_discriminator_there_is_one_player(nnunet: Workspace) -> None:
    trainer = fit(tiny_trainer(UniCOALTrainerNoAdversarial, nnunet.dataset(KEY), "2d", iterations=1))
    assert trainer.net.discriminator is None
    assert set(trainer.logger.get_value("train_terms", step=0)) == {"l1"}


def test_with_the_users_weights_the_prior_learns_nothing_and_is_not_saved(
    nnunet: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(small_encoder().state_dict(), tmp_path / "sam.pth")
    monkeypatch.setenv("nnUNet_UHF_SAM", str(tmp_path / "sam.pth"))
    monkeypatch.setattr("nnunet_uhf.networks.unicoal.perceptual._made", small_encoder)
    trainer = fit(tiny_trainer(UniCOALTrainerNoAdversarial, nnunet.dataset(KEY), "2d", iterations=1))
    assert set(trainer.logger.get_value("train_terms", step=0)) == {"l1", "sam"}
    assert not any("encoder.pos_embed" in name for name in trainer.network.state_dict())
    sha = trainer.block.networks.part("modalities")["sam_sha256"]
    assert len(sha) == 64
    assert read_trained_keeper(Path(trainer.output_folder).parent, 0).header.modalities["sam_sha256"] == sha
    assert (
        tiny_trainer(UniCOALTrainerNoSAM, nnunet.dataset(KEY), "2d").block.networks.part("modalities")["sam_sha256"]
        is None
    )


def test_two_ranks_that_see_one_batch_learn_what_one_learns(nnunet: Workspace, tmp_path: Path) -> None:
    """Every rank has half of the batch: gradients are means over ranks."""
    nnunet.dataset(KEY)
    variables = {name: os.environ[name] for name in folders(Path(), Path())}
    on_two_ranks(_rank, str(tmp_path), variables)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert int(first["seen"]) > 0


def _rank(rank: int, folder: str, variables: dict[str, str]) -> None:
    from helpers.tiny_data import SPECS, TinyDataset

    class OneOfTwo(OnCpu, UniCOALTrainer):
        pass

    with one_of_two(rank, folder, variables):
        spec = SPECS[KEY]
        preprocessed = Path(variables["nnUNet_preprocessed"]) / spec.name
        dataset = TinyDataset(spec, Path(variables["nnUNet_raw"]) / spec.name, preprocessed)
        trainer = tiny_trainer(OneOfTwo, dataset, "2d", iterations=1)
        trainer.disable_checkpointing = True
        trainer.initialize()
        batches, _ = trainer.get_dataloaders()
        torch.manual_seed(rank)
        trainer.network.train()
        for _ in range(2):
            trainer.train_step(next(batches))
        torch.save(trainer.net.state_dict(), f"{folder}/{rank}.pt")


def test_volumes_are_refused_with_what_to_train(nnunet: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = nnunet.dataset(KEY)
    with pytest.raises(SystemExit):
        tiny_trainer(UniCOALTrainerNoSAM, dataset, "3d_fullres")
    assert "train 2d, of any plane" in capsys.readouterr().err


def test_pairs_are_refused_with_who_trains_on_them() -> None:
    description = {"channel_names": {"0": "LF", "1": "HF"}, "uhf": PAIRS}
    with pytest.raises(UHFError, match="this dataset is paired: use UHFTeacherTrainer"):
        read_task_of(ModalityTask, description, dataset="Dataset001_Pairs")


def test_the_learning_rate_is_whole_for_half_of_the_epochs() -> None:
    assert [constant_then_linear(epoch, 10) for epoch in (0, 4, 5, 9)] == [1, 1, 1, pytest.approx(0.2)]
