"""Verbs that read finished trainings, plans or fetched files, each with the file that is to be cut."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from faults.files import MODEL
from helpers.hub import OneFile, serving
from helpers.reference_weights import made_weights
from helpers.support import tiny_keeper
from helpers.tiny_data import SPECS, TinyDataset
from helpers.unicoal_samples import write_unicoal_keeper
from helpers.workspace import environment, folders, prepare_dataset

OLD = MODEL.parents[2]
PAIRS = "Dataset505_TinyPairs"
Cut = tuple[str, Path, list[Any]]
"""What is cut, its file, and the arguments of the verb."""


@contextmanager
def finished(root: Path, out: Path) -> Iterator[list[Cut]]:
    """The rows, while nnU-Net's folders and a stand-in for the Hub are there."""
    keeper = tiny_keeper(root / "further", 2)
    with ExitStack() as stack:
        stack.enter_context(environment(**folders(root, root / "results"), nnUNet_UHF_KKN=None))
        stack.enter_context(serving(OneFile(keeper), cache=root / "cache"))
        dataset = prepare_dataset(root, SPECS["pairs"], training_cases=6, test_cases=0)
        yield [
            *_of_keepers(root, out, keeper),
            *_of_pairs(root, out, dataset.preprocessed),
            *_of_plans(dataset, out, keeper),
        ]


def folder_of(file: Path, folder: Path) -> Path:
    """A folder with a copy of a file."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, folder / file.name)
    return folder


def _of_keepers(root: Path, out: Path, keeper: Path) -> Iterator[Cut]:
    scan, on_cpu = OLD / "scan.nii.gz", ["-device", "cpu"]
    yield "enhance: the keeper file", keeper, ["enhance", "-i", scan, "-m", keeper, "-o", out / "e.nii.gz", *on_cpu]
    scans = folder_of(scan, root / "scans")
    yield "features: the keeper file", keeper, ["features", "-i", scans, "-m", keeper, "-o", out, *on_cpu]
    yield "push: the keeper file", keeper, ["push", keeper, "--repo", "lab/keepers"]
    yield (
        "pull: the file on the Hub",
        keeper,
        ["pull", "lab/keepers", "--name", keeper.name, "-o", out / "k.safetensors"],
    )
    modalities, raw = write_unicoal_keeper(root / "unicoal.safetensors"), root / "raw" / "Dataset306_Modalities"
    image = np.random.default_rng(0).random((24, 24, 24), np.float32) + 1
    for name in ("imagesTr/a_0000", "imagesTr/a_0001", "labelsTr/a"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        data = np.ones(image.shape, np.uint8) if name.startswith("labels") else image
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), raw / f"{name}.nii.gz")
    names = {"0": "T1w", "1": "T2w"}
    content = {"channel_names": names, "labels": {"background": 0, "brain": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(content))
    made = ["-d", "306", "-m", modalities, "--from", "T1w", "--to", "T2w", "--axis", "axial", *on_cpu]
    pairs = ["pseudo-pairs", *made, "-o", out / "Dataset307_Pairs"]
    yield "pseudo-pairs: the model", modalities, pairs
    yield "pseudo-pairs: the dataset.json", raw / "dataset.json", pairs
    weights, decoder = root / "knowledge_keeper.pth", root / "teacher_decoder.pth"
    for path, state in zip((weights, decoder), made_weights(2), strict=True):
        torch.save(state, path)
    facts = ["--channel", "T1w", "--patch-size", "32", "--field-lf", "3", "--field-hf", "7"]
    reference = ["import-reference", "--weights", weights, "--decoder", decoder, *facts, "-o", out / "k.safetensors"]
    yield "import-reference: the keeper's weights", weights, reference
    yield "import-reference: the decoder's weights", decoder, reference


def _of_pairs(root: Path, out: Path, preprocessed: Path) -> Iterator[Cut]:
    """Teacher and keeper as version 0.1.0 left them."""
    results = root / "results" / PAIRS
    shutil.copytree(OLD / "results" / PAIRS, results)
    splits = preprocessed / "splits_final.json"
    shutil.copyfile(OLD / "preprocessed" / PAIRS / splits.name, splits)
    for path in list(results.rglob("*.xz")):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
    keeper, teacher = (results / f"UHF{name}Trainer__nnUNetPlans__2d" for name in ("Keeper", "Teacher"))
    final, summary = "fold_0/checkpoint_final.pth", "fold_0/validation/summary.json"
    asked = ["-d", "505", "-c", "2d", "-f", "0", "--accept-worse", "-o", out / "k.safetensors"]
    export = ["export-keeper", *asked, "--no-statistics"]
    yield "export-keeper: the keeper's checkpoint", keeper / final, export
    yield "export-keeper: the plans", keeper / "plans.json", export
    yield "export-keeper: the dataset.json", keeper / "dataset.json", export
    yield "export-keeper: the summary of the validation", keeper / summary, export
    yield "export-keeper: the split", splits, export
    pretrain = ["pretrain", *asked, "-device", "cpu"]
    yield "pretrain: the teacher's checkpoint", teacher / final, pretrain
    yield "pretrain: the plans", preprocessed / "nnUNetPlans.json", pretrain
    yield "pretrain: the split", splits, pretrain
    longer = ["prolong", "-d", "505", "-c", "2d", "-f", "0", "-tr", "UHFTeacherTrainer", "--epochs", "9000"]
    yield "prolong: the checkpoint", teacher / final, longer
    enhance = ["enhance", "-i", OLD / "scan.nii.gz", "-m", keeper, "-o", out / "e.nii.gz", "-device", "cpu"]
    yield "enhance: a model's checkpoint", keeper / final, enhance
    yield "enhance: a model's plans", keeper / "plans.json", enhance


def _of_plans(dataset: TinyDataset, out: Path, keeper: Path) -> Iterator[Cut]:
    plans, fingerprint = dataset.plans_file, dataset.preprocessed / "dataset_fingerprint.json"
    attach = ["plan", "-d", dataset.id, "-c", "2d", "--keeper", keeper, "-o", "nnUNetPlans_guided", "--no-reserve"]
    yield "plan: the plans", plans, attach
    yield "plan: the dataset.json", dataset.preprocessed / "dataset.json", attach
    yield "plan: the keeper file", keeper, attach
    yield "plan --plane: the fingerprint", fingerprint, ["plan", "-d", dataset.id, "--plane", "coronal"]
    run = ["run", "-d", dataset.id, "-c", "2d", "-f", "0", "--keeper", keeper, "-o", out, "--print"]
    yield "run: the keeper file", keeper, run
    yield "run: the plans", plans, run
    yield "run: the dataset.json", dataset.raw / "dataset.json", run
    probe = ["probe", "-m", keeper, "image", "-d", dataset.id, "--labelled", "1", "--tested", "2", "-o", out]
    yield "probe: the keeper file", keeper, [*probe, "-device", "cpu"]
    yield "probe: the dataset.json", dataset.raw / "dataset.json", [*probe, "-device", "cpu"]
