"""How long the demo's trainers train; read by the trainers and by the demo's progress bars."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Length of a training: nnU-Net's own is 1000 epochs of 250 iterations."""

    epochs: int
    iterations: int
    """Training iterations of one epoch."""
    val_iterations: int = 4


# By the name of the trainer class.
LENGTHS = {
    "UHFTeacherTrainer_demo": Length(epochs=10, iterations=25),
    "UHFKeeperTrainer_demo": Length(epochs=10, iterations=25),
    "nnUNetTrainer_demo": Length(epochs=10, iterations=25),
    "UHFTrainer_demo": Length(epochs=10, iterations=25),
}
