"""Every way in which an entry of a JSON object may be damaged: left out, renamed, of another type, out of bounds."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**12,
    float("nan"),
    "x" * 10_000,
    "\x1b[31m",
    [],
    [1.0] * 50,
    {"a": {"b": []}},
)
"""None of these is right for any entry, but for true, null and few more."""


def damaged(content: Any, *, items: int = 1) -> Iterator[tuple[Path, str, Any]]:
    """Path of the entry, what was done to it in words, and the damaged copy; of lists the first items only."""
    for path in _paths(content, items):
        for value in WRONG:
            yield path, f"{value!r:.30}", _changed(content, path, value)
        if path:
            yield path, "left out", _changed(content, path, remove=True)
            if isinstance(path[-1], str):
                yield path, "renamed", _changed(content, path, remove=True, renamed=f"{path[-1]}x")


def _paths(content: Any, items: int, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _paths(value, items, (*path, name))
    elif isinstance(content, list):
        for index, value in enumerate(content[:items]):
            yield from _paths(value, items, (*path, index))


def _changed(content: Any, path: Path, value: Any = None, *, remove: bool = False, renamed: str = "") -> Any:
    if not path:
        return copy.deepcopy(value)
    changed = json.loads(json.dumps(content))
    place = changed
    for key in path[:-1]:
        place = place[key]
    if remove:
        value = place.pop(path[-1])
        if renamed:
            place[renamed] = value
    else:
        place[path[-1]] = copy.deepcopy(value)
    return changed
