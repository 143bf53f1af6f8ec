"""Images of an anatomy: contrast as the equations say, partial volume, bias and noise."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.synthesis import (
    Anatomy,
    Sequence,
    bias_field,
    rician,
    structure_signals,
    synthesise_image,
    vary_structures,
)
from nnunet_uhf.preprocessing.synthesis.image import noise_sigma

# T1-weighted where T1 is long, proton density-weighted where it is short
SPGR = Sequence(kind="spgr", tr_ms=20, te_ms=4, flip_angle_deg=15)


def head() -> np.ndarray:
    """Label map of nested boxes: skin 511, CSF 24, cortex 3, white matter 2 with a thalamus 10 in it."""
    labels = np.zeros((26, 24, 22), np.float32)
    for border, label in ((2, 511), (4, 24), (6, 3), (8, 2)):
        labels[border:-border, border:-border, border:-border] = label
    labels[11:15, 10:14, 9:13] = 10
    return labels


def anatomy(variation: float = 0.0, seed: int = 0, margin: int = 0) -> Anatomy:
    return vary_structures(head(), np.random.default_rng(seed), variation=variation, margin=margin)


def test_the_anatomy_is_the_brain_with_its_structures_and_tissues() -> None:
    found = anatomy(margin=1)
    assert [(s.label, s.tissue) for s in found.structures] == [(2, "wm"), (3, "gm"), (10, "gm"), (24, "csf")]
    assert found.box == (slice(3, 23), slice(3, 21), slice(3, 19))
    inside = head()[found.box]
    np.testing.assert_array_equal(found.index == 2, inside == 3)
    np.testing.assert_array_equal(
        found.tissues, np.select([inside == 24, np.isin(inside, (3, 10)), inside == 2], (1, 2, 3))
    )


def test_a_brain_that_fills_the_label_map_keeps_its_structures_apart() -> None:
    labels = np.where(np.arange(27).reshape(3, 3, 3) < 13, 2, 3)
    found = vary_structures(labels, np.random.default_rng(0), variation=0.0)
    np.testing.assert_array_equal(found.index, labels - 1)
    assert [s.tissue for s in found.structures] == ["wm", "gm"]


def test_grey_matter_is_brighter_at_low_field_and_white_matter_at_high_field() -> None:
    # worked out by hand from the published values: 0.36 T 101.1 and 104.4, 7 T 49.7 and 47.8
    for field, white, grey in ((0.36, 101.1, 104.4), (7.0, 49.7, 47.8)):
        image = synthesise_image(anatomy(), SPGR, field)
        tissues = anatomy().tissues
        assert image[tissues == 3].mean() == pytest.approx(white, rel=3e-3)
        assert image[tissues == 2].mean() == pytest.approx(grey, rel=3e-3)


def test_fluid_is_dark_in_t1w_bright_in_t2w_and_the_sign_of_an_inversion_is_lost() -> None:
    tissues = anatomy().tissues
    t1w = synthesise_image(anatomy(), Sequence(kind="spgr", tr_ms=20, te_ms=4, flip_angle_deg=30), 3.0)
    assert t1w[tissues == 1].mean() < t1w[tissues == 2].mean() < t1w[tissues == 3].mean()
    t2w = synthesise_image(anatomy(), Sequence(kind="se", tr_ms=5000, te_ms=90), 3.0)
    assert t2w[tissues == 1].mean() > t2w[tissues == 2].mean() > t2w[tissues == 3].mean()
    early = Sequence(kind="ir", tr_ms=2500, te_ms=4, ti_ms=300)
    assert (structure_signals(anatomy().structures, early, 7.0) < 0).all()
    assert (synthesise_image(anatomy(), early, 7.0)[tissues > 0] > 0).all()


def test_structures_of_one_tissue_differ_by_the_variation_and_by_nothing_without_it() -> None:
    same = structure_signals(anatomy().structures, SPGR, 3.0)
    assert same[1] == same[2]
    varied = anatomy(variation=0.05, seed=1)
    assert structure_signals(varied.structures, SPGR, 3.0)[1] != structure_signals(varied.structures, SPGR, 3.0)[2]
    assert anatomy(variation=0.05, seed=1).structures == varied.structures
    assert anatomy(variation=0.05, seed=2).structures != varied.structures
    many = [s.t1_factor for seed in range(100) for s in anatomy(variation=0.05, seed=seed).structures]
    assert np.std(many) == pytest.approx(0.05, rel=0.15)
    assert np.abs(np.array(many) - 1).max() <= 0.15


def test_a_structure_is_the_same_on_both_sides() -> None:
    labels = np.array([[[2, 3, 10, 41, 42, 49, 24, 163]]])
    found = vary_structures(labels, np.random.default_rng(0), variation=0.05).structures
    factors = {s.label: (s.t1_factor, s.decay_factor, s.density_factor) for s in found}
    for left, right in ((2, 41), (3, 42), (10, 49)):
        assert factors[left] == factors[right]
    assert len(set(factors.values())) == 5


def test_partial_volume_mixes_signals_before_the_magnitude_and_leaves_nothing_outside_the_brain() -> None:
    found = anatomy(margin=2)
    sharp = synthesise_image(found, SPGR, 3.0)
    soft = synthesise_image(found, SPGR, 3.0, blur_voxels=(0.7, 0.7, 0.7))
    assert len(np.unique(sharp)) == 4  # background and three tissues
    assert len(np.unique(soft)) > 50
    centre = tuple(n // 2 for n in soft.shape)
    assert soft[centre] == pytest.approx(sharp[centre], rel=0.02)
    assert not soft[found.tissues == 0].any()
    # where a positive and a negative signal meet there is a dark line, as on a scanner
    crossing = Sequence(kind="ir", tr_ms=2500, te_ms=4, ti_ms=700)
    signs = np.sign(structure_signals(found.structures, crossing, 3.0))
    assert signs.tolist() == [1, -1, -1, -1]
    image = synthesise_image(found, crossing, 3.0, blur_voxels=(1.0, 1.0, 1.0))
    profile = image[centre[0], centre[1], : centre[2]]
    assert profile[profile > 0].min() < 0.5 * np.abs(structure_signals(found.structures, crossing, 3.0))[:2].min()


def test_a_bias_field_is_smooth_and_as_strong_as_asked() -> None:
    field = bias_field((20, 22, 24), np.random.default_rng(0), strength=0.2)
    assert np.log(field).std() == pytest.approx(0.2, rel=1e-4)
    assert max(np.abs(np.diff(np.log(field), axis=axis)).max() for axis in range(3)) < 0.2
    plain = synthesise_image(anatomy(), SPGR, 3.0)
    bias = bias_field(plain.shape, np.random.default_rng(0), strength=0.2)
    np.testing.assert_allclose(synthesise_image(anatomy(), SPGR, 3.0, bias=bias), plain * bias, rtol=1e-6)


def test_noise_has_the_snr_asked_for_at_3_t_and_grows_towards_low_field() -> None:
    sigma = noise_sigma(SPGR, 3.0, snr_at_3t=25)
    white = structure_signals(anatomy().structures, SPGR, 3.0)[0]
    assert white / sigma == pytest.approx(25)
    assert noise_sigma(SPGR, 0.36, snr_at_3t=25) / sigma == pytest.approx((3 / 0.36) ** 1.5)
    image = np.zeros((60, 60, 60), np.float32)
    image[10:] = 50
    noisy = rician(image, np.random.default_rng(0), sigma=2.0)
    assert not noisy[:10].any()
    assert noisy[10:].std() == pytest.approx(2.0, rel=0.02)
    assert noisy[10:].mean() == pytest.approx(50 + 2.0**2 / 100, abs=0.02)


@pytest.mark.parametrize(
    ("labels", "options", "reason"),
    [
        (head(), {"variation": 0.5}, "use 0 to 0.3"),
        (head(), {"variation": 0.0, "margin": -1}, "use 0 or more voxels"),
        (np.full((3, 3, 3), 2), {"variation": 0.0}, "no grey or no white matter"),
        (np.full((3, 3, 3), 999), {"variation": 0.0}, "label 999 is not in the table"),
    ],
)
def test_what_is_no_brain_is_refused(labels: np.ndarray, options: dict, reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        vary_structures(labels, np.random.default_rng(0), **options)
