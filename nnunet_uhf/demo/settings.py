"""What a demo is made of: numbers of subjects, grid, network sizes, names and folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import ModelFolder

CONFIGURATIONS = ("2d", "3d_fullres")
"""What a demo can train, the cheaper one first."""
PAIRS_ID, TISSUES_ID = 1, 2
PAIRS, TISSUES_DATASET = "Dataset001_PhantomPairs", "Dataset002_PhantomTissues"
PLANNED, PLANS = "nnUNetPlans", "nnUNetPlans_demo"
PLAIN, RANDOM, GUIDED = "nnUNetTrainer_{suffix}", "UHFTrainerRandomKeeper_{suffix}", "UHFTrainer_{suffix}"
TEACHER, KEEPER = "UHFTeacherTrainer_{suffix}", "UHFKeeperTrainer_{suffix}"
FOLD = "0"
MODELS = ("plain", "random", "guided")
"""Plain nnU-Net, guided by a keeper that has learnt nothing, guided."""
MODEL_TRAINERS = {"plain": PLAIN, "random": RANDOM, "guided": GUIDED}
NAMES = {"plain": "plain nnU-Net", "random": "guided by a random keeper", "guided": "guided nnU-Net"}
SOURCE_FIELD_T, TARGET_FIELD_T = 0.36, 3.0


@dataclass(frozen=True)
class DemoSettings:
    """The choices that decide what a demo computes; a demo folder belongs to one set of them."""

    subjects: int = 12
    held_out: int = 4
    shape: tuple[int, int, int] = (48, 56, 48)
    spacing_mm: float = 3.5
    configurations: tuple[str, ...] = CONFIGURATIONS[:1]
    """Some of `CONFIGURATIONS`, in their order."""
    keeper_features: int = 8
    """Base features of teacher and keeper."""
    features: Mapping[str, int] = field(default_factory=lambda: {"2d": 8, "3d_fullres": 8})
    """Features of the segmentation network's first stage, by configuration."""
    batch: Mapping[str, int] = field(default_factory=lambda: {"2d": 6, "3d_fullres": 2})
    patch_part: Mapping[str, float] = field(default_factory=lambda: {"2d": 0.8, "3d_fullres": 0.65})
    """Size of a patch as a part of the median image's, rounded down to whole steps of the network's last stage."""
    keeper_kernel: int = 3
    """Kernel of the keeper; the paper's is 7, which takes minutes more on a CPU."""
    stages: int = 4
    """Resolution stages of the segmentation network."""
    ratio: int = 3
    """Slice thickness plus gap of the simulated low-field image, in voxels of the high-field one."""
    noise_scale: float = 4.0
    """Noise of the low-field image in multiples of the preset's: the preset's leaves little to improve."""
    trainers: str = "demo"
    """Suffix of the trainer classes: it says how long they train."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UHFError for numbers that no demo can be made of."""
        if self.held_out < 1 or self.subjects - self.held_out < 5:
            raise UHFError(
                f"{self.subjects} subjects with {self.held_out} held out leave fewer than the 5 that nnU-Net's "
                "five-fold split needs: ask for more subjects"
            )
        known = tuple(name for name in CONFIGURATIONS if name in self.configurations)
        if not known or set(known) != set(self.configurations):
            raise UHFError(
                f"-c {' '.join(self.configurations)}: the demo trains {', '.join(CONFIGURATIONS)}; choose of these"
            )
        object.__setattr__(self, "configurations", known)

    @property
    def names(self) -> list[str]:
        """Case identifiers; the last `held_out` of them are never trained on."""
        return [f"phantom_{number:02d}" for number in range(1, self.subjects + 1)]

    @property
    def training(self) -> list[str]:
        """Cases of both raw datasets; nnU-Net splits them into folds."""
        return self.names[: -self.held_out]

    @property
    def test(self) -> list[str]:
        """Cases that are only predicted."""
        return self.names[-self.held_out :]

    @property
    def shown(self) -> str:
        """The configuration whose images and segmentations the page shows."""
        return self.configurations[-1]

    def trainer(self, pattern: str) -> str:
        """Name of one of the trainer classes."""
        return pattern.format(suffix=self.trainers)

    def as_json(self) -> dict[str, Any]:
        """What identifies the settings in a demo folder."""
        return asdict(self)


@dataclass(frozen=True)
class Folders:
    """Where things lie in a demo folder."""

    out: Path

    @property
    def raw(self) -> Path:
        """nnU-Net's raw datasets."""
        return self.out / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's preprocessed datasets and plans."""
        return self.out / "nnUNet_preprocessed"

    @property
    def results(self) -> Path:
        """nnU-Net's model folders."""
        return self.out / "nnUNet_results"

    @property
    def keepers(self) -> Path:
        """Keeper files; nnUNet_UHF_KKN of the guided trainings."""
        return self.out / "keepers"

    @property
    def logs(self) -> Path:
        """Output of the commands, one file per stage."""
        return self.out / "logs"

    def phantoms(self, kind: str) -> Path:
        """Folder of the made images: high_field, low_field or labels."""
        return self.out / "phantoms" / kind

    @property
    def test_images(self) -> Path:
        """Low-field images of the held-out subjects."""
        return self.raw / TISSUES_DATASET / "imagesTs"

    @property
    def test_labels(self) -> Path:
        """True labels of the held-out subjects, where nnU-Net's evaluation finds them."""
        return self.raw / TISSUES_DATASET / "labelsTs"

    def keeper(self, configuration: str) -> Path:
        """The keeper file of a configuration."""
        return self.keepers / f"keeper_{configuration}.safetensors"

    def prediction(self, model: str, configuration: str) -> Path:
        """Predicted label maps."""
        return self.out / "predictions" / f"{model}_{configuration}"

    def comparison(self, configuration: str) -> Path:
        """What `nnunet-uhf compare` writes of the models of a configuration."""
        return self.out / "compare" / configuration

    def enhanced(self, configuration: str) -> Path:
        """Enhanced images of the held-out subjects."""
        return self.out / "enhanced" / configuration

    def model(self, dataset: str, trainer: str, configuration: str) -> ModelFolder:
        """nnU-Net's model folder."""
        return ModelFolder.of(dataset, trainer, PLANS, configuration, results=self.results)
