from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.evaluation import image_metrics as metrics
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.image_to_image.logger import PSNR, SSIM, log_keys
from nnunet_uhf.trainers.image_to_image.patch_quality import patch_psnr, patch_ssim
from nnunet_uhf.trainers.image_to_image.transforms import OnChannels

SOURCE, TARGET = 0, 1


@pytest.fixture(scope="module")
def pairs(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyDataset]:
    """Paired images, split so that fold 0 holds out a case of the planned spacing and one that was resampled."""
    yield held_out_two(nnunet_module, tmp_path_factory.mktemp("pairs"))
    nnunet_module.activate()


def held_out_two(workspace: Workspace, root: Path) -> TinyDataset:
    dataset = workspace.private("pairs", root).dataset("pairs")
    dataset.hold_out("case_00", "case_01")
    return dataset


@pytest.fixture(scope="module")
def trained(pairs: TinyDataset) -> Any:
    """A 2d teacher after one short epoch and its validation."""
    torch.manual_seed(0)
    return fit(tiny_trainer(UHFTeacherTrainer, pairs, "2d"), validate=True, drawn=True)


def augmentation(pairs: TinyDataset, configuration: str) -> tuple[Any, list[int]]:
    """The trainer's augmentation, its initial patch size, without keeping the trainer's folder open."""
    trainer = tiny_trainer(UHFTeacherTrainer, pairs, configuration)
    rotation, dummy_2d, initial_patch, mirror_axes = (
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    )
    transform = trainer.get_training_transforms(
        trainer.configuration_manager.patch_size,
        rotation,
        None,
        mirror_axes,
        dummy_2d,
        use_mask_for_norm=trainer.configuration_manager.use_mask_for_norm,
    )
    return transform, [int(n) for n in initial_patch]


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_source_and_target_move_together_and_intensity_changes_touch_the_source_alone(
    configuration: str, pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform, size = augmentation(pairs, configuration)
    image = torch.rand(1, *size).repeat(2, *[1] * len(size))
    labels = torch.ones(1, *size, dtype=torch.int16)

    def augmented(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the generator that batchgenerators uses
        return transform(image=image.clone(), segmentation=labels.clone())["image"]

    draws = 24 if configuration == "2d" else 12
    with_intensity = [augmented(seed) for seed in range(draws)]
    original = OnChannels.apply

    def drawn_but_not_applied(self: OnChannels, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        original(self, data_dict, **params)  # so that the random numbers of the spatial part stay the same
        return data_dict

    monkeypatch.setattr(OnChannels, "apply", drawn_but_not_applied)
    spatial_only = [augmented(seed) for seed in range(draws)]
    for both, moved in zip(with_intensity, spatial_only, strict=True):
        assert torch.equal(moved[SOURCE], moved[TARGET])
        assert torch.equal(both[TARGET], moved[TARGET])
    assert sum(not torch.equal(both[SOURCE], both[TARGET]) for both in with_intensity) > draws / 3


def test_all_of_nnunets_intensity_transforms_are_restricted_to_the_source(pairs: TinyDataset) -> None:
    transform, _ = augmentation(pairs, "3d_fullres")
    assert isinstance(transform, ComposeTransforms)
    restricted = [
        t.transform.transform for t in transform.transforms if isinstance(getattr(t, "transform", None), OnChannels)
    ]
    assert {type(t).__name__ for t in restricted} == {
        "GaussianNoiseTransform",
        "GaussianBlurTransform",
        "MultiplicativeBrightnessTransform",
        "ContrastTransform",
        "SimulateLowResolutionTransform",
        "GammaTransform",
    }


@pytest.mark.parametrize("shape", [(2, 1, 24, 31), (2, 1, 16, 17, 18), (2, 1, 5, 24, 20)])
def test_patch_quality_equals_that_of_whole_volumes(shape: tuple[int, ...]) -> None:
    truth = torch.randn(shape)
    image = truth + 0.3 * torch.randn(shape)
    expected_psnr = [metrics.psnr(t[0], i[0]) for t, i in zip(truth.numpy(), image.numpy(), strict=True)]
    expected_ssim = [
        metrics.ssim(t[0] - t.min(), i[0] - t.min()) for t, i in zip(truth.numpy(), image.numpy(), strict=True)
    ]
    # float32 on the device against float64 on the CPU
    assert patch_psnr(truth, image).tolist() == pytest.approx(expected_psnr, abs=1e-4)
    assert patch_ssim(truth, image).tolist() == pytest.approx(expected_ssim, abs=1e-4)


def test_psnr_and_ssim_stand_where_dice_stands_in_nnunet(trained: Any) -> None:
    folder = Path(trained.output_folder)
    log = "".join(path.read_text() for path in folder.glob("training_log_*.txt"))
    assert "PSNR" in log
    assert "SSIM" in log
    assert "ice" not in log.split("Epoch 0")[1].replace("slice", "")
    assert "explained_variance_1" in log
    assert (folder / "progress.png").stat().st_size > 10_000
    content = load_checkpoint_weights(folder / "checkpoint_best.pth")
    assert set(content["logging"]) == set(log_keys((PSNR, SSIM), PSNR))
    assert content["_best_ema"] == content["logging"]["ema_psnr"][0] == content["logging"]["psnr"][0]
    terms = content["logging"]["train_terms"][0]
    assert terms["image"] + terms["reconstruction"] == pytest.approx(content["logging"]["train_losses"][0], rel=1e-5)


def test_the_block_travels_in_plans_and_checkpoint_and_rebuilds_the_network(trained: Any) -> None:
    plans = json.loads((Path(trained.output_folder_base) / "plans.json").read_text())
    block = plans["configurations"]["2d"]["uhf"]
    assert block["role"] == "teacher"
    assert (block["source_channel"], block["target_channel"]) == (SOURCE, TARGET)
    assert block["architecture"]["base_features"] == 4
    content = load_checkpoint_weights(Path(trained.output_folder) / "checkpoint_final.pth")
    assert content["init_args"]["plans"]["configurations"]["2d"]["uhf"] == block
    network = UHFTeacherTrainer.network_of(TrainingBlock.parse(block, where="plans.json"))
    network.load_state_dict(content["network_weights"], strict=True)


def on_preprocessed_grid(path: Path, properties: dict[str, Any], trainer: Any) -> np.ndarray:
    """A written validation image, transposed and cropped as nnU-Net does with its inputs."""
    image, _ = trainer.plans_manager.image_reader_writer_class().read_images([str(path)])
    image = image[0].transpose(trainer.plans_manager.transpose_forward)
    return image[tuple(slice(*bounds) for bounds in properties["bbox_used_for_cropping"])]


def test_summary_holds_the_numbers_that_the_written_files_give(trained: Any) -> None:
    folder = Path(trained.output_folder) / "validation"
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["case"] for row in summary["metric_per_case"]] == ["case_00", "case_01"]
    dataset = trained.dataset_class(trained.preprocessed_dataset_folder, ["case_00"])
    data, labels, _, properties = dataset.load_case("case_00")
    truth, source, brain = data[TARGET], data[SOURCE], labels[0] > 0
    row = summary["metric_per_case"][0]
    prediction = on_preprocessed_grid(folder / "case_00.nii.gz", properties, trained)
    assert row["prediction"] == pytest.approx(
        metrics.image_quality(truth - truth.min(), prediction - truth.min(), brain), rel=1e-5
    )
    assert row["prediction_fitted"]["psnr"] == pytest.approx(
        metrics.psnr(truth, metrics.linear_fit(truth, prediction)), rel=1e-5
    )
    assert row["prediction_fitted"]["psnr"] > row["prediction"]["psnr"]
    fitted = metrics.linear_fit(truth, source)
    assert row["input"]["psnr"] == pytest.approx(metrics.psnr(truth, fitted))
    assert row["input"]["ssim"] == pytest.approx(metrics.ssim(truth - truth.min(), fitted - truth.min()))
    in_brain = metrics.linear_fit(truth, source, brain)
    assert row["input"]["psnr_brain"] == pytest.approx(metrics.psnr(truth, in_brain, mask=brain))
    assert row["input"]["psnr_brain"] > metrics.psnr(truth, source, mask=brain)
    for image in ("prediction", "prediction_fitted", "input"):
        for name, value in summary["mean"][image].items():
            assert value == pytest.approx(np.mean([r[image][name] for r in summary["metric_per_case"]]))
    assert summary["foreground_mean"]["psnr"] == summary["mean"]["prediction"]["psnr_brain"]


@pytest.mark.parametrize("case", ["case_00", "case_01"])
def test_the_written_image_has_the_geometry_of_the_scan(case: str, trained: Any, pairs: TinyDataset) -> None:
    written = nibabel.load(Path(trained.output_folder) / "validation" / f"{case}.nii.gz")
    original = nibabel.load(pairs.raw / "imagesTr" / f"{case}_0001.nii.gz")
    assert written.shape == original.shape
    np.testing.assert_allclose(written.affine, original.affine, atol=1e-5)
    inside = original.get_fdata() > 0
    # an untrained network still shows where the brain is, if and only if the axes are right
    assert np.isfinite(written.get_fdata()).all()
    assert written.get_fdata()[inside].std() > 0
    assert trained.plans_manager.image_reader_writer_class in (SimpleITKIO, NibabelIO)


class Killed(BaseException):
    """Stands for whatever ends a training from outside."""


def test_a_killed_training_continues_with_its_log(pairs: TinyDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class UHFTeacherTrainerKilled(UHFTeacherTrainer):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2 and not self.logger.resume:
                raise Killed
            super().on_train_epoch_start()

    options: dict[str, Any] = {"iterations": 1, "epochs": 3}
    with pytest.raises(Killed):
        fit(tiny_trainer(UHFTeacherTrainerKilled, pairs, "2d", **options))
    again = tiny_trainer(UHFTeacherTrainerKilled, pairs, "2d", continue_training=True, **options)
    latest = Path(again.output_folder) / "checkpoint_latest.pth"
    before = deepcopy(load_checkpoint_weights(latest)["logging"])
    assert len(before["psnr"]) == 2
    again.load_checkpoint(str(latest))
    assert again.current_epoch == 2
    fit(again)
    after = load_checkpoint_weights(Path(again.output_folder) / "checkpoint_final.pth")["logging"]
    for key in log_keys((PSNR, SSIM), PSNR):
        assert len(after[key]) == 3
        assert after[key][:2] == before[key][:2]
    assert after["ema_psnr"][2] == pytest.approx(0.9 * after["ema_psnr"][1] + 0.1 * after["psnr"][2])
    assert after["lrs"] == pytest.approx(
        [UHFTeacherTrainer.learning_rate * (1 - epoch / 3) ** 0.9 for epoch in range(3)]
    )


@pytest.mark.parametrize("configuration", ["3d_fullres", "3d_lowres"])
def test_three_dimensional_configurations_train(configuration: str, pairs: TinyDataset) -> None:
    plans = pairs.plans()
    lowres = {**deepcopy(plans["configurations"]["3d_fullres"]), "next_stage": "3d_cascade_fullres"}
    plans["configurations"]["3d_lowres"] = lowres
    trainer = fit(tiny_trainer(UHFTeacherTrainer, pairs, configuration, plans=plans, iterations=1))
    assert trainer.logger.get_value("psnr", step=-1) > 0
    assert not any(Path(trainer.output_folder_base).glob("predicted_next_stage"))


def test_a_cascade_is_refused_with_the_reason(pairs: TinyDataset) -> None:
    plans = pairs.plans()
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    with pytest.raises(NotImplementedError, match="a cascade refines a segmentation"):
        tiny_trainer(UHFTeacherTrainer, pairs, "3d_cascade_fullres", plans=plans)


FAULTS: dict[str, tuple[Any, str]] = {
    "no object": (None, 'no "uhf" object'),
    "missing entry": ({"source_field_T": None}, "lacks source_field_T"),
    "unknown channel": ({"target": "7T"}, "'7T' names no channel; channel_names has 'LF', 'HF'"),
    "one channel twice": ({"target": "lf"}, "both channel"),
    "field of zero": ({"target_field_T": 0}, "above 0"),
    "unknown route": ({"route": "magic"}, "choose one of paired, simulated"),
    "unknown entry": ({"sauce": "LF"}, "unknown entries sauce"),
    "unknown option": ({"architecture": {"depth": 3}}, "may set base_features"),
    "impossible option": ({"architecture": {"base_features": 6, "noise": "pink"}}, "does not make a network"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_description_ends_in_one_line_and_status_2_before_anything_is_written(
    fault: str, pairs: TinyDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = FAULTS[fault]
    description = pairs.dataset_json()
    if change is None:
        del description["uhf"]
    else:
        description["uhf"].update(change)
        description["uhf"] = {k: v for k, v in description["uhf"].items() if v is not None}

    class UHFTeacherTrainerRefused(UHFTeacherTrainer):
        pass

    plans = {**pairs.plans(), "continue_training": False}
    with pytest.raises(SystemExit) as end:
        UHFTeacherTrainerRefused(plans, "2d", 0, description, device=torch.device("cpu"))
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert "dataset.json of Dataset505_TinyPairs" in error
    assert not list(pairs.preprocessed.parents[1].glob("results/*/UHFTeacherTrainerRefused*"))


def test_channel_names_are_found_whatever_their_case(pairs: TinyDataset) -> None:
    description = pairs.dataset_json()
    description["uhf"] |= {"source": "hf", "target": "lf"}
    plans = {**pairs.plans(), "continue_training": False}
    trainer = UHFTeacherTrainer(plans, "2d", 0, description, device=torch.device("cpu"))
    assert (trainer.block.source_channel, trainer.block.target_channel) == (1, 0)


def test_a_case_without_any_label_is_refused_before_training(
    pairs: TinyDataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(UHFTeacherTrainer, pairs, "2d")
    trainer.initialize()
    original = trainer.dataset_class.load_case

    def unlabelled(self: Any, case: str) -> Any:
        data, labels, previous, properties = original(self, case)
        empty = {label: [] for label in properties["class_locations"]}
        return data, labels, previous, {**properties, "class_locations": empty if case == "case_03" else {1: [0]}}

    monkeypatch.setattr(trainer.dataset_class, "load_case", unlabelled)
    with pytest.raises(SystemExit) as end:
        trainer.on_train_start()
    assert end.value.code == 2
    assert "case case_03 of Dataset505_TinyPairs has no labelled voxel" in capsys.readouterr().err


def test_a_training_on_several_orientations_says_so_and_records_it(
    nnunet: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = held_out_two(nnunet, tmp_path)
    properties = next(pairs.preprocessed.rglob("*2d/case_03.pkl"))
    content = load_pickle(str(properties))
    content["sitk_stuff"]["direction"] = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    write_pickle(content, str(properties))
    trainer = tiny_trainer(UHFTeacherTrainer, pairs, "2d")
    trainer.on_train_start()
    try:
        assert trainer.data.orientation == "mixed"
        assert "stored in several orientations, LAS (2), PIR (1)" in capsys.readouterr().out
    finally:
        trainer.on_train_end()
