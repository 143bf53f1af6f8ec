"""From a template to a page that can be sent on: its style is inline, no other file is needed (ours)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


def render_page(
    package: str, template: str, *, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any
) -> str:
    """The HTML text of a template, which may include ``page.css``, the style of all pages.

    Args:
        package: where the template lies.
        template: its file name.
        filters: further filters by name.
        values: what the template asks for; text is escaped.

    Raises:
        jinja2.UndefinedError: the template asks for something that is not given.
    """
    places = [jinja2.PackageLoader(name, ".") for name in (package, "nnunet_uhf.pages")]
    engine = jinja2.Environment(loader=jinja2.ChoiceLoader(places), autoescape=True, undefined=jinja2.StrictUndefined)
    engine.filters.update(filters or {})
    return engine.get_template(template).render(**values)
