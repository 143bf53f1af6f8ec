"""Random numbers that depend on the seed and on a case's name alone."""

from __future__ import annotations

import hashlib

import numpy as np


def case_generator(seed: int, case: str) -> np.random.Generator:
    """Random generator of a case: a function of the seed and the case name alone."""
    digest = hashlib.sha256(case.encode("utf-8")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "big")])
