"""Random numbers that depend on the seed and on a case's name alone."""

from __future__ import annotations

import hashlib

import numpy as np


def case_generator(seed: int, case: str) -> np.random.Generator:
    """Random generator of a case: a function of the seed and the case name alone."""
    digest = hashlib.sha256(case.encode("utf-8")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:16], "big")])


def derived_seed(*parts: int | str) -> int:
    """A seed below 2**32 for one purpose, such as the batch of a number: a function of the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")
