from __future__ import annotations

import pytest

from nnunet_uhf.pages.colours import PALETTE, SKY_BLUE, rgb
from nnunet_uhf.report import slices


def test_a_colour_is_taken_apart_as_matplotlib_does() -> None:
    colors = pytest.importorskip("matplotlib.colors")
    assert rgb(SKY_BLUE) == (86, 180, 233)
    for colour, numbers in zip(PALETTE, slices.PALETTE, strict=True):
        assert numbers == tuple(round(255 * part) for part in colors.to_rgb(colour))
