"""A little SVG: drawings that stand inside the page, take its colours, and show names under the mouse pointer.

Colours are classes of the page's style sheet, so that drawings follow its light and dark appearance. `c0`, `c1`, ...
are the entries'; a title is what the pointer shows.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Scale:
    """Maps values low..high to pixels start..end; values beyond go to the border."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value in pixels."""
        part = (value - self.low) / (self.high - self.low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, *, include: Sequence[float] = ()) -> Scale:
        """A scale on which all values have some room; infinite ones and NaN are left out."""
        finite = [value for value in (*values, *include) if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - room, high + room, start, end)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the scale, about that many."""
        raw = (self.high - self.low) / max(count, 1)
        power = 10 ** math.floor(math.log10(raw))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step + 0.0 for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Drawing:
    """Shapes in a box of width x height pixels, which the page scales to its width."""

    def __init__(self, width: float, height: float, description: str) -> None:
        self.width, self.height = width, height
        self._description = description
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A line from (x1, y1) to (x2, y2)."""
        self._add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def path(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through all points."""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add(f'<polyline points="{places}" class="{style}"/>')

    def box(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A rectangle."""
        self._add(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{style}"/>')

    def dot(self, x: float, y: float, radius: float, style: str, title: str = "") -> None:
        """A circle; its title shows under the pointer."""
        inside = f"<title>{html.escape(title)}</title>" if title else ""
        self._add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{style}">{inside}</circle>')

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "start") -> None:
        """Text whose baseline is at y; anchor: start, middle or end."""
        self._add(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{html.escape(words)}</text>')

    def svg(self) -> Markup:
        """The drawing as text for the page."""
        label = html.escape(self._description, quote=True)
        head = f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" role="img" aria-label="{label}">'
        # every text in it is escaped above
        return Markup(head + "".join(self._parts) + "</svg>")

    def _add(self, part: str) -> None:
        self._parts.append(part)
