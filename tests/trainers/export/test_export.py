"""A finished keeper training becomes a keeper file, and the same images by either."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from rich.console import Console

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace, environment
from nnunet_uhf.errors import KeeperFileError, UHFError
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.keepers.file import build_enhancer, build_keeper, read_header, read_keeper
from nnunet_uhf.keepers.trained import foreground_intensity, read_trained_keeper
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.nnunet.model_folder import ModelFolder
from nnunet_uhf.nnunet.training_data import RECORD
from nnunet_uhf.trainers.distillation.keeper import UHFKeeperTrainer
from nnunet_uhf.trainers.distillation.teacher import UHFTeacherTrainer
from nnunet_uhf.trainers.export.intensity import training_intensity
from nnunet_uhf.trainers.export.keeper import NOT_CLOSER, export_keeper

SPLIT = {"train": ["case_02", "case_03", "case_04"], "val": ["case_00", "case_01"]}
MODEL = "UHFKeeperTrainer__nnUNetPlans__2d"


@dataclass(frozen=True)
class Finished:
    """A keeper of a few steps with its validation, on a dataset of five pairs."""

    workspace: Workspace
    dataset: TinyDataset

    @property
    def model(self) -> Path:
        return self.workspace.results / self.dataset.name / MODEL

    def export(self, output: Path, **options: Any) -> Path:
        options = {"accept_worse": True, **options}
        return export_keeper(self.dataset.name, "2d", options.pop("fold", 0), output=output, **options)

    def scan(self, case: str, channel: int = 0) -> Path:
        return self.dataset.raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz"


@pytest.fixture(scope="module")
def trained(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    workspace = nnunet_module.private("pairs", tmp_path_factory.mktemp("pairs"))
    dataset = workspace.dataset("pairs")
    assert dataset.hold_out(*SPLIT["val"]) == SPLIT
    torch.manual_seed(0)
    fit(tiny_trainer(UHFTeacherTrainer, dataset, "2d"), validate=True)
    summary = workspace.results / dataset.name / MODEL.replace("Keeper", "Teacher") / "fold_0/validation/summary.json"
    edit(summary, lambda content: content["mean"]["prediction"].update(psnr=40.0))  # two steps make no teacher
    fit(tiny_trainer(UHFKeeperTrainer, dataset, "2d"), validate=True)
    yield Finished(workspace, dataset)
    nnunet_module.activate()


@pytest.fixture
def finished(trained: Finished, tmp_path: Path) -> Iterator[Finished]:
    """A copy of the results that a test may spoil."""
    results = tmp_path / "results"
    shutil.copytree(trained.workspace.results, results)
    with environment(nnUNet_results=str(results)):
        yield Finished(Workspace(trained.workspace.root, results, {}), trained.dataset)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_header_says_where_the_keeper_comes_from(trained: Finished, tmp_path: Path) -> None:
    header = read_header(trained.export(tmp_path / "keeper.safetensors"))
    plans = trained.dataset.plans()
    planned = plans["configurations"]["2d"]
    assert (header.dim, header.channel, header.route) == (2, "LF", "paired")
    assert (header.source_field_T, header.target_field_T) == (0.36, 3.0)
    assert header.spacing_mm == tuple(planned["spacing"])
    assert header.patch_size == tuple(planned["patch_size"])
    assert header.transpose_forward == tuple(plans["transpose_forward"])
    assert header.orientation == "LAS"
    assert read_trained_keeper(trained.model, 0).header.orientation == "LAS"  # of the checkpoint alone
    assert (header.normalisation, header.use_mask_for_norm) == (
        planned["normalization_schemes"][0],
        planned["use_mask_for_norm"][0],
    )
    assert (header.dataset, header.configuration, header.fold) == (trained.dataset.name, "2d", 0)
    assert (header.training_cases, header.validation_cases) == (SPLIT["train"], SPLIT["val"])
    mean = json.loads((trained.model / "fold_0/validation/summary.json").read_text())["mean"]
    assert header.metrics == {
        "keeper": mean["prediction"],
        "keeper_fitted": mean["prediction_fitted"],
        "input": mean["input"],
        "teacher": mean["teacher"],
        "note": NOT_CLOSER,  # two iterations of training
    }
    assert "2402.08409" in header.citation


def test_the_header_says_how_pairs_were_simulated_before(finished: Finished, tmp_path: Path) -> None:
    declared = {"route": "simulated", "simulation": {"preset": {"name": "t1w_0.36T_probable"}, "seed": 3}}
    edit(finished.model / "dataset.json", lambda content: content["uhf"].update(declared))
    header = read_header(finished.export(tmp_path / "keeper.safetensors"))
    assert (header.route, header.simulation) == ("simulated", declared["simulation"])


def test_the_weights_are_those_of_the_checkpoint(trained: Finished, tmp_path: Path) -> None:
    file = read_keeper(trained.export(tmp_path / "keeper.safetensors"))
    weights = load_checkpoint_weights(trained.model / "fold_0/checkpoint_final.pth")["network_weights"]
    for prefix, state in (("keeper.", file.keeper_state), ("teacher.decoder.", file.decoder_state)):
        expected = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        assert state is not None
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_the_header_knows_the_features_of_its_cases_unless_that_is_left_out(trained: Finished, tmp_path: Path) -> None:
    statistics = read_header(trained.export(tmp_path / "keeper.safetensors")).feature_statistics
    assert statistics is not None
    assert statistics["cases"] == len(SPLIT["train"])
    without = trained.export(tmp_path / "without.safetensors", with_statistics=False)
    assert read_header(without).feature_statistics is None


def test_a_keeper_without_decoder_guides_but_does_not_enhance(trained: Finished, tmp_path: Path) -> None:
    path = trained.export(tmp_path / "keeper.safetensors", with_decoder=False)
    build_keeper(read_keeper(path))
    with pytest.raises(KeeperFileError, match="no decoder"):
        build_enhancer(read_keeper(path))


def test_enhance_repeats_the_validation_of_the_trainer(trained: Finished, tmp_path: Path) -> None:
    """From the raw low-field scan alone: the trainer's held-out image, in the target's intensities."""
    keeper = trained.export(tmp_path / "keeper.safetensors")
    intensity = read_header(keeper).target_intensity
    for case in SPLIT["val"]:  # the second has a spacing of its own, so it is resampled there and back
        (out,) = enhance(trained.scan(case), tmp_path / "out", keeper, device="cpu", progress=False)
        image = nibabel.load(out).get_fdata()
        normalised = nibabel.load(trained.model / f"fold_0/validation/{case}.nii.gz").get_fdata()
        inside = create_nonzero_mask(nibabel.load(trained.scan(case)).get_fdata()[None])
        expected = normalised * intensity["std"] + intensity["mean"]
        drawn = image[inside] != 0  # the edge of a resampled mask may lie half a voxel inside
        assert drawn.mean() > 0.9
        np.testing.assert_allclose(image[inside][drawn], expected[inside][drawn], atol=1e-3 * intensity["mean"])
        assert (image[~inside] == 0).mean() > 0.9


def test_a_model_folder_enhances_like_its_keeper_file_without_raw_or_preprocessed_data(
    trained: Finished, tmp_path: Path
) -> None:
    keeper = trained.export(tmp_path / "keeper.safetensors")
    intensity = read_header(keeper).target_intensity
    rough = foreground_intensity(json.loads((trained.model / "plans.json").read_text()), 1)
    model = shutil.copytree(trained.model, tmp_path / MODEL)
    nowhere = {name: str(tmp_path / "nowhere") for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    with environment(**nowhere):
        (first,) = enhance(trained.scan("case_00"), tmp_path / "a.nii.gz", keeper, device="cpu", progress=False)
        (second,) = enhance(trained.scan("case_00"), tmp_path / "b.nii.gz", model, device="cpu", progress=False)
    images = [nibabel.load(path).get_fdata() for path in (first, second)]
    scores = [(image - scale["mean"]) / scale["std"] for image, scale in zip(images, (intensity, rough), strict=True)]
    inside = images[0] != 0
    np.testing.assert_allclose(scores[0][inside], scores[1][inside], atol=1e-4)
    notes = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]
    assert notes[0]["keepers"][0]["sha256"] == notes[1]["keepers"][0]["sha256"]
    assert notes[1]["model"] == MODEL


def test_several_folds_of_a_model_folder_are_averaged(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.model / "fold_0", finished.model / "fold_1")
    path = finished.model / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["network_weights"]["teacher.decoder.output.bias"] += 2
    torch.save(checkpoint, path)
    assert ModelFolder(finished.model).finished_folds == (0, 1)
    images = []
    for index, folds in enumerate(([0], [1], None)):
        place = tmp_path / str(index)
        (out,) = enhance(finished.scan("case_00"), place, finished.model, device="cpu", folds=folds, progress=False)
        images.append(nibabel.load(out).get_fdata())
    np.testing.assert_allclose(images[2], (images[0] + images[1]) / 2, atol=1e-3)
    assert np.abs(images[1] - images[0]).max() > 1
    note = json.loads((tmp_path / "2" / "case_00_0000.json").read_text())
    assert [keeper["fold"] for keeper in note["keepers"]] == [0, 1]


def test_the_intensities_of_the_target_bring_a_normalised_target_back(trained: Finished, tmp_path: Path) -> None:
    """Checked on a training case: its own z-scores through the exported mean and deviation."""
    intensity = read_header(trained.export(tmp_path / "keeper.safetensors")).target_intensity
    target = nibabel.load(trained.scan("case_02", channel=1)).get_fdata()
    inside = target[create_nonzero_mask(target[None])]
    assert intensity["mean"] == pytest.approx(inside.mean(), rel=0.05)
    assert intensity["std"] == pytest.approx(inside.std(), rel=0.05)


def test_with_air_around_the_head_the_background_comes_back_as_zero(trained: Finished) -> None:
    """Normalised over the whole crop, air is far below 0; the plans' statistics of labelled voxels turn it grey."""
    plans = trained.dataset.plans()
    plans["configurations"]["2d"]["use_mask_for_norm"] = [False, False]
    options = {"configuration": "2d", "channel": 1, "cases": SPLIT["train"]}
    exact = training_intensity(trained.dataset.raw, plans, trained.dataset.dataset_json(), **options)
    target = nibabel.load(trained.scan("case_02", channel=1)).get_fdata()
    occupied = np.argwhere(target != 0)
    crop = target[tuple(slice(a, b + 1) for a, b in zip(occupied.min(0), occupied.max(0), strict=True))]
    air = (0 - crop.mean()) / crop.std()
    assert air * exact["std"] + exact["mean"] == pytest.approx(0, abs=0.03 * crop.max())
    rough = foreground_intensity(plans, 1)
    assert air * rough["std"] + rough["mean"] > 0.1 * crop.max()


def test_without_the_raw_images_intensities_come_from_the_plans_with_a_warning(
    trained: Finished, tmp_path: Path
) -> None:
    with environment(nnUNet_raw=str(tmp_path / "gone")), pytest.warns(UserWarning, match="only approximate"):
        header = read_header(trained.export(tmp_path / "keeper.safetensors"))
    assert header.target_intensity == foreground_intensity(trained.dataset.plans(), 1)


def test_a_keeper_worse_than_its_input_in_both_measures_is_refused_unless_accepted(
    finished: Finished, tmp_path: Path
) -> None:
    summary = finished.model / "fold_0/validation/summary.json"
    output = tmp_path / "keeper.safetensors"

    def measured(psnr: float, ssim: float) -> None:
        edit(summary, lambda content: content["mean"]["prediction"].update(psnr=20.0, ssim=0.5))
        edit(summary, lambda content: content["mean"]["prediction_fitted"].update(psnr=psnr, ssim=ssim))
        edit(summary, lambda content: content["mean"]["input"].update(psnr=25.0, ssim=0.8))

    measured(24.0, 0.7)
    with pytest.raises(UHFError, match=r"24\.0 dB / 0\.700 against 25\.0 dB / 0\.800") as error:
        finished.export(output, accept_worse=False)
    assert "\n" not in str(error.value)
    assert not output.exists()
    finished.export(output, accept_worse=True)
    for psnr, ssim in ((26.0, 0.7), (24.0, 0.9)):
        measured(psnr, ssim)
        finished.export(output, accept_worse=False, overwrite=True)


@pytest.mark.parametrize(("inside", "noted"), [(24.9, True), (25.1, False)])
def test_a_keeper_that_is_no_closer_inside_the_brain_says_so(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: float, noted: bool
) -> None:
    def measured(content: dict[str, Any]) -> None:
        content["mean"]["prediction_fitted"].update(psnr=30.0, ssim=0.9, psnr_brain=inside)
        content["mean"]["input"].update(psnr=28.0, ssim=0.8, psnr_brain=25.0)

    edit(finished.model / "fold_0/validation/summary.json", measured)
    header = read_header(finished.export(tmp_path / "keeper.safetensors", accept_worse=False, console=Console()))
    assert (header.metrics.get("note") == NOT_CLOSER) is noted
    assert (NOT_CLOSER in capsys.readouterr().out) is noted


def test_a_keeper_nobody_validated_is_refused(finished: Finished, tmp_path: Path) -> None:
    summary = finished.model / "fold_0/validation/summary.json"
    edit(summary, lambda content: content["mean"].pop("input"))
    with pytest.raises(UHFError, match="lacks the PSNR and SSIM"):
        finished.export(tmp_path / "keeper.safetensors")
    summary.unlink()
    with pytest.raises(UHFError, match=r"summary\.json does not exist.*--val"):
        finished.export(tmp_path / "keeper.safetensors")


def rows_of(cases: list[str]) -> list[dict[str, str]]:
    return [{"case": case} for case in cases]


def test_fold_all_says_that_nothing_was_held_out(finished: Finished, tmp_path: Path) -> None:
    folder = finished.model / "fold_all"
    shutil.copytree(finished.model / "fold_0", folder)
    everything = sorted(SPLIT["train"] + SPLIT["val"])
    edit(folder / "validation/summary.json", lambda content: content.update(metric_per_case=rows_of(everything)))
    checkpoint = load_checkpoint_weights(folder / "checkpoint_final.pth")
    checkpoint["init_args"][RECORD].update(training=everything, validation=[])
    torch.save(checkpoint, folder / "checkpoint_final.pth")
    splits = finished.dataset.preprocessed / "splits_final.json"
    kept = splits.rename(tmp_path / "splits_final.json")  # nnU-Net writes none for this fold
    try:
        header = read_header(finished.export(tmp_path / "keeper.safetensors", fold="all"))
    finally:
        shutil.move(kept, splits)
    assert header.training_cases == everything
    assert header.validation_cases == []
    assert "nothing was held out" in header.metrics["note"]
    assert ModelFolder(finished.model).finished_folds == (0,)


def test_a_keeper_file_that_is_there_is_replaced_only_when_asked(finished: Finished, tmp_path: Path) -> None:
    output = tmp_path / "keeper.safetensors"
    output.write_bytes(b"mine")
    with pytest.raises(UHFError, match=r"is there already.*--overwrite"):
        finished.export(output)
    assert output.read_bytes() == b"mine"
    assert read_header(finished.export(output, overwrite=True)).fold == 0


def test_what_cannot_be_exported_is_refused_in_one_line(finished: Finished, tmp_path: Path) -> None:
    output = tmp_path / "keeper.safetensors"
    with pytest.raises(UHFError, match=r"fold_3/checkpoint_final\.pth"):
        finished.export(output, fold=3)
    with pytest.raises(UHFError, match=r"finished are UHFKeeperTrainer.*train first: nnUNetv2_train"):
        finished.export(output, trainer="UHFKeeperTrainer_5epochs")
    with pytest.raises(UHFError, match="not the model of a keeper trainer"):
        finished.export(output, trainer="UHFTeacherTrainer")
    longer = finished.model.with_name(finished.model.name.replace("Trainer", "Trainer_9epochs", 1))
    finished.model.rename(longer)
    assert export_keeper(finished.dataset.name, "2d", 0, output=tmp_path / "9.safetensors", accept_worse=True).is_file()
    longer.rename(finished.model)
    with pytest.raises(UHFError, match="no dataset 999"):
        export_keeper(999, "2d", 0, output=output)
    shutil.copytree(finished.model / "fold_0", finished.model / "fold_4")
    with pytest.raises(UHFError, match="has 1 folds"):
        finished.export(output, fold=4)
    with pytest.raises(KeeperFileError, match=r"\.safetensors"):
        finished.export(tmp_path / "keeper.pth")
    edit(finished.model / "plans.json", lambda plans: plans.update(image_reader_writer="SimpleITKIOWithReorient"))
    with pytest.raises(UHFError, match="SimpleITKIOWithReorient"):
        read_trained_keeper(finished.model, 0)
    with environment(nnUNet_results=None), pytest.raises(UHFError, match="nnUNet_results is not set"):
        finished.export(output)
    shutil.rmtree(finished.model / "fold_0")
    shutil.rmtree(finished.model / "fold_4")
    with pytest.raises(UHFError, match="no finished fold"):
        enhance(finished.scan("case_00"), tmp_path / "out", finished.model, device="cpu")
    assert not output.exists()
