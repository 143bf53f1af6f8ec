"""Curves of progress.png: those of a short training can be seen."""

from __future__ import annotations

from matplotlib.figure import Figure

from nnunet_uhf.trainers.progress import FEW_EPOCHS, draw_losses


def test_a_training_of_one_epoch_shows_its_points_and_a_long_one_lines_alone() -> None:
    for epochs, marker in ((1, "o"), (FEW_EPOCHS, "o"), (FEW_EPOCHS + 1, "None")):
        axes = Figure().subplots()
        draw_losses(axes, {"train_losses": [0.5] * epochs, "val_losses": [0.4] * epochs})
        assert [line.get_marker() for line in axes.lines] == [marker, marker]
        assert all(tick == round(tick) for tick in axes.get_xticks())
