from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from nnunet_uhf import pages
from nnunet_uhf.pages.engine import render_page

FOLDER = Path(pages.__file__).parent
PAGES = [
    ("nnunet_uhf.demo", "page.html"),
    ("nnunet_uhf.report", "compare.html"),
    ("nnunet_uhf.preprocessing.qc", "qc.html"),
]


@pytest.mark.parametrize(("package", "template"), PAGES)
def test_every_page_takes_the_one_style_and_says_no_rule_of_it_again(package: str, template: str) -> None:
    text, _, _ = jinja2.PackageLoader(package, ".").get_source(jinja2.Environment(), template)
    own = text[text.index("<style>") : text.index("</style>")]
    assert "{% include 'page.css' %}" in own
    rules = [line.strip() for line in (FOLDER / "page.css").read_text().splitlines()]
    assert not set(rules) & {line.strip() for line in own.splitlines()}


def test_the_style_is_inline_and_text_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "made_pages"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.html").write_text("<style>{% include 'page.css' %}</style>{{ name }} {{ 0.5 | percent }}")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = render_page("made_pages", "a.html", filters={"percent": lambda x: f"{100 * x:.0f} %"}, name="<b>")
    assert (FOLDER / "page.css").read_text().strip() in text
    assert text.endswith("&lt;b&gt; 50 %")
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render_page("made_pages", "a.html", filters={"percent": str})
