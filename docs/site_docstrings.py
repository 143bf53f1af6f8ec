"""Roles of docstrings, such as func and class, as links to the entry, where there is one."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`(~?)([\w.]+)`")


def as_link(match: re.Match[str]) -> str:
    """An optional link: the name alone where the reference has no such entry."""
    short, path = match.groups()
    shown = path.rpartition(".")[2] if short or path.startswith("nnunet_uhf.") else path
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'


class Roles(griffe.Extension):
    """Rewrites the docstring of every object that is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe's hook."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(as_link, obj.docstring.value)
