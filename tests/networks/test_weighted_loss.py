"""Median frequency balancing and the weight of borders, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nnunet_uhf.networks.weighted_loss import WeightedCrossEntropy, median_frequency_weights, on_edge


def test_weights_are_the_median_count_over_each_count_and_5_at_most() -> None:
    # median of 1000, 100, 40, 10 is 70
    assert median_frequency_weights([1000, 100, 40, 10]) == pytest.approx([0.07, 0.7, 1.75, 5.0])
    assert median_frequency_weights([8, 0, 4]) == pytest.approx([0.75, 5.0, 1.5])  # absent labels cost most
    with pytest.raises(ValueError, match="no labelled voxel"):
        median_frequency_weights([0, 0])


def test_an_edge_is_where_a_neighbour_along_an_axis_has_another_label() -> None:
    labels = torch.tensor([[[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2]]])
    expected = torch.tensor([[[0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]]], dtype=torch.bool)
    assert torch.equal(on_edge(labels), expected)
    assert not on_edge(torch.ones(2, 3, 4, 5)).any()


def test_edges_in_3d_hold_those_of_the_gradient_that_the_paper_takes() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (6, 7, 8)).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    gradient = np.any([part != 0 for part in np.gradient(labels.astype(float))], axis=0)
    assert np.array_equal(on_edge(torch.from_numpy(labels)[None])[0].numpy(), gradient)


def test_the_loss_is_the_mean_of_weight_times_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, 6, dtype=torch.float64), torch.randint(0, 3, (2, 5, 6))
    weights = [0.5, 1.0, 4.0]
    each = -torch.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    by_hand = (each * (torch.tensor(weights)[labels] + 5.0 * on_edge(labels))).mean()
    loss = WeightedCrossEntropy(weights)
    assert float(loss(logits, labels)) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(loss(logits, labels[:, None])) == pytest.approx(float(by_hand), rel=1e-5)
    plain = WeightedCrossEntropy([1.0, 1.0, 1.0], edge_weight=0.0)
    assert float(plain(logits, labels)) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


def test_voxels_that_are_not_annotated_count_for_nothing() -> None:
    logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 2, 2]])
    loss = WeightedCrossEntropy([1.0, 1.0], edge_weight=0.0, ignore=2)
    assert float(loss(logits, labels)) == pytest.approx(math.log(2))
    assert float(loss(logits, torch.full((1, 4), 2))) == 0.0
    logits = logits.requires_grad_()
    loss(logits, labels).backward()
    assert not logits.grad[..., 2:].any()
