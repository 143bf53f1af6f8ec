"""Numbers as people read them."""

from __future__ import annotations

import math
import re

from markupsafe import Markup, escape

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
NOT_RECORDED = "not recorded"


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """A number with that many decimals; None is a dash. With `sign`, positive ones have a plus, zero has none."""
    if value is None or not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # no "-0.00"
    text = f"{rounded:+,.{digits}f}" if sign and rounded else f"{rounded:,.{digits}f}"
    return text.replace("-", MINUS).replace(",", "\N{NARROW NO-BREAK SPACE}")


def interval(ci: tuple[float, float] | None, digits: int) -> str:
    """A confidence interval in brackets; empty without one."""
    return "" if ci is None else f"[{number(ci[0], digits, sign=True)}, {number(ci[1], digits, sign=True)}]"


def p_value(p: float | None) -> str:
    """A p-value; None is a dash."""
    return DASH if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def tick_label(value: float) -> str:
    """A tick's value, short."""
    return f"{value:.6g}".replace("-", MINUS)


def breakable(name: str) -> Markup:
    """A name as HTML that may go on in a new line before a capital letter, and behind ``_``, ``-`` and ``/``."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_/-])(?=\w)", "\0", name).split("\0")
    return Markup("<wbr>").join(escape(part) for part in parts)
