from __future__ import annotations

import pytest
import torch

from nnunet_uhf.trainers.distillation.teacher import early_look, fitted_patch_psnr


def test_the_input_is_measured_after_the_best_straight_line() -> None:
    truth = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    measured = fitted_patch_psnr(truth, 5 - 3 * (truth + noise))
    assert measured == pytest.approx(fitted_patch_psnr(truth, truth + noise), abs=1e-3)
    assert measured == pytest.approx(20, abs=1.5)  # noise of a tenth of the range
    assert fitted_patch_psnr(truth, truth + 1e-4) > 60


def test_the_look_says_what_is_missing_or_that_nothing_is() -> None:
    assert "1.5 dB are missing" in early_look(20.0, 22.5)
    assert "good enough" in early_look(21.5, 22.5)
