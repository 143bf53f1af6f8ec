from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.browser import Browser, chromium, plain
from helpers.demo_samples import demo_page
from helpers.report_samples import CASES, keeper_block, spoiled, write_model, write_raw
from nnunet_uhf.demo.scores import IMAGE_ROWS
from nnunet_uhf.demo.settings import NAMES
from nnunet_uhf.preprocessing.qc.page import write_pictures
from nnunet_uhf.report.compare import compare

LONG_NAME = "UHFTrainerRandomKeeperWithAVeryLongNameOfItsOwn"
COMPARE_SECTIONS = (
    "What can be concluded",
    "Every subject by name",
    "Volume error (%) of every subject",
    "Volume error (%): differences",
    "All numbers",
    "Folds and subgroups",
    "Subjects: the best",
    "Cost",
    "peak memory",
    "What the keepers were trained on",
    "How it was computed",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> dict[str, Path]:
    """The compare page of three models, one of a long name, the qc page of their dataset, and a demo's page."""
    root = tmp_path_factory.mktemp("pages")
    raw = write_raw(root)
    block = keeper_block(["other"])
    models = [
        write_model(root, trainer, {case: spoiled(case, part) for case in CASES}, block=given)
        for trainer, part, given in (("nnUNetTrainer", 0.3, None), ("UHFTrainer", 0.15, block), (LONG_NAME, 0.31, None))
    ]
    table = root / "subjects.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "scanner"), *((case, "AB"[i % 2]) for i, case in enumerate(CASES))])
    compare(models, [], root / "compare", reference=raw / "labelsTr", images=raw / "imagesTr", subgroups=table)
    demo = root / "demo.html"
    demo.write_text(demo_page(root), encoding="utf-8")
    return {"compare": root / "compare" / "index.html", "qc": write_pictures(raw, root / "qc"), "demo": demo}


@pytest.mark.parametrize("name", ["compare", "qc", "demo"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_fits_its_window_complains_of_nothing_and_asks_nobody(
    name: str, width: int, pages: dict[str, Path], browser: Browser
) -> None:
    browser.open(pages[name], width=width)
    assert browser.overflow() <= 0
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.value(
        "Array.from(document.images).every(i => i.loading == 'lazy' || (i.complete && i.naturalWidth > 0))"
    )


@pytest.mark.parametrize("name", ["compare", "demo"])
def test_letters_can_be_read_on_a_phone(name: str, pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages[name], width=400)
    heights = browser.value(
        "Array.from(document.querySelectorAll('svg text')).map(t => t.getBoundingClientRect().height).filter(h => h)"
    )
    assert min(heights) > 9  # css pixels; they were 5
    widths = browser.value("Array.from(document.querySelectorAll('tbody th')).map(t => t.clientWidth).filter(w => w)")
    assert min(widths) > 100  # a column of single letters before
    tables = "Array.from(document.querySelectorAll('.wide:has(table)'))"  # wide pictures may be moved under a finger
    assert browser.value(f"{tables}.filter(t => t.scrollWidth > t.clientWidth + 1).length") == 0


def test_paper_has_every_section_and_every_column(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["compare"], width=1280)
    closed = browser.value("document.querySelectorAll('details:not([open])').length")
    printed = browser.printed()
    assert closed > 5
    for words in (*COMPARE_SECTIONS, LONG_NAME, *CASES):
        assert plain(words) in printed, words
    for metric in ("HD95 (mm)", "NSD", "Volume error (mm³)", "Volume error (%)"):
        assert printed.count(plain(metric)) >= 2, metric


def test_the_demo_is_printed_with_every_section_number_and_command(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["demo"], width=1280)
    sections = browser.value("Array.from(document.querySelectorAll('h2')).map(h => h.innerText)")
    commands = browser.value("document.querySelector('pre').innerText").splitlines()
    printed = browser.printed()
    assert len(sections) == 6
    for words in (*sections, *commands, *NAMES.values(), *IMAGE_ROWS.values(), "61.5", "83.5", "0.830", "minus plain"):
        assert plain(words) in printed, words


def test_a_curve_that_stands_alone_does_not_fill_the_page(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["demo"], width=1280)
    browser.value("document.querySelector('.curves svg').remove()")
    assert browser.value("document.querySelector('.curves svg').clientWidth") <= 640


@pytest.mark.parametrize("name", ["compare", "demo"])
def test_the_contents_lead_to_every_part(name: str, pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages[name], width=1280)
    wanted = browser.value("Array.from(document.querySelectorAll('nav.contents a')).map(a => a.hash.slice(1))")
    found = browser.value("Array.from(document.querySelectorAll('h2')).map(h => h.id)")
    assert wanted == found


def test_the_qc_page_has_a_legend_of_structures(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["qc"], width=400)
    legend = browser.value("document.querySelector('.legend').innerText")
    assert all(name in legend for name in ("CSF", "GM", "WM"))
    colours = browser.value(
        "Array.from(document.querySelectorAll('.legend .key')).map(k => getComputedStyle(k).backgroundColor)"
    )
    assert len(colours) == len(set(colours)) == 3
