"""Relaxation times and proton density of CSF, grey and white matter against field strength, from the literature.

Every number is published; where a value had to be taken beyond what was measured, `SOURCES` says so.
"""

from __future__ import annotations

import math

import numpy as np

from nnunet_uhf.errors import UHFError

GYROMAGNETIC_RATIO_HZ_PER_T = 42.577e6

SOURCES = {
    "t1": (
        "T1 = a (gamma B0)^b, the form of Bottomley et al., Medical Physics 1984, with the coefficients of Rooney et "
        "al., Magnetic Resonance in Medicine 57:308, 2007 (grey matter: internal), as given and used from 0.1 to 7 T "
        "by Marques, Simonis and Webb, Journal of Magnetic Resonance Imaging 49:1528, 2019; CSF: 1/T1 = 0.231/s at "
        "every field (the same)"
    ),
    "t2_star": (
        "T2* = c exp(-d B0), fitted to Pohmann et al., Magnetic Resonance in Medicine 75:801, 2016 (3, 7 and 9.4 T) "
        "and used from 0.1 to 7 T by Marques, Simonis and Webb 2019: below 3 T it is their extrapolation; CSF: no T2* "
        "was found, its T2 is taken, which makes it slightly too bright"
    ),
    "t2": (
        "Cox and Gowland, Magnetic Resonance in Medicine 64:1440, 2010 (1.5, 3 and 7 T; grey matter: mean of frontal "
        "and occipital), linear between these fields; CSF: 1.8855 s, subarachnoid space at 3 T, PMC10696635, taken "
        "at every field although it is shorter at 7 T (Spijkerman et al., MAGMA 31:415, 2018)"
    ),
    "proton_density": (
        "water content relative to CSF, Oros-Peusquens et al., Frontiers in Neurology 10:1333, 2019 (3 T; water "
        "content does not depend on the field)"
    ),
    "snr": "signal to noise ratio in proportion to B0^1.5, Marques, Simonis and Webb 2019",
}

# a in s, b: T1 = a (gamma B0 in Hz)^b
_T1_POWER_LAW = {"gm": (0.00116, 0.376), "wm": (0.00071, 0.382)}
_T1_CSF_S = 1 / 0.231
# c in s, d in 1/T
_T2_STAR_EXPONENTIAL = {"gm": (0.090, 0.142), "wm": (0.064, 0.132)}
# measured at these fields in T, in s
_T2_FIELDS_T = (1.5, 3.0, 7.0)
_T2_S = {"gm": (0.0835, 0.072, 0.0465), "wm": (0.080, 0.071, 0.047)}
_T2_CSF_S = 1.8855

PROTON_DENSITY = {"csf": 1.0, "gm": 0.837, "wm": 0.691}
#: Exponent of the growth of SNR with field strength
SNR_EXPONENT = 1.5
#: Field strengths in tesla that each quantity is offered for
FIELDS_T = {"t1": (0.1, 7.0), "t2_star": (0.1, 7.0), "t2": (_T2_FIELDS_T[0], _T2_FIELDS_T[-1])}


def t1_seconds(tissue: str, field_tesla: float) -> float:
    """Longitudinal relaxation time of `csf`, `gm` or `wm`; UHFError outside 0.1 to 7 T."""
    _check_field(field_tesla, "t1", "T1")
    if tissue == "csf":
        return _T1_CSF_S
    a, b = _T1_POWER_LAW[tissue]
    return float(a * (GYROMAGNETIC_RATIO_HZ_PER_T * field_tesla) ** b)


def t2_star_seconds(tissue: str, field_tesla: float) -> float:
    """Decay time of a gradient echo of `csf`, `gm` or `wm`; UHFError outside 0.1 to 7 T."""
    _check_field(field_tesla, "t2_star", "T2*")
    if tissue == "csf":
        return _T2_CSF_S
    c, d = _T2_STAR_EXPONENTIAL[tissue]
    return c * math.exp(-d * field_tesla)


def t2_seconds(tissue: str, field_tesla: float) -> float:
    """Transverse relaxation time of `csf`, `gm` or `wm`; UHFError outside 1.5 to 7 T."""
    _check_field(field_tesla, "t2", "T2")
    if tissue == "csf":
        return _T2_CSF_S
    return float(np.interp(field_tesla, _T2_FIELDS_T, _T2_S[tissue]))


def _check_field(field_tesla: float, quantity: str, name: str) -> None:
    low, high = FIELDS_T[quantity]
    if not low <= field_tesla <= high:
        raise UHFError(
            f"field strength {field_tesla:g} T: published {name} values are offered from {low:g} to {high:g} T only; "
            + ("use sequence spgr or ir, which need no T2" if quantity == "t2" else "choose a field in that range")
        )
