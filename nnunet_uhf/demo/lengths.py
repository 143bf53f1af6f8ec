"""How long the demo's trainers train; read by the trainers and by the demo's progress bars."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Length of a training: nnU-Net's own is 1000 epochs of 250 iterations."""

    epochs: int
    iterations_2d: int
    """Training iterations of one epoch of a 2d configuration: cheap ones."""
    iterations_3d: int
    """Training iterations of one epoch of a 3d configuration."""
    val_iterations: int = 2


# By the name of the trainer class.
LENGTHS = {
    "UHFTeacherTrainer_demo": Length(epochs=10, iterations_2d=50, iterations_3d=30),
    "UHFKeeperTrainer_demo": Length(epochs=10, iterations_2d=50, iterations_3d=40),
    "nnUNetTrainer_demo": Length(epochs=10, iterations_2d=30, iterations_3d=25),
    "UHFTrainer_demo": Length(epochs=10, iterations_2d=30, iterations_3d=25),
}
