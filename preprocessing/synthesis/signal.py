"""Signal equations: spoiled gradient echo, spin echo, inversion recovery. Times in seconds, angles in degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nnunet_uhf.errors import UHFError

Signal = npt.NDArray[np.float64]
SequenceKind = Literal["spgr", "se", "ir"]


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A pulse sequence.

    Attributes:
        kind: `spgr` (spoiled gradient echo), `se` (spin echo) or `ir` (inversion recovery, gradient echo read-out of
            90 degrees; the contrast of an MPRAGE at its centre of k-space without its train of small pulses).
        tr_ms: repetition time, > te_ms.
        te_ms: echo time, > 0.
        flip_angle_deg: of `spgr` only, 0 to 180.
        ti_ms: inversion time, of `ir` only, with ti_ms + te_ms < tr_ms.

    Raises:
        UHFError: values out of range, missing, or without use.
    """

    kind: SequenceKind
    tr_ms: float
    te_ms: float
    flip_angle_deg: float | None = None
    ti_ms: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SequenceKind):
            raise UHFError(f"sequence is {self.kind!r}: use {', '.join(get_args(SequenceKind))}")
        if not 0 < self.te_ms < self.tr_ms < float("inf"):
            raise UHFError(f"echo time {self.te_ms:g} ms, repetition time {self.tr_ms:g} ms: use 0 < TE < TR")
        for name, value, owner in (("flip angle", self.flip_angle_deg, "spgr"), ("inversion time", self.ti_ms, "ir")):
            if (value is not None) != (self.kind == owner):
                raise UHFError(
                    f"{name} is of sequence {owner} and of no other: " + ("give" if value is None else "drop") + " it"
                )
        if self.flip_angle_deg is not None and not 0 < self.flip_angle_deg < 180:
            raise UHFError(f"flip angle is {self.flip_angle_deg:g} degrees: use more than 0 and less than 180")
        if self.ti_ms is not None and not 0 < self.ti_ms < self.tr_ms - self.te_ms:
            raise UHFError(f"inversion time is {self.ti_ms:g} ms: use more than 0 and less than TR - TE")

    @property
    def decay(self) -> Literal["t2", "t2_star"]:
        """The transverse decay that the echo sees."""
        return "t2" if self.kind == "se" else "t2_star"

    def signal(self, density: Any, t1: Any, decay: Any) -> Signal:
        """Signal of matter of this proton density and these times in s; `ir` may be negative before its recovery."""
        tr, te = self.tr_ms / 1000, self.te_ms / 1000
        if self.flip_angle_deg is not None:
            return spoiled_gradient_echo(density, t1, decay, tr=tr, te=te, flip_angle_deg=self.flip_angle_deg)
        if self.ti_ms is not None:
            return inversion_recovery(density, t1, decay, tr=tr, te=te, ti=self.ti_ms / 1000)
        return spin_echo(density, t1, decay, tr=tr, te=te)


def spoiled_gradient_echo(
    density: Any, t1: Any, t2_star: Any, *, tr: float, te: float, flip_angle_deg: float
) -> Signal:
    """Spoiled gradient echo: density sin(a) (1 - E1) / (1 - E1 cos(a)) exp(-TE/T2*) with E1 = exp(-TR/T1).

    Arguments broadcast. Source: Haase et al., Journal of Magnetic Resonance 67:258, 1986 (FLASH), after Ernst.
    """
    e1 = np.exp(-tr / np.asarray(t1, dtype=np.float64))
    angle = np.deg2rad(flip_angle_deg)
    steady = np.sin(angle) * (1 - e1) / (1 - e1 * np.cos(angle))
    return density * steady * np.exp(-te / np.asarray(t2_star, dtype=np.float64))


def spin_echo(density: Any, t1: Any, t2: Any, *, tr: float, te: float) -> Signal:
    """90-180 degrees spin echo, TE much shorter than TR: density (1 - exp(-TR/T1)) exp(-TE/T2).

    Arguments broadcast. Source: textbooks, from the Bloch equations.
    """
    recovered = 1 - np.exp(-tr / np.asarray(t1, dtype=np.float64))
    return density * recovered * np.exp(-te / np.asarray(t2, dtype=np.float64))


def inversion_recovery(density: Any, t1: Any, t2_star: Any, *, tr: float, te: float, ti: float) -> Signal:
    """180 - TI - 90 degrees every TR: density (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2*), with its sign.

    The 90 degrees leave nothing along the field, so that TR - TI later 1 - exp(-(TR - TI)/T1) is inverted. Arguments
    broadcast. Source: textbooks, from the Bloch equations.
    """
    t1 = np.asarray(t1, dtype=np.float64)
    recovered = 1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)
    return density * recovered * np.exp(-te / np.asarray(t2_star, dtype=np.float64))
