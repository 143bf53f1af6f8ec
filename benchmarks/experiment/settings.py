"""What `run.py` compares: tasks, severities of the low field, conditions, and where files lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_uhf.errors import UHFError
from nnunet_uhf.networks.presets import DEFAULT_PRESET
from nnunet_uhf.nnunet.labels import tells_sides_apart

PAIRS, LOW, HIGH = "Dataset201_ExperimentPairs", "Dataset202_ExperimentLow", "Dataset203_ExperimentHigh"
BOTH, LABELLED_PAIRS = "Dataset204_ExperimentBoth", "Dataset205_ExperimentLabelledPairs"
PLANS = "nnUNetPlans_experiment"
CONFIGURATION = "2d"
DEEP_GREY = ("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala", "accumbens")
"""Words in the names of structures that make the task deep_grey: small, deep, alike in low field."""
SEEDS = 20
"""Seeds for which splits are written; a run may use any of them."""
HIGH_FIELD = "high"


@dataclass(frozen=True)
class Severity:
    """How low the field is: slice thickness plus gap in voxels, and the noise in multiples of the preset's."""

    ratio: int
    noise: float

    @property
    def name(self) -> str:
        """As in file names."""
        return f"r{self.ratio}n{self.noise:g}"

    @classmethod
    def parse(cls, text: str) -> Severity:
        """``3:4`` -> ratio 3, noise 4."""
        ratio, _, noise = text.partition(":")
        try:
            return cls(int(ratio), float(noise))
        except ValueError:
            raise UHFError(f"severity {text!r} is not RATIO:NOISE such as 3:4") from None


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
    """`tissue`, `region` and `deep_grey` of ixi_hh_2mm, `hippocampus` of msd_hippocampus; UHFError for another name."""
    if name == "hippocampus":
        # no tissue labels: three Gaussians in the crop
        return Task(
            "images", "labels", {"background": 0, "anterior": 1, "posterior": 2}, ("--tissues", "gmm"), whole=True
        )
    try:
        stored = "region" if name == "deep_grey" else name
        names = json.loads((data / "labels.json").read_text())[stored]
    except (OSError, KeyError) as error:
        raise UHFError(
            f"{data} has no task {name!r}: use tissue, region or deep_grey with ixi_hh_2mm, hippocampus with "
            "msd_hippocampus"
        ) from error
    tissues = ("--labels", str(data / "labels_tissue"))
    if name != "deep_grey":
        return Task("images", f"labels_{name}", names, tissues)
    meant = {each: value for each, value in names.items() if any(part in each.lower() for part in DEEP_GREY)}
    numbered = {"background": 0, **{each: number for number, each in enumerate(meant, start=1)}}
    return Task(
        "images", f"labels_{stored}", numbered, tissues, chosen={value: numbered[each] for each, value in meant.items()}
    )


@dataclass(frozen=True)
class Condition:
    """One way to train.

    Attributes:
        trainer: class of `experiment_trainers`.
        keeper: file under `keepers/` that guides it, none for plain nnU-Net.
        dataset: LOW (labels on low-field images), HIGH (labels on high-field images) or BOTH (low- and high-field
            image of a labelled subject as two channels).
        draws: of HIGH, whether it trains on simulated low-field images of the labelled ones in their place.
        variables: further environment.
        everybody: the labels of all keeper subjects beside the few.
        teacher: the pretrained teacher itself gives the guides.
    """

    trainer: str
    keeper: str | None = None
    dataset: str = LOW
    draws: bool = False
    variables: tuple[tuple[str, str], ...] = ()
    everybody: bool = False
    teacher: bool = False


HF_KEEPER, SAME_KEEPER = "high_field", "same_field"
SEGMENTED_KEEPER, LABELS_KEEPER = "segmented", "labels_only"
"""Of a teacher that segments high-field images, and of one that segments low-field images with the same labels."""
CONDITIONS = {
    "plain": Condition("nnUNetTrainer_experiment"),
    # gates: what there is to gain at all, see gates.py
    "low_all": Condition("nnUNetTrainer_experiment", everybody=True),
    "true_guides": Condition("UHFTrainerTrueGuides_experiment", HF_KEEPER, dataset=BOTH, teacher=True),
    "guided": Condition("UHFTrainer_experiment", HF_KEEPER),
    "same_field": Condition("UHFTrainer_experiment", SAME_KEEPER),
    "segmented": Condition("UHFTrainer_experiment", SEGMENTED_KEEPER),
    "labels_only": Condition("UHFTrainer_experiment", LABELS_KEEPER),
    "random": Condition("UHFTrainerRandomKeeper_experiment", HF_KEEPER),
    "zero": Condition("UHFTrainerZeroGuide_experiment", HF_KEEPER),
    "trainable": Condition("UHFTrainerTrainableKeeper_experiment", HF_KEEPER),
    "unfrozen": Condition("UHFTrainerUnfrozenKeeper_experiment", HF_KEEPER),
    "enhanced_input": Condition("UHFTrainerEnhancedInput_experiment", HF_KEEPER),
    "light": Condition("UHFTrainer_experiment", HF_KEEPER, variables=(("nnUNet_UHF_PRESET", "light"),)),
    "efficient": Condition("UHFTrainer_experiment", HF_KEEPER, variables=(("nnUNet_UHF_PRESET", "efficient"),)),
    # labels on high-field images alone
    "high_plain": Condition("nnUNetTrainer_experiment", dataset=HIGH),
    "high_simulated": Condition("nnUNetTrainer_experiment", dataset=HIGH, draws=True),
    "high_guided": Condition("UHFTrainer_experiment", HF_KEEPER, dataset=HIGH, draws=True),
    "high_same_field": Condition("UHFTrainer_experiment", SAME_KEEPER, dataset=HIGH, draws=True),
}
BASELINES = dict.fromkeys(("high_guided", "high_same_field", "high_plain"), "high_simulated")
"""What a condition is held against, where it is not `plain`."""


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
    def teacher(self) -> Path:
        """Model folder of the high-field teacher."""
        return self.out / "nnUNet_results" / PAIRS / f"UHFTeacherTrainer_experiment__{PLANS}__{CONFIGURATION}"

    def keeper(self, name: str) -> Path:
        """A keeper file."""
        return self.out / "keepers" / f"{name}.safetensors"

    def results(self, condition: str, seed: int) -> Path:
        """nnUNet_results of one condition and seed: keepers and presets never share a model folder."""
        return self.out / "nnUNet_results" / condition / f"seed_{seed}"

    def prediction(self, condition: str, labels: int, seed: int) -> Path:
        """Predicted label maps."""
        return self.out / "predictions" / condition / f"labels_{labels}" / f"seed_{seed}"
