"""Files that are cut short, in every verb that reads models, predictions or FreeSurfer's volumes."""

from __future__ import annotations

import json
import lzma
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from faults.datasets import freesurfer
from faults.files import MODEL
from faults.finished import OLD, Cut, finished, folder_of
from faults.tally import Fault, of_command
from helpers.support import tiny_keeper
from helpers.view_samples import write_view
from nnunet_uhf.imageio.output import file_sha256

BLANKS = 8
"""Bytes at the end of a JSON file that it may do without."""
RESULTS = (".gz", ".safetensors", ".csv", ".tsv")


def _guided(root: Path) -> Path:
    """The model folder of a guided training."""
    model = root / MODEL.name
    shutil.copytree(MODEL, model)
    packed = model / "fold_0/checkpoint_final.pth.xz"
    packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    packed.unlink()
    return model


def _plain(root: Path, guided: Path) -> Path:
    """The model folder that the plain trainer would have left in its place."""
    model = root / "nnUNetTrainer__nnUNetPlans__2d"
    shutil.copytree(guided, model)
    plans = json.loads((model / "plans.json").read_text())
    del plans["configurations"]["2d"]["uhf"]
    plans["plans_name"] = "nnUNetPlans"
    (model / "plans.json").write_text(json.dumps(plans))
    path = model / "fold_0/checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    weights = content["network_weights"].items()
    content["network_weights"] = {key: one for key, one in weights if not key.startswith(("keeper.", "fusions."))}
    content["init_args"]["plans"], content["trainer_name"] = plans, "nnUNetTrainer"
    torch.save(content, path)
    return model


def cut_files(root: Path, times: int, seed: int = 0, *, sound: bool = True) -> Iterator[Fault]:
    """Each verb on each of its files, cut at random places; before that on sound ones, which have to pass."""
    draw, out = random.Random(seed), root / "out"
    guided = _guided(root)
    plain, keeper = _plain(root, guided), tiny_keeper(root, 2)
    image, aseg = freesurfer(root / "subjects")
    views = [write_view(root / name, number, cases="a") for number, name in enumerate(("one", "two", "three"))]
    final, labels = "fold_0/checkpoint_final.pth", views[0]
    features = [
        "features",
        "-i",
        folder_of(OLD / "scan.nii.gz", root / "scans"),
        "-m",
        plain,
        "-o",
        out,
        "-device",
        "cpu",
    ]
    init = ["init", "-m", plain, "-f", "0", "--keeper", keeper, "-o", out / "init.pth"]
    mean = ["aggregate-views", "-i", *views, "-o", out, "-np", "1"]
    converted = ["convert", "freesurfer", "-i", root / "subjects", "-o", out / "Dataset304_Aseg"]
    check = ["check-input", "-i", OLD / "scan.nii.gz", "-m", guided, "-device", "cpu"]
    compare = ["compare", "-m", guided, plain, "-ref", OLD / "truth", "-o", out, "-np", "1"]
    volumes = ["volumes", "-i", labels, "-o", out / "v.csv"]
    own: list[Cut] = [
        ("inspect: a keeper file", keeper, ["inspect", keeper]),
        ("verify: a checkpoint", guided / final, ["verify", guided]),
        ("verify: the plans of a model", guided / "plans.json", ["verify", guided]),
        ("verify: the dataset.json of a model", guided / "dataset.json", ["verify", guided]),
        ("init: the plain model's checkpoint", plain / final, init),
        ("init: the keeper file", keeper, init),
        ("aggregate-views: probabilities", views[1] / "a.npz", mean),
        ("aggregate-views: a segmentation", views[0] / "a.nii.gz", mean),
        ("aggregate-views: dataset.json", views[2] / "dataset.json", mean),
        ("convert freesurfer: an image", image, converted),
        ("convert freesurfer: labels", aseg, converted),
        ("inspect: a model's checkpoint", guided / final, ["inspect", guided]),
        ("check-input: a model's checkpoint", guided / final, check),
        ("features: a model's checkpoint", plain / final, features),
        ("compare: the plans of a model", guided / "plans.json", compare),
        ("compare: the dataset.json of a model", guided / "dataset.json", compare),
        ("compare: a prediction", guided / "fold_0/validation/case_00.nii.gz", compare),
        ("volumes: the dataset.json", labels / "dataset.json", volumes),
        ("bids: the dataset.json", labels / "dataset.json", ["bids", "-i", labels, "-o", out]),
    ]
    with finished(root, out) as further:
        for what, path, arguments in [*own, *further]:
            yield _cut(what, path, [str(word) for word in arguments], out, times, draw, sound=sound)


def _cut(
    what: str, path: Path, arguments: list[str], out: Path, times: int, draw: random.Random, *, sound: bool
) -> Fault:
    fault = Fault(f"{what} cut short", "one line, no result of it; or the same")
    content, whole = path.read_bytes(), None
    end = len(content) - (BLANKS if path.suffix == ".json" else 0)
    if sound:
        whole = _whole(fault, arguments, out)
    for _ in range(times):
        shutil.rmtree(out, ignore_errors=True)
        length = draw.randrange(end)
        path.write_bytes(content[:length])
        outcome, note = of_command(arguments, produced=lambda: _written(out))
        if outcome == "one line" and _written(out):
            outcome = "wrong"
        found = _results(out)
        if outcome == "wrong" and found:  # plans.json is made again from a checkpoint
            path.write_bytes(content)
            whole = _whole(fault, arguments, out) if whole is None else whole
            outcome = "right" if found == whole else "wrong"
        fault.saw(outcome, f"{length} bytes: {note}")
    path.write_bytes(content)
    return fault


def _whole(fault: Fault, arguments: list[str], out: Path) -> dict[str, str]:
    """What the verb writes of sound files."""
    shutil.rmtree(out, ignore_errors=True)
    outcome, note = of_command(arguments, produced=lambda: True)
    if not (outcome == "wrong" and note.startswith("status 0,")):
        fault.saw("wrong", f"a sound input is refused: {note}")
    return _results(out)


def _results(out: Path) -> dict[str, str]:
    """Hashes of images, keeper files and tables."""
    return {str(path.relative_to(out)): file_sha256(path) for path in out.rglob("*") if path.suffix in RESULTS}


def _written(out: Path) -> bool:
    return any(path.is_file() for path in out.rglob("*"))
