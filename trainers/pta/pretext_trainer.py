"""What the trainings share that PTA does beforehand: they end in figures of their own, and in no keeper (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from nnunet_uhf.keepers.training_block import TrainingRole
from nnunet_uhf.trainers.image_to_image.image_trainer import Asked
from nnunet_uhf.trainers.pta.unpaired_trainer import UnpairedTrainer


class PretextTrainer(UnpairedTrainer):
    """A network that trainers of PTA find; no keeper file is made of it, and no image is written."""

    role: ClassVar[TrainingRole] = "pretext"
    learning_rate: ClassVar[float] = 1e-3
    epochs: ClassVar[int] = 100

    def keeper_block(self, asked: Asked) -> None:
        """No keeper file is made of it."""

    def summarise(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`mean`: of every number of every row, which all rows have."""
        names = [name for name in rows[0] if name != "case"]
        mean = {
            name: {key: float(np.mean([row[name][key] for row in rows])) for key in rows[0][name]} for name in names
        }
        return {"metric_per_case": list(rows), "mean": mean}
