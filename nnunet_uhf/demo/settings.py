"""What a demo is made of: numbers of subjects, grid, network sizes, names and folders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_uhf.errors import UHFError
from nnunet_uhf.nnunet.model_folder import ModelFolder

CONFIGURATIONS = ("2d", "3d_fullres")
PAIRS_ID, TISSUES_ID = 1, 2
PAIRS, TISSUES_DATASET = "Dataset001_PhantomPairs", "Dataset002_PhantomTissues"
PLANNED, PLANS = "nnUNetPlans", "nnUNetPlans_demo"
PLAIN, GUIDED = "nnUNetTrainer_{suffix}", "UHFTrainer_{suffix}"
TEACHER, KEEPER = "UHFTeacherTrainer_{suffix}", "UHFKeeperTrainer_{suffix}"
FOLD = "0"
MODELS = ("plain", "guided")
SOURCE_FIELD_T, TARGET_FIELD_T = 0.36, 3.0


@dataclass(frozen=True)
class DemoSettings:
    """The choices that decide what a demo computes; a demo folder belongs to one set of them."""

    subjects: int = 14
    held_out: int = 4
    shape: tuple[int, int, int] = (48, 56, 48)
    spacing_mm: float = 3.5
    features: int = 12
    """Base features of teacher, keeper and of the segmentation network's first stage."""
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

    def trainer(self, pattern: str) -> str:
        """Name of one of the four trainer classes."""
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
        """Predicted label maps; configuration may be `ensemble`."""
        return self.out / "predictions" / f"{model}_{configuration}"

    def enhanced(self, configuration: str) -> Path:
        """Enhanced images of the held-out subjects."""
        return self.out / "enhanced" / configuration

    def model(self, dataset: str, trainer: str, configuration: str) -> ModelFolder:
        """nnU-Net's model folder."""
        return ModelFolder.of(dataset, trainer, PLANS, configuration, results=self.results)
