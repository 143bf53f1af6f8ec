"""The position-aware gate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from helpers.network_contract import wake
from nnunet_uhf.networks.distillation.gate import PositionAwareGate, unravel

NON_CUBIC = [(5, 7), (3, 4, 6)]


def literal_gate(gate: PositionAwareGate, x: torch.Tensor) -> torch.Tensor:
    """The paper's formula, voxel by voxel in numpy."""
    values = x.double().numpy()
    theta = gate.theta.detach().double().numpy()
    scale = torch.nn.functional.softplus(gate.raw_scale.detach()).item()
    a, b = gate.peak_weight.item(), gate.mean_weight.item()
    out = np.empty_like(values)
    for sample, features in enumerate(values):
        size = features.shape[1:]
        peak = np.unravel_index(features.sum(axis=0).argmax(), size)
        strongest, mean = features[(slice(None), *peak)], features.reshape(len(features), -1).mean(axis=1)
        similarity = np.empty(size)
        for p in np.ndindex(*size):
            distance = np.abs(np.array(p) - np.array(peak)) * theta
            prior = norm.pdf(distance, 0.0, scale).mean()
            here = features[(slice(None), *p)]
            similarity[p] = a * (strongest @ here) * prior + b * (mean @ here)
        standard = (similarity - similarity.mean()) / (similarity.std(ddof=1) + 1e-5)
        out[sample] = features / (1 + np.exp(-(gate.slope.item() * standard + gate.offset.item())))
    return torch.from_numpy(out).to(x.dtype)


@pytest.mark.parametrize("size", NON_CUBIC)
def test_unravel_equals_numpy_on_every_index(size: tuple[int, ...]) -> None:
    index = torch.arange(int(np.prod(size)))
    expected = np.stack(np.unravel_index(index.numpy(), size), axis=1)
    assert np.array_equal(unravel(index, size).numpy(), expected)


@pytest.mark.parametrize("size", NON_CUBIC)
def test_the_peak_of_every_sample_is_where_numpy_finds_it(size: tuple[int, ...]) -> None:
    x = torch.randn(4, 3, *size)
    found = unravel(PositionAwareGate.peak_index(x), size).numpy()
    for sample in range(4):
        expected = np.unravel_index(x[sample].sum(dim=0).numpy().argmax(), size)
        assert tuple(found[sample]) == tuple(expected)


@pytest.mark.parametrize("size", NON_CUBIC)
def test_the_gate_is_the_papers_formula(size: tuple[int, ...]) -> None:
    gate = PositionAwareGate(dim=len(size))
    wake(gate)
    x = torch.randn(3, 4, *size)
    torch.testing.assert_close(gate(x), literal_gate(gate, x), atol=1e-5, rtol=1e-5)


def test_the_gate_starts_as_a_constant_factor() -> None:
    x = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(PositionAwareGate(dim=2)(x), x * torch.tensor(1.0).sigmoid())


def test_the_scale_of_the_prior_stays_positive() -> None:
    gate = PositionAwareGate(dim=2)
    wake(gate)
    with torch.no_grad():
        gate.raw_scale.fill_(-3.0)
    assert gate(torch.randn(1, 4, 6, 5)).isfinite().all()


def test_the_position_branch_is_removable() -> None:
    without = PositionAwareGate(dim=3, position_branch=False)
    assert set(dict(without.named_parameters())) == {"mean_weight", "slope", "offset"}
    complete = PositionAwareGate(dim=3)
    with torch.no_grad():
        complete.slope.fill_(0.5)
        without.slope.fill_(0.5)
    x = torch.randn(2, 4, 4, 5, 6)
    torch.testing.assert_close(complete(x), without(x))  # a = 0 at the start


def test_a_constant_map_passes_with_finite_gradients() -> None:
    gate = PositionAwareGate(dim=2)
    wake(gate)
    x = torch.ones(1, 4, 6, 5, requires_grad=True)
    gate(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_strong_features_do_not_overflow_half_precision() -> None:
    gate = PositionAwareGate(dim=2)
    wake(gate)
    x = torch.randn(1, 256, 8, 8)
    x[..., 3, 4] = 40.0  # |q|^2 = 409600, beyond the 65504 of float16
    with torch.autocast("cpu", dtype=torch.float16):
        gated = gate(x.half())
    assert gated.isfinite().all()
    torch.testing.assert_close(gated.float(), gate(x), atol=2e-2, rtol=2e-2)
