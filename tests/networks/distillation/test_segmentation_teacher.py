"""A teacher that segments: maps that any keeper can learn, soft labels, and a keeper's logits through its head."""

from __future__ import annotations

import math

import pytest
import torch

from nnunet_uhf.networks.distillation.keeper import KnowledgeKeeper
from nnunet_uhf.networks.distillation.losses import distillation_loss, segmentation_teacher_loss, soft_label_loss
from nnunet_uhf.networks.distillation.segmentation_teacher import SegmentationOutput, SegmentationTeacher, build_teacher
from nnunet_uhf.networks.distillation.teacher import UHFTeacher
from nnunet_uhf.networks.distillation.training import DistillationNet

SIZE = {2: (30, 40), 3: (20, 18, 33)}


@pytest.mark.parametrize("dim", [2, 3])
def test_its_maps_have_the_shapes_of_those_of_other_teachers(dim: int) -> None:
    image = torch.rand(2, 1, *SIZE[dim])
    teacher = SegmentationTeacher(dim=dim, base_features=4, classes=5).eval()
    found = teacher(image, return_features=True)
    assert isinstance(found, SegmentationOutput)
    other = UHFTeacher(dim=dim, base_features=4).eval().encode(image)
    assert [one.shape for one in found.features] == [one.shape for one in other]
    assert found.image.shape == image.shape
    assert found.logits.shape == (2, 5, *SIZE[dim])
    assert teacher.channels == KnowledgeKeeper(dim=dim, base_features=4).channels
    torch.testing.assert_close(teacher(image), found.image)


def test_it_is_built_from_its_own_arguments_and_others_from_theirs() -> None:
    for teacher in (SegmentationTeacher(dim=2, base_features=4, classes=3, regions=True), UHFTeacher(dim=2)):
        again = build_teacher(teacher.config())
        assert type(again) is type(teacher)
        again.load_state_dict(teacher.state_dict())
    with pytest.raises(ValueError, match="classes must be 1 to"):
        SegmentationTeacher(dim=2, classes=0)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_keeper_whose_maps_are_the_teachers_has_its_logits_and_learns_nothing_more_from_them(dim: int) -> None:
    torch.manual_seed(0)
    net = DistillationNet(
        KnowledgeKeeper(dim=dim, base_features=4, kernel_size=3),
        SegmentationTeacher(dim=dim, base_features=4, classes=3),
    )
    source, target = torch.rand(1, 1, *SIZE[dim]), torch.rand(1, 1, *SIZE[dim])
    output = net(source, target)
    terms = distillation_loss(output, target)
    assert set(terms) == {"features", "statistics", "image", "logits"}
    terms["logits"].backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in net.keeper.parameters())
    assert all(p.grad is None for p in net.teacher.parameters())
    same = output._replace(guides=output.targets, logits=output.target_logits, image=target)
    assert sum(term.item() for term in distillation_loss(same, target).values()) == pytest.approx(0, abs=1e-6)


def test_soft_labels_are_compared_by_the_divergence_of_their_probabilities() -> None:
    ours, its = torch.tensor([[[0.0], [0.0]]]), torch.tensor([[[2 * math.log(3)], [0.0]]])
    exact = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))  # by a temperature of 2, 3 to 1
    assert soft_label_loss(ours, its).item() == pytest.approx(exact)
    assert soft_label_loss(its, its).item() == pytest.approx(0, abs=1e-6)


def test_the_soft_labels_of_regions_are_choices_of_their_own() -> None:
    teacher = SegmentationTeacher(dim=2, base_features=4, classes=3, regions=True)
    net = DistillationNet(KnowledgeKeeper(dim=2, base_features=4, kernel_size=3), teacher)
    output = net(torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32))
    assert output.logits.shape == output.target_logits.shape == (1, 2, 3, 32, 32)
    inside = output.target_logits.softmax(dim=1)[:, 1]
    torch.testing.assert_close(inside, torch.sigmoid(net.teacher.logits(output.targets, (32, 32))))


def test_its_loss_is_that_of_the_labels_and_of_the_image() -> None:
    image, target, labels = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5), torch.tensor(0.25)
    found = segmentation_teacher_loss(image, target, labels, weights={"image": 3.0})
    assert {name: term.item() for name, term in found.items()} == {"segmentation": 0.25, "image": 1.5}


def test_it_learns_to_label_and_to_draw_at_once() -> None:
    torch.manual_seed(0)
    teacher = SegmentationTeacher(dim=2, base_features=4, classes=2, noise="none")
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[0, 8:20, 4:24], labels[1, 14:30, 10:20] = 1, 1
    image = labels[:, None].float() + 0.3 * torch.randn(2, 1, 32, 32)
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        output = teacher(image, return_features=True)
        crossed = torch.nn.functional.cross_entropy(output.logits, labels)
        torch.stack(list(segmentation_teacher_loss(output.image, image, crossed).values())).sum().backward()
        optimizer.step()
    output = teacher.eval()(image, return_features=True)
    assert (output.logits.argmax(1) == labels).float().mean() > 0.95
    assert (output.image - image).abs().mean() < 0.6 * (image - image.mean()).abs().mean()
