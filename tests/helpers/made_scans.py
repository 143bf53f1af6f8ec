"""The grid of the small made subjects: its axes are not the standard ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE = (32, 34, 33)
# array axes run posterior, superior, right, as in scans stored sagittally; off-centre origin, 2 mm
AFFINE = np.array([[0.0, 0, 2, -25], [-2, 0, 0, 20], [0, 2, 0, -30], [0, 0, 0, 1]])

Save = Callable[..., Path]
