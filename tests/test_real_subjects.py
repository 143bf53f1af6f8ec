"""The main job on a few real subjects: simulated low field, teacher, keeper, guided 2d nnU-Net, prediction.

Short: it shows that the chain holds on real anatomy and geometry, not what guidance is worth.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from helpers.guided_runs import KEEPER_VARIABLE, brief, model_folder, train
from helpers.low_field import simulated
from helpers.support import predict_folder, shared_data
from helpers.tiny_data import LABELS, DatasetSpec, TinyDataset
from helpers.workspace import environment, folders, preprocess
from nnunet_uhf.inference.enhance import enhance
from nnunet_uhf.preprocessing.datasets.write import write_paired_dataset, write_segmentation_dataset
from nnunet_uhf.trainers import UHFKeeperTrainer, UHFTeacherTrainer, UHFTrainer
from nnunet_uhf.trainers.export.keeper import export_keeper

SUBJECTS = 6
PATCH, BATCH, FEATURES = [96, 96], 4, [8, 16, 32]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TinyDataset, TinyDataset]:
    """Pairs of five subjects, and the segmentation task of the same five with a sixth to test on."""
    source = shared_data() / "ixi_hh_2mm"
    root = tmp_path_factory.mktemp("real")
    (root / "images").mkdir()
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (source / "images").glob("*.nii.gz"))[:SUBJECTS]
    for case in cases:
        (root / "images" / f"{case}.nii.gz").symlink_to(source / "images" / f"{case}.nii.gz")
    simulated(root / "images", root / "low_field", source / "labels_tissue", noise_scale=8.0)
    low, high, labels = (
        {case: folder / f"{case}.nii.gz" for case in cases}
        for folder in (root / "low_field", source / "images", source / "labels_tissue")
    )
    training = cases[:-1]
    specs = (
        DatasetSpec(601, "RealPairs", channels=("LF", "HF"), configurations=("2d",)),
        DatasetSpec(602, "RealTissues", configurations=("2d",)),
    )
    datasets = [TinyDataset(s, root / "raw" / s.name, root / "preprocessed" / s.name) for s in specs]
    write_paired_dataset(
        datasets[0].raw,
        sources={c: low[c] for c in training},
        targets={c: high[c] for c in training},
        labels={c: labels[c] for c in training},
        label_names=LABELS,
        source_field_T=0.36,
        target_field_T=3.0,
        route="simulated",
    )
    write_segmentation_dataset(
        datasets[1].raw,
        channels={"LF": {c: low[c] for c in training}},
        labels={c: labels[c] for c in training},
        label_names=LABELS,
        test_channels={"LF": {cases[-1]: low[cases[-1]]}},
    )
    for dataset in datasets:
        plan_2d(root, dataset)
    return root, *datasets


def plan_2d(root: Path, dataset: TinyDataset) -> None:
    """nnU-Net's fingerprint, plans and preprocessing for 2d, with a network for one CPU core."""

    def small(plans: dict[str, Any]) -> dict[str, Any]:
        configuration = plans["configurations"]["2d"]
        configuration.update(patch_size=PATCH, batch_size=BATCH)
        configuration["architecture"]["arch_kwargs"].update(
            n_stages=len(FEATURES),
            features_per_stage=FEATURES,
            strides=[[1, 1], [2, 2], [2, 2]],
            kernel_sizes=[[3, 3]] * len(FEATURES),
            n_conv_per_stage=[1] * len(FEATURES),
            n_conv_per_stage_decoder=[1] * (len(FEATURES) - 1),
        )
        return plans

    preprocess(root, dataset, small, checked=True)


@pytest.mark.slow
def test_real_subjects_go_from_simulated_low_field_to_a_guided_segmentation(
    real: tuple[Path, TinyDataset, TinyDataset],
) -> None:
    root, pairs, tissues = real
    results = root / "results"
    keeper = root / "keeper.safetensors"
    variables = {**folders(root, results), "nnUNet_n_proc_DA": "0", "nnUNet_compile": "f", KEEPER_VARIABLE: None}
    with environment(**variables):
        train(brief(UHFTeacherTrainer, iterations=240), pairs, "2d")
        train(brief(UHFKeeperTrainer, iterations=40), pairs, "2d")
        export_keeper(pairs.name, "2d", 0, output=keeper, accept_worse=True)
        with environment(**{KEEPER_VARIABLE: str(keeper)}):
            train(brief(UHFTrainer, iterations=200), tissues, "2d")
        predicted = predict_folder(
            model_folder(results, UHFTrainer, tissues, "2d"), tissues.raw / "imagesTs", root / "predicted"
        )
        enhance(tissues.raw / "imagesTs", root / "enhanced", keeper, device="cpu")

    fold = model_folder(results, UHFKeeperTrainer, pairs, "2d") / "fold_0"
    quality = json.loads((fold / "validation" / "summary.json").read_text())["mean"]
    assert quality["teacher"]["psnr"] > 24  # dB, what a teacher must reach on held-out images
    assert quality["teacher"]["ssim"] > quality["prediction"]["ssim"] > 0.3

    (image_file,) = (tissues.raw / "imagesTs").glob("*.nii.gz")
    image = nib.load(image_file)
    case = image_file.name.removesuffix("_0000.nii.gz")
    truth = np.asarray(nib.load(shared_data() / "ixi_hh_2mm" / "labels_tissue" / f"{case}.nii.gz").dataobj)
    segmentation = nib.load(predicted / f"{case}.nii.gz")
    (enhanced_file,) = (root / "enhanced").glob("*.nii.gz")
    for written in (segmentation, nib.load(enhanced_file)):
        assert written.shape == image.shape
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
    brain, found = truth > 0, np.asarray(segmentation.dataobj) > 0
    dice = 2 * (brain & found).sum() / (brain.sum() + found.sum())
    assert dice > 0.8  # 200 steps find the brain only if geometry is right
