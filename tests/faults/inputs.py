"""Bad images in every verb that reads images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np

from faults.datasets import Commands, layouts
from faults.tally import Fault, of_command
from faults.translating import translating
from helpers.bad_images import EDITS, write_bad_image
from helpers.known_keepers import knowing
from helpers.workspace import environment

SIZE = 24


def _image(path: Path, *, labels: bool = False, numbers: tuple[int, int, int] = (1, 2, 3)) -> Path:
    draw = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
    radius = np.linalg.norm(grid - SIZE / 2, axis=0)
    tissue = np.select([radius < 4, radius < 7, radius < 10], numbers[::-1], 0)
    data = tissue.astype(np.uint8) if labels else (tissue * 40 + draw.random(tissue.shape) * 9) * (tissue > 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data if labels else data.astype(np.float32), np.eye(4)), path)
    return path


class Verbs:
    """The verbs, each with the folder whose one image is spoilt."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("images", "others", "given"):
            _image(root / name / "case.nii.gz")
        for name in ("labels", "truth", "second"):
            _image(root / name / "case.nii.gz", labels=True)
        # FreeSurfer's numbers of ventricle, cortex and white matter
        _image(root / "segmented" / "case.nii.gz", labels=True, numbers=(4, 3, 2))
        names = json.dumps({"labels": {"background": 0, "CSF": 1, "GM": 2, "WM": 3}, "file_ending": ".nii.gz"})
        for name in ("labels", "truth", "second"):
            (root / name / "dataset.json").write_text(names)
        raw = root / "Dataset301_Raw"
        _image(raw / "imagesTr" / "case_0000.nii.gz")
        _image(raw / "labelsTr" / "case.nii.gz", labels=True)
        labels = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}
        content = {"channel_names": {"0": "LF"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
        (raw / "dataset.json").write_text(json.dumps(content))
        self.keeper = knowing(root / "keeper", 2)
        self.further = {
            **layouts(root, _image, str(root / "out")),
            **translating(root, _image, str(root / "out")),
        }

    def commands(self) -> Commands:
        """By verb: the spoilt file, and the arguments."""
        at = {
            name: str(self.root / name)
            for name in ("images", "others", "given", "labels", "truth", "second", "segmented", "out", "Dataset301_Raw")
        }
        pairs = [
            "-o",
            at["out"] + "/Dataset302_Pairs",
            "--field-lf",
            "0.3",
            "--field-hf",
            "3",
            "--registration",
            "none",
        ]
        simulated = ["simulate", "-i", at["images"], "-o", at["out"], "--preset", "t1w_0.36T_probable"]
        evaluated = ["evaluate-images", "-ref", at["others"], "-pred", at["images"], "-o", at["out"]]
        unpaired = [*evaluated, "--unpaired", "-input", at["given"]]
        return {
            "enhance": (
                "images/case.nii.gz",
                ["enhance", "-i", at["images"], "-o", at["out"], "-m", str(self.keeper), "-device", "cpu"],
            ),
            "features": (
                "images/case.nii.gz",
                ["features", "-i", at["images"], "-o", at["out"], "-m", str(self.keeper), "-device", "cpu"],
            ),
            "check-input": (
                "images/case.nii.gz",
                ["check-input", "-i", at["images"], "-m", str(self.keeper), "-device", "cpu"],
            ),
            "simulate, image": ("images/case.nii.gz", [*simulated, "--labels", at["labels"]]),
            "simulate, labels": ("labels/case.nii.gz", [*simulated, "--labels", at["labels"]]),
            "normalise": ("images/case.nii.gz", ["normalise", "-i", at["images"], "-o", at["out"]]),
            "evaluate-images, image": ("images/case.nii.gz", evaluated),
            "evaluate-images, reference": ("others/case.nii.gz", evaluated),
            "evaluate-images, mask": ("labels/case.nii.gz", [*evaluated, "-mask", at["labels"]]),
            "evaluate-images --unpaired, image": ("images/case.nii.gz", unpaired),
            "evaluate-images --unpaired, reference": ("others/case.nii.gz", unpaired),
            "evaluate-images --unpaired, input": ("given/case.nii.gz", unpaired),
            "evaluate-images --unpaired, mask": ("labels/case.nii.gz", [*unpaired, "-mask", at["labels"]]),
            "bids": ("labels/case.nii.gz", ["bids", "-i", at["labels"], "-o", at["out"]]),
            "volumes": ("labels/case.nii.gz", ["volumes", "-i", at["labels"], "-o", at["out"] + "/volumes.csv"]),
            "synthesise": (
                "segmented/case.nii.gz",
                ["synthesise", "-i", at["segmented"], "-o", at["out"], "--field", "3"],
            ),
            "convert paired": (
                "images/case.nii.gz",
                ["convert", "paired", "--lf", at["images"], "--hf", at["others"], *pairs],
            ),
            "compare": (
                "labels/case.nii.gz",
                ["compare", "-pred", at["labels"], at["second"], "-ref", at["truth"], "-o", at["out"], "-np", "1"],
            ),
            "qc, image": (
                "Dataset301_Raw/imagesTr/case_0000.nii.gz",
                ["qc", "-i", at["Dataset301_Raw"], "-o", at["out"]],
            ),
            "qc, labels": ("Dataset301_Raw/labelsTr/case.nii.gz", ["qc", "-i", at["Dataset301_Raw"], "-o", at["out"]]),
            **self.further,
        }


def bad_inputs(root: Path, *, every: int = 1, sound: bool = True) -> Iterator[Fault]:
    """Each verb on each kind of bad image, or on every so-many-th; before that on a sound one, which has to pass."""
    verbs = Verbs(root)
    out = root / "out"
    with environment(nnUNet_raw=str(root / "raw")):
        yield from _spoilt(verbs, out, every, sound=sound)


def _spoilt(verbs: Verbs, out: Path, every: int, *, sound: bool) -> Iterator[Fault]:
    for index, (verb, (name, arguments)) in enumerate(verbs.commands().items()):
        fault = Fault(f"{verb}: a bad file", "one line, no result of it")
        spoilt = verbs.root / name
        kept = spoilt.read_bytes()
        produced: Callable[[], bool] = lambda: any(out.rglob("*.nii*"))  # noqa: E731
        shutil.rmtree(out, ignore_errors=True)
        refused, note = _refused(arguments) if sound else (False, "")
        if refused:
            fault.saw("wrong", f"a sound input is refused: {note}")
        for number, wrong in enumerate(EDITS):
            if (number + index) % every:
                continue
            shutil.rmtree(out, ignore_errors=True)
            write_bad_image(spoilt, wrong, size=SIZE)
            outcome, note = of_command(arguments, produced=produced)
            fault.saw("wrong" if outcome == "one line" and produced() else outcome, f"{wrong}: {note}")
        spoilt.write_bytes(kept)
        yield fault


def _refused(arguments: list[str]) -> tuple[bool, str]:
    outcome, note = of_command(arguments, produced=lambda: True)
    return not (outcome == "wrong" and note.startswith("status 0,")), note
