"""Signal equations against values worked out by hand."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest

from nnunet_uhf.errors import UHFError
from nnunet_uhf.preprocessing.synthesis import Sequence, inversion_recovery, spin_echo, spoiled_gradient_echo


def test_a_spoiled_gradient_echo_has_the_signal_of_ernst() -> None:
    # E1 = 1/2, cos 60 = 1/2: sin 60 / 2 / (1 - 1/4) = 0.57735; TE = T2* ln 2 halves it
    signal = spoiled_gradient_echo(1.0, 2.0, 0.05, tr=2 * log(2), te=0.05 * log(2), flip_angle_deg=60)
    assert signal == pytest.approx(0.2886751, abs=1e-7)


def test_a_spin_echo_recovers_with_t1_and_decays_with_t2() -> None:
    # 0.8 * (1 - 1/4) * 1/2
    assert spin_echo(0.8, 1.5, 0.1, tr=1.5 * log(4), te=0.1 * log(2)) == pytest.approx(0.3)


@pytest.mark.parametrize(("ti", "expected"), [(log(4), 0.625), (log(2), 0.125), (log(4 / 3), -0.375)])
def test_inversion_recovery_passes_from_negative_to_positive(ti: float, expected: float) -> None:
    # T1 = 1 s, TR = ln 8: 1 - 2 exp(-TI) + 1/8; no decay to speak of
    assert inversion_recovery(1.0, 1.0, 1e9, tr=log(8), te=1e-3, ti=ti) == pytest.approx(expected)


def test_equations_take_whole_arrays() -> None:
    signal = spin_echo(np.ones(3), np.array([1.0, 2.0, 3.0]), 0.1, tr=2.0, te=0.01)
    assert signal.shape == (3,)
    assert (np.diff(signal) < 0).all()


def test_a_sequence_in_milliseconds_is_the_equation_in_seconds() -> None:
    tissue = {"density": 0.7, "t1": 0.9, "decay": 0.05}
    spgr = Sequence(kind="spgr", tr_ms=20, te_ms=4, flip_angle_deg=15)
    assert spgr.signal(**tissue) == spoiled_gradient_echo(0.7, 0.9, 0.05, tr=0.02, te=0.004, flip_angle_deg=15)
    se = Sequence(kind="se", tr_ms=3000, te_ms=80)
    assert se.signal(**tissue) == spin_echo(0.7, 0.9, 0.05, tr=3, te=0.08)
    ir = Sequence(kind="ir", tr_ms=2000, te_ms=4, ti_ms=900)
    assert ir.signal(**tissue) == inversion_recovery(0.7, 0.9, 0.05, tr=2, te=0.004, ti=0.9)
    assert (spgr.decay, se.decay, ir.decay) == ("t2_star", "t2", "t2_star")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "bssfp", "tr_ms": 5, "te_ms": 2}, "sequence is 'bssfp'"),
        ({"kind": "se", "tr_ms": 50, "te_ms": 80}, "0 < TE < TR"),
        ({"kind": "spgr", "tr_ms": 20, "te_ms": 4}, "flip angle .* give it"),
        ({"kind": "se", "tr_ms": 2000, "te_ms": 80, "flip_angle_deg": 90}, "flip angle .* drop it"),
        ({"kind": "spgr", "tr_ms": 20, "te_ms": 4, "flip_angle_deg": 180}, "more than 0 and less than 180"),
        ({"kind": "ir", "tr_ms": 2000, "te_ms": 4}, "inversion time .* give it"),
        ({"kind": "ir", "tr_ms": 2000, "te_ms": 4, "ti_ms": 1999}, "less than TR - TE"),
    ],
)
def test_times_that_cannot_be_played_out_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UHFError, match=reason):
        Sequence(**values)
