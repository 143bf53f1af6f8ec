"""Losses against numbers computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnunet_uhf.networks.distillation.losses import (
    channel_statistics_loss,
    discriminator_loss,
    distillation_loss,
    explained_variance,
    feature_reconstruction_loss,
    teacher_loss,
)
from nnunet_uhf.networks.distillation.teacher import TeacherOutput, UHFTeacher
from nnunet_uhf.networks.distillation.training import DistillationOutput


def test_channel_statistics_equal_a_hand_computed_value() -> None:
    # two channels, two voxels; the channels (1, 5) have mean 3 and deviation 2, (2, 2) have 2 and 0
    guide = torch.tensor([[[[1.0, 2.0]], [[5.0, 2.0]]]])
    # (0, 2) have mean 1 and deviation 1, (4, 10) have 7 and 3
    target = torch.tensor([[[[0.0, 4.0]], [[2.0, 10.0]]]])
    deviations = ((2 - 1) ** 2 + (0 - 3) ** 2) / 2
    means = ((3 - 1) ** 2 + (2 - 7) ** 2) / 2
    assert channel_statistics_loss(guide, target).item() == pytest.approx(deviations + means)


def test_channel_statistics_do_not_see_the_order_of_channels_but_that_of_voxels() -> None:
    guide = torch.randn(2, 6, 4, 5)
    assert channel_statistics_loss(guide, guide[:, torch.randperm(6)]).item() == pytest.approx(0, abs=1e-9)
    assert channel_statistics_loss(guide, guide.flip(2)).item() > 0.1


def test_channel_statistics_are_summed_over_the_batch_on_request() -> None:
    guide, target = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    apart = sum(channel_statistics_loss(g[None], t[None]) for g, t in zip(guide, target, strict=True))
    torch.testing.assert_close(channel_statistics_loss(guide, target, reduction="sum"), apart)
    torch.testing.assert_close(channel_statistics_loss(guide, target), apart / 3)


def test_channel_statistics_have_finite_gradients_where_all_channels_agree() -> None:
    guide = torch.ones(1, 3, 4, 4, requires_grad=True)
    channel_statistics_loss(guide, torch.randn(1, 3, 4, 4)).backward()
    assert guide.grad is not None
    assert guide.grad.isfinite().all()


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction is 'mean' or 'sum'"):
        channel_statistics_loss(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3), reduction="none")


def test_feature_reconstruction_sums_the_levels() -> None:
    features = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2), torch.full((1, 2, 1, 1), 9.0)]
    reconstructed = [torch.full((1, 2, 4, 4), 2.0), torch.full((1, 2, 2, 2), 3.0)]
    assert feature_reconstruction_loss(features, reconstructed).item() == pytest.approx(4 + 9)


@pytest.mark.parametrize("detach_target", [False, True])
def test_the_target_of_feature_reconstruction_can_be_detached(detach_target: bool) -> None:
    features = [torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(1, 2, 2, 2)]
    reconstructed = [torch.randn(1, 2, 4, 4, requires_grad=True)]
    feature_reconstruction_loss(features, reconstructed, detach_target=detach_target).backward()
    assert (features[0].grad is None) == detach_target
    assert reconstructed[0].grad is not None


def test_explained_variance_is_one_for_the_truth_and_zero_for_its_mean() -> None:
    feature = torch.randn(1, 4, 8, 8)
    assert explained_variance(feature, feature).item() == pytest.approx(1)
    assert explained_variance(feature, torch.full_like(feature, 0.3)).item() == pytest.approx(0, abs=1e-6)
    assert explained_variance(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)).isfinite()


def test_the_teachers_loss_is_the_papers_sum() -> None:
    output = TeacherOutput(torch.zeros(1, 1, 4, 4), [torch.zeros(1, 2, 4, 4)] * 2, [torch.full((1, 2, 4, 4), 2.0)])
    terms = teacher_loss(output, torch.full((1, 1, 4, 4), 0.25))
    assert {name: term.item() for name, term in terms.items()} == {"image": 25.0, "reconstruction": 4.0}


def scores(real: float, fake: float) -> dict[str, Tensor]:
    shape = (2, 1, 3, 3)
    made, fooled = torch.full(shape, real), torch.full(shape, fake)
    return {"real_score": made, "fake_score": fooled, "generator_score": fooled}


def test_the_keepers_loss_is_the_papers_sum() -> None:
    guides, targets = [torch.full((1, 2, 4, 4), 3.0)] * 5, [torch.full((1, 2, 4, 4), 1.0)] * 5
    output = DistillationOutput(torch.zeros(1, 1, 4, 4), guides, targets, **scores(0.5, 0.25))
    terms = distillation_loss(output, torch.full((1, 1, 4, 4), -0.5))
    expected = {"features": 5 * 4.0, "statistics": 5 * 4.0, "image": 50.0, "adversarial": 0.5 * 0.75**2}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected)


def test_the_discriminators_loss_is_least_squares() -> None:
    output = DistillationOutput(torch.zeros(1), [], [], **scores(0.5, 0.25))
    assert discriminator_loss(output)["discriminator"].item() == pytest.approx(0.5 * (0.25 + 0.0625))


def test_every_term_can_be_given_another_weight_and_those_not_named_keep_the_papers() -> None:
    taught = TeacherOutput(torch.zeros(1, 1, 4, 4), [torch.zeros(1, 2, 4, 4)] * 2, [torch.full((1, 2, 4, 4), 2.0)])
    image = torch.full((1, 1, 4, 4), 0.25)
    terms = teacher_loss(taught, image, weights={"reconstruction": 0.5})
    assert {name: term.item() for name, term in terms.items()} == {"image": 25.0, "reconstruction": 2.0}
    guides, targets = [torch.full((1, 2, 4, 4), 3.0)] * 5, [torch.full((1, 2, 4, 4), 1.0)] * 5
    output = DistillationOutput(torch.zeros(1, 1, 4, 4), guides, targets, **scores(0.5, 0.25))
    weights = {"features": 2.0, "statistics": 0.0, "image": 10.0, "discriminator": 7.0}
    terms = distillation_loss(output, image, weights=weights)
    expected = {"features": 2 * 5 * 4.0, "statistics": 0.0, "image": 2.5, "adversarial": 0.5 * 0.75**2}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected)
    judged = discriminator_loss(output, weights=weights)
    assert judged["discriminator"].item() == pytest.approx(7 * (0.25 + 0.0625))


def test_a_perfect_copy_costs_nothing() -> None:
    image = torch.randn(1, 1, 32, 32)
    maps = UHFTeacher(dim=2, base_features=4).eval().encode(image)
    output = DistillationOutput(image, maps, maps, None, None, None)
    assert math.isclose(sum(term.item() for term in distillation_loss(output, image).values()), 0, abs_tol=1e-9)
