"""A real browser for pages: headless Chromium, driven by Selenium; tests skip with the reason where there is none."""

from __future__ import annotations

import base64
import json
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("file:", "data:", "about:", "blob:")


class Browser:
    """Opens pages at a width, and tells what is wrong with them."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int) -> None:
        """Show a page in a window of that many CSS pixels; below 600 it is a phone."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.resolve().as_uri())

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        return self.driver.execute_script(f"return {expression}")

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def complaints(self) -> list[str]:
        """Errors of the console since the last call."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses outside of this computer that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(LOCAL)]

    def printed(self) -> str:
        """The words of the page as it is printed on A4, as :func:`plain` has them."""
        pypdf = pytest.importorskip("pypdf")
        paper = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
        answer = self.driver.execute_cdp_cmd("Page.printToPDF", paper)
        pages = pypdf.PdfReader(BytesIO(base64.b64decode(answer["data"]))).pages
        return plain("".join(page.extract_text() for page in pages))


def plain(text: str) -> str:
    """Without spaces, ligatures and raised digits: what a PDF file makes of words depends on its fonts."""
    return "".join(unicodedata.normalize("NFKC", text).split())


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for some pages."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pages are opened by selenium, which is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium here: install the Debian packages chromium and chromium-driver to test pages in it")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
