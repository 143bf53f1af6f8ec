from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nnunet_uhf.demo.subjects import TISSUE_SIGNAL, TISSUES, Subject, load_template, make_subject

SHAPE, SPACING_MM = (32, 40, 32), 5.5


@cache
def phantom(seed: int, strength: float = 1.0) -> Subject:
    return make_subject("phantom", seed=seed, shape=SHAPE, spacing_mm=SPACING_MM, strength=strength)


def test_the_same_seed_makes_the_same_subject() -> None:
    first, second = phantom(3), phantom.__wrapped__(3)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)


def test_another_seed_makes_another_anatomy() -> None:
    first, second = phantom(3), phantom(4)
    assert np.mean(first.labels != second.labels) > 0.03


def test_deformation_keeps_the_set_of_labels_and_roughly_their_volumes() -> None:
    undeformed = phantom(0, strength=0.0)
    for seed in range(3):
        deformed = phantom(seed)
        assert set(np.unique(deformed.labels)) == {0, *TISSUES.values()}
        for value in TISSUES.values():
            ratio = np.sum(deformed.labels == value) / np.sum(undeformed.labels == value)
            assert 0.6 < ratio < 1.4


def test_image_and_labels_have_one_grid_and_one_brain() -> None:
    subject = phantom(1)
    assert subject.image.shape == subject.labels.shape == SHAPE
    assert np.array_equal(subject.image > 0, subject.labels > 0)
    assert np.allclose(np.diag(subject.affine)[:3], SPACING_MM)


def test_the_brain_lies_inside_the_grid_with_its_middle_in_the_middle() -> None:
    brain = np.argwhere(phantom(2, strength=0.0).labels > 0)
    assert (brain.min(axis=0) > 0).all()
    assert (brain.max(axis=0) < np.array(SHAPE) - 1).all()
    middle = (brain.min(axis=0) + brain.max(axis=0)) / 2
    assert np.abs(middle - (np.array(SHAPE) - 1) / 2).max() < 2


@pytest.mark.parametrize("seed", [0, 1])
def test_tissues_have_their_own_signal_in_the_order_of_a_t1_image(seed: int) -> None:
    subject = phantom(seed)
    means = {name: float(subject.image[subject.labels == value].mean()) for name, value in TISSUES.items()}
    assert means["CSF"] < means["GM"] < means["WM"]
    # partial volume pulls tissues towards each other, the pure signal is a loose guide
    for name in ("GM", "WM"):
        assert means[name] == pytest.approx(TISSUE_SIGNAL[name], abs=0.15)


def test_tissue_probabilities_of_the_template_sum_to_one_in_the_brain() -> None:
    template = load_template()
    inside = template.brain > 0
    assert np.allclose(template.brain[inside], 1.0, atol=1e-5)
    assert all(volume.min() >= 0 for volume in template.tissues.values())
    assert np.abs(template.detail[~inside]).max() == 0
