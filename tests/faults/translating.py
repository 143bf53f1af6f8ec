"""Verbs that need a model of two domains or of several modalities, or several subjects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from faults.datasets import Commands, Image
from helpers.support import tiny_keeper, tiny_trainer
from helpers.tiny_data import TinyDataset
from helpers.unicoal_samples import write_unicoal_keeper
from helpers.unpaired_samples import prepare_unpaired
from helpers.workspace import environment, folders
from nnunet_uhf.nnunet.model_folder import CHECKPOINT, ModelFolder

SUBJECTS = 3
SPOILT = "LF_1"
"""Case of the made dataset of two domains."""


def translation(root: Path) -> tuple[TinyDataset, Path]:
    """A raw dataset of two domains, and the model folder of a translation with random weights."""
    dataset = prepare_unpaired(root)
    with environment(**folders(root, root / "results"), nnUNet_n_proc_DA="0", nnUNet_compile="f"):
        torch.manual_seed(0)
        trainer = tiny_trainer("CUTTrainer", dataset, "2d")
        trainer.initialize()
        trainer.on_train_start()
        trainer.save_checkpoint(str(Path(trainer.output_folder) / CHECKPOINT))
        folder = ModelFolder.of(dataset.name, "CUTTrainer", "nnUNetPlans", "2d").path
    return dataset, folder


def _raw(root: Path, name: str, image: Image, channels: list[str], subjects: int, **entries: Any) -> Path:
    raw = root / "raw" / name
    for number in range(subjects):
        for channel in range(len(channels)):
            image(raw / "imagesTr" / f"case{number}_{channel:04d}.nii.gz")
        image(raw / "labelsTr" / f"case{number}.nii.gz", labels=True)
    labels = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
    names = {str(number): name for number, name in enumerate(channels)}
    content = {"channel_names": names, "labels": labels, "numTraining": subjects, "file_ending": ".nii.gz", **entries}
    (raw / "dataset.json").write_text(json.dumps(content))
    return raw


def translating(root: Path, image: Image, out: str) -> Commands:
    """By verb: the file to spoil, below root, and the arguments; nnUNet_raw is `root/raw`."""
    dataset, model = translation(root)
    _raw(root, "Dataset305_Probed", image, ["LF"], SUBJECTS)
    _raw(root, "Dataset306_Modalities", image, ["T1w", "T2w"], 1)
    modalities = str(write_unicoal_keeper(root / "unicoal.safetensors"))
    made = ["-o", f"{out}/Dataset307_Pairs", "-device", "cpu"]
    change = ["--from", "T1w", "--to", "T2w", "--axis", "axial"]
    pairs = ["pseudo-pairs", "-d", dataset.id, "-m", str(model), "--from", "source", *made]
    keeper = str(tiny_keeper(root, 3))
    probed = ["probe", "-m", keeper, "image", "-d", "305", "--labelled", "1", "-o", out, "-device", "cpu"]
    raw = f"raw/{dataset.name}"
    return {
        "pseudo-pairs, image": (f"{raw}/imagesTr/{SPOILT}_0000.nii.gz", pairs),
        "pseudo-pairs, labels": (f"{raw}/labelsTr/{SPOILT}.nii.gz", pairs),
        "pseudo-pairs --to": (
            "raw/Dataset306_Modalities/imagesTr/case0_0000.nii.gz",
            ["pseudo-pairs", "-d", "306", "-m", modalities, *change, *made],
        ),
        "enhance --to": (
            "images/case.nii.gz",
            ["enhance", "-i", str(root / "images"), "-m", modalities, *change, "-o", out, "-device", "cpu"],
        ),
        "probe, image": ("raw/Dataset305_Probed/imagesTr/case1_0000.nii.gz", probed),
        "probe, labels": ("raw/Dataset305_Probed/labelsTr/case1.nii.gz", probed),
    }
