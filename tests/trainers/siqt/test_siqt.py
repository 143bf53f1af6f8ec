"""SIQT trainers: thick slices in and thin ones out (native), or one grid (regrid); losses; held-out volumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from helpers.support import fit, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.workspace import Workspace
from nnunet_uhf.evaluation import image_metrics as metrics
from nnunet_uhf.keepers.training_block import TrainingBlock
from nnunet_uhf.nnunet.checkpoints import load_checkpoint_weights
from nnunet_uhf.seeds import case_generator
from nnunet_uhf.trainers.image_to_image.pair_source import image_and_labels
from nnunet_uhf.trainers.image_to_image.simulate_source import VALIDATION_SEED
from nnunet_uhf.trainers.siqt.trainers import (
    SIQTTrainer,
    SIQTTrainerHuber,
    SIQTTrainerMAE,
    SIQTTrainerMasksembles,
    SIQTTrainerSSIM,
)

SPLIT = {"train": ["case_02", "case_03", "case_04"], "val": ["case_00", "case_01"]}
RATIO, AXIS = 3, 1


def native_dataset(workspace: Workspace, root: Path, *, ratio: int = RATIO, axis: int = AXIS) -> TinyDataset:
    """A copy of the high-field dataset whose trainings keep thick slices, with two held-out cases."""
    dataset = workspace.private("high field", root).dataset("high field")
    assert dataset.hold_out(*SPLIT["val"]) == SPLIT
    description = dataset.dataset_json()
    description["uhf"]["simulate"].update(mode="native", ratios=[ratio], axes=[axis])
    (dataset.preprocessed / "dataset.json").write_text(json.dumps(description))
    return dataset


@pytest.fixture(scope="module")
def native(nnunet_module: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyDataset]:
    yield native_dataset(nnunet_module, tmp_path_factory.mktemp("native"))
    nnunet_module.activate()


@pytest.fixture(scope="module")
def trained(native: TinyDataset) -> Any:
    """A 2d model of thick slices after one short epoch and its validation."""
    torch.manual_seed(0)
    return fit(tiny_trainer(SIQTTrainer, native, "2d"), validate=True)


def summary_of(trainer: Any) -> dict[str, Any]:
    return json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())


def test_the_block_describes_the_network_in_plans_and_checkpoint(trained: Any) -> None:
    content = load_checkpoint_weights(Path(trained.output_folder) / "checkpoint_final.pth")
    block = content["init_args"]["plans"]["configurations"]["2d"]["uhf"]
    assert (block["role"], block["network"]) == ("keeper", "anisotropic_unet")
    assert block["simulation"]["mode"] == "native"
    assert block["architecture"] == {
        "dim": 2,
        "in_channels": 1,
        "base_features": 4,
        "ratio": RATIO,
        "slice_axis": AXIS - 1,
        "masks": None,
        "mask_scale": 2.0,
        "pooling": "max",
    }
    network = SIQTTrainer.network_of(TrainingBlock.parse(block, where="plans.json"))
    network.load_state_dict(content["network_weights"], strict=True)
    assert trained.initial_lr == 1e-3
    assert "mse" in content["logging"]["train_terms"][0]


def test_held_out_volumes_have_all_voxels_and_the_geometry_of_their_scans(trained: Any, native: TinyDataset) -> None:
    folder = Path(trained.output_folder) / "validation"
    for case in SPLIT["val"]:
        scan = nibabel.load(native.raw / "imagesTr" / f"{case}_0000.nii.gz")
        image = nibabel.load(folder / f"{case}.nii.gz")
        assert image.shape == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
        assert np.isfinite(image.get_fdata()).all()


def test_the_inputs_row_is_the_cubic_interpolation_of_the_thick_slices_after_its_best_fit(
    trained: Any, native: TinyDataset
) -> None:
    dataset = trained.dataset_class(trained.preprocessed_dataset_folder, SPLIT["val"])
    for row in summary_of(trained)["metric_per_case"]:
        data, labels, _, _ = dataset.load_case(row["case"])
        (source,), target = trained.pairs.of_case(row["case"], data, labels)
        assert source.shape[AXIS] == -(-target.shape[AXIS] // RATIO)
        simulation, known = trained.pairs.simulation, trained.pairs.cases[row["case"]]
        draw = simulation.simulator.draw(case_generator(VALIDATION_SEED, row["case"]))
        image, whole = image_and_labels(0, data, labels)
        slices = simulation._simulate(image, whole, draw, known)[0].image
        where = list(np.meshgrid(*(np.arange(n, dtype=float) for n in target.shape), indexing="ij"))
        where[AXIS] = where[AXIS] / RATIO
        cubic = ndimage.map_coordinates(slices, where, order=3, mode="nearest")
        expected = metrics.psnr(target, metrics.linear_fit(target, cubic))
        assert row["input"]["psnr"] == pytest.approx(expected, abs=0.05)
        assert np.isfinite(list(row["prediction"].values())).all()


@pytest.mark.parametrize("axis", [0, 2])
def test_three_dimensional_models_train_along_any_axis(axis: int, nnunet: Workspace, tmp_path: Path) -> None:
    dataset = native_dataset(nnunet, tmp_path, ratio=4, axis=axis)
    trainer = fit(tiny_trainer(SIQTTrainer, dataset, "3d_fullres", iterations=1), validate=axis == 0)
    assert trainer.logger.get_value("psnr", step=-1) > 0
    assert trainer.block.networks.architecture["slice_axis"] == axis


@pytest.mark.parametrize("key", ["pairs", "high field"])
def test_on_one_grid_it_is_a_plain_trainer_of_images(key: str, nnunet: Workspace) -> None:
    trainer = fit(tiny_trainer(SIQTTrainer, nnunet.dataset(key), "2d", iterations=1))
    assert trainer.block.networks.architecture["ratio"] == 1
    assert trainer.block.networks.architecture["slice_axis"] is None
    assert trainer.logger.get_value("psnr", step=-1) > 0


def test_it_learns_a_contrast(nnunet: Workspace) -> None:
    torch.manual_seed(1)
    trainer = fit(tiny_trainer(SIQTTrainer, nnunet.dataset("pairs"), "2d", iterations=25, epochs=3))
    losses = trainer.logger.get_value("train_losses", step=None)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("trainer", "names"),
    [
        (SIQTTrainer, {"mse"}),
        (SIQTTrainerMAE, {"mae"}),
        (SIQTTrainerHuber, {"huber"}),
        (SIQTTrainerSSIM, {"mae", "dssim"}),
    ],
)
def test_losses_are_0_at_the_target_grow_with_the_error_and_have_gradients(
    trainer: type[SIQTTrainer], names: set[str]
) -> None:
    target = torch.randn(3, 1, 12, 14, 16)
    target[1] = 0.7  # a patch without contrast
    noise = torch.randn(target.shape)

    def loss(scale: float) -> torch.Tensor:
        image = (target + scale * noise).requires_grad_()
        terms = trainer.difference(image, target)
        assert set(terms) == names
        total = torch.stack(list(terms.values())).sum()
        (gradient,) = torch.autograd.grad(total, image)
        assert torch.isfinite(gradient).all()
        return total.detach()

    assert loss(0.0) == pytest.approx(0, abs=1e-5)
    assert 0 < loss(0.1) < loss(0.5)


def test_the_ensemble_averages_all_masks_where_it_is_judged(native: TinyDataset) -> None:
    trainer = fit(tiny_trainer(SIQTTrainerMasksembles, native, "2d", iterations=1))
    assert trainer.block.networks.architecture["masks"] == 16
    network = trainer.network.eval()
    source = torch.randn(1, 1, 8, 32)
    with torch.no_grad():
        members = network.forward_all(source)
        torch.testing.assert_close(network(source), members.mean(dim=0), atol=1e-5, rtol=1e-4)
    assert members.std(dim=0).min() > 0


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "two ratios": ("high field", {"simulate": {"mode": "native", "ratios": [2, 4], "axes": [1]}}, "exactly one ratio"),
    "two axes": ("high field", {"simulate": {"mode": "native", "ratios": [4], "axes": [1, 2]}}, "one axis"),
    "ratio without factors": ("high field", {"simulate": {"mode": "native", "ratios": [5], "axes": [1]}}, "2, 3, 4"),
    "unknown mode": ("high field", {"simulate": {"mode": "thick"}}, "mode is 'thick'"),
    "pairs": ("pairs", {"mode": "native"}, "nnU-Net resamples both to one grid"),
    "masks by hand": ("pairs", {"architecture": {"masks": 8}}, "uhf.architecture is"),
    "odd features": ("pairs", {"architecture": {"base_features": 5}}, "does not make a network"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_description_ends_in_one_line(
    fault: str, nnunet: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    key, change, message = FAULTS[fault]
    dataset = nnunet.dataset(key)
    description = dataset.dataset_json()
    simulate = change.get("simulate")
    description["uhf"].update({name: value for name, value in change.items() if name != "simulate"})
    if simulate is not None:
        description["uhf"]["simulate"].update(simulate)
    with pytest.raises(SystemExit) as end:
        SIQTTrainer({**dataset.plans(), "continue_training": False}, "2d", 0, description, torch.device("cpu"))
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
