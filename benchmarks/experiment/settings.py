"""Of `run.py`: tasks, severities of the low field, the numbers that decide what is computed, and where files lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiment.conditions import BOTH, HIGH, LOW, PAIRS, Condition
from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.presets import DEFAULT_PRESET
from nnunet_uhf.nnunet.labels import side_and_name, tells_sides_apart

PLANS = "nnUNetPlans_experiment"
MASKED_TRAINER = "nnUNetTrainerMasked_experiment"
CONFIGURATION = "2d"
DEEP_GREY = ("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens")
"""Words in the names of structures that make the task deep_grey: small, deep, alike in low field."""
OF_REGIONS = ("deep_grey", "structure")
"""Tasks made of the labels of `region`: small nuclei alone, and every structure with both of its sides as one."""
SEEDS = 20
"""Seeds for which splits are written; a run may use any of them."""
HIGH_FIELD = "high"
WIDE_DRAWS = 6
"""Low-field images of each keeper subject, from mild to severe, for one clean target."""


@dataclass(frozen=True)
class Severity:
    """How low the field is.

    Attributes:
        ratio: slice thickness plus gap in voxels.
        noise: in multiples of the preset's.
        bias: strength of the bias field, 0 to 1.
        crop: largest share of k-space that a scan lacks in the plane, 0 to 0.9.
    """

    ratio: int
    noise: float
    bias: float = 0.0
    crop: float = 0.0

    @property
    def name(self) -> str:
        """As in file names."""
        return f"r{self.ratio}n{self.noise:g}{_part('b', self.bias)}{_part('c', self.crop)}"

    @property
    def options(self) -> tuple[str, ...]:
        """Of `nnunet-uhf simulate`."""
        extras = (("--bias-field", self.bias), ("--kspace-crop", self.crop))
        return (
            "--ratio", str(self.ratio), "--noise-scale", str(self.noise),
            *(word for option, value in extras if value for word in (option, str(value))),
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> Severity:
        """``3:4`` -> ratio 3, noise 4; ``3:4:0.3:0.5`` -> with a bias field of 0.3 and a crop of up to half."""
        ratio, *further = text.split(":")
        try:
            numbers = [float(part) for part in further]
            if not 1 <= len(numbers) <= 3:
                raise ValueError
            return cls(int(ratio), *numbers)
        except ValueError:
            raise UHFError(f"severity {text!r} is not RATIO:NOISE[:BIAS[:CROP]] such as 3:4 or 3:4:0.3:0.5") from None


def _part(letter: str, value: float) -> str:
    return f"{letter}{value:g}" if value else ""


@dataclass(frozen=True)
class Task:
    """A segmentation task: folders of images and labels in the data, and what the simulation takes tissues from.

    `whole`: no voxel is zero, so the simulation is told that all of the image is tissue. `chosen`: of the stored label
    values those that are meant, and what they are in the task; the others are background. Empty: all of them.
    """

    images: str
    labels: str
    names: dict[str, int]
    tissues: tuple[str, ...]
    whole: bool = False
    chosen: Mapping[int, int] = field(default_factory=dict)

    @property
    def mirrored(self) -> bool:
        """Whether its images may be mirrored: not where names tell left from right."""
        return not tells_sides_apart(self.names)


def find_task(name: str, data: Path) -> Task:
    """`tissue`, `region`, OF_REGIONS of ixi_hh_2mm, `hippocampus` of msd_hippocampus; UHFError for another name."""
    if name == "hippocampus":
        # no tissue labels: three Gaussians in the crop
        return Task(
            "images", "labels", {"background": 0, "anterior": 1, "posterior": 2}, ("--tissues", "gmm"), whole=True
        )
    stored = "region" if name in OF_REGIONS else name
    try:
        names = json.loads((data / "labels.json").read_text())[stored]
    except (OSError, KeyError) as error:
        raise UHFError(
            f"{data} has no task {name!r}: use tissue, region, {' or '.join(OF_REGIONS)} with ixi_hh_2mm, hippocampus "
            "with msd_hippocampus"
        ) from error
    tissues = ("--labels", str(data / "labels_tissue"))
    if name not in OF_REGIONS:
        return Task("images", f"labels_{name}", names, tissues)
    if name == "deep_grey":
        called = {each: each for each in names if any(part in each.lower() for part in DEEP_GREY)}
    else:
        called = {each: side_and_name(each)[1] for each, value in names.items() if value}
    numbered = {"background": 0, **{each: n for n, each in enumerate(dict.fromkeys(called.values()), start=1)}}
    chosen = {names[each]: numbered[structure] for each, structure in called.items()}
    return Task("images", f"labels_{stored}", numbered, tissues, chosen=chosen)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers that decide what is computed; an output folder belongs to one set of them."""

    task: str
    keeper_subjects: int
    pool: int
    test_subjects: int
    labels: tuple[int, ...]
    trained: Severity
    tests: tuple[Severity, ...]
    draws: int
    epochs: int
    iterations: int
    learning_rate: float
    pretraining_epochs: int
    batch: int
    features: tuple[int, ...]
    keeper_features: int
    keeper: str
    same_field_keeper: str
    keeper_preset: str = DEFAULT_PRESET
    lane: str = "nnunet"
    wide_draws: int = WIDE_DRAWS
    keeper_seed: int = 0

    def stored(self) -> dict[str, Any]:
        """As a run's folder keeps them: what a version before did not know is left out while it is as it was then."""
        before = {name: getattr(Settings, name) for name in ("wide_draws", "keeper_seed")}
        kept = {name: value for name, value in asdict(self).items() if (name, value) not in before.items()}
        for severity in (kept["trained"], *kept["tests"]):
            for name in ("bias", "crop"):
                if not severity[name]:
                    del severity[name]
        return kept

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that are planned; without pairs where a keeper is given."""
        return (LOW, HIGH, BOTH) if self.keeper else (PAIRS, LOW, HIGH, BOTH)

    @property
    def tested_low(self) -> list[str]:
        """Names of the severities of low-field test images."""
        return [severity.name for severity in self.tests]

    def tested(self, dataset: str) -> list[str]:
        """Names of the severities a model of LOW or HIGH is tested at; the latter at high field, too."""
        return [*self.tested_low, *([HIGH_FIELD] if dataset == HIGH else [])]

    def fold(self, condition: Condition, labels: int, seed: int) -> int:
        """Number of the fold of a label count and a seed; those of draws, or of everybody, come behind the others."""
        return (seed + SEEDS * (condition.draws or condition.everybody)) * len(self.labels) + self.labels.index(labels)

    @property
    def keeper_fold(self) -> int:
        """Number of the fold of LOW that has the keeper's subjects alone, behind all others."""
        return 2 * SEEDS * len(self.labels)


@dataclass(frozen=True)
class Places:
    """Folders of one run."""

    data: Path
    out: Path

    def images(self, kind: str) -> Path:
        """Images of one kind: `high`, or the name of a severity."""
        return self.out / "images" / kind

    def labels(self, task: Task) -> Path:
        """True label maps of a task: those of the data, or, where it means some of the labels alone, of this run."""
        return self.out / "labels" if task.chosen else self.data / task.labels

    @property
    def masks(self) -> Path:
        """Masks of whole images, for tasks that need them."""
        return self.out / "masks"

    def test_images(self, dataset: str) -> Path:
        """What a model of LOW or HIGH is tested on, as nnU-Net names images: CASE_SEVERITY_0000.nii.gz."""
        return self.out / "test_images" / dataset

    @property
    def masked(self) -> Path:
        """Checkpoint of the masked autoencoder is below this model folder."""
        return self.out / "nnUNet_results" / LOW / f"{MASKED_TRAINER}__{PLANS}__{CONFIGURATION}"

    @property
    def teacher(self) -> Path:
        """Model folder of the high-field teacher."""
        return self.out / "nnUNet_results" / PAIRS / f"UHFTeacherTrainer_experiment__{PLANS}__{CONFIGURATION}"

    def keeper(self, name: str) -> Path:
        """A keeper file."""
        return self.out / "keepers" / f"{name}.safetensors"

    def pseudo(self, source: str, labels: int, seed: int) -> Path:
        """Where keeper subjects have the labels that the model of a condition gives them."""
        return self.out / "pseudo_labels" / source / f"labels_{labels}" / f"seed_{seed}"

    def results(self, condition: str, seed: int) -> Path:
        """nnUNet_results of one condition and seed: keepers and presets never share a model folder."""
        return self.out / "nnUNet_results" / condition / f"seed_{seed}"

    def prediction(self, condition: str, labels: int, seed: int) -> Path:
        """Predicted label maps."""
        return self.out / "predictions" / condition / f"labels_{labels}" / f"seed_{seed}"
