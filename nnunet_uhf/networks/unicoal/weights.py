"""Weights of the losses of Uni-COAL, by the names of their terms."""

from __future__ import annotations

from collections.abc import Mapping

UNICOAL_WEIGHTS: Mapping[str, float] = {"adversarial": 1.0, "l1": 80.0, "sam": 100.0}
"""The original's; the consistency of neighbouring slices has its own, `uhf.extensions.consistency`."""
