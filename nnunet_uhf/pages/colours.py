"""Colours that people with colour-blindness tell apart (Okabe and Ito 2008), as CSS and matplotlib write them."""

from __future__ import annotations

SKY_BLUE = "#56B4E9"
ORANGE = "#E69F00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
YELLOW = "#F0E442"
VERMILION = "#D55E00"
BLUE = "#0072B2"

PALETTE = (SKY_BLUE, ORANGE, GREEN, PURPLE, YELLOW, VERMILION, BLUE)
"""In the order in which they are given out."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour ``#RRGGBB``."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
