# SPDX-License-Identifier: LGPL-2.1-or-later

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from drgn_vmemmap.output.report import View, html
from tests.support import ROOT, open_vmcore
from tests.synthetic import pages

SCREENSHOTS = ROOT / "build" / "screenshots"

_OPTIONS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync
    --window-size=1280,900
"""


_IS_DRAWN = """
    const view = document.getElementById("map-view");
    return view === null || view.textContent !== "";
"""


class Browser:
    """A browser that shows one page at a time."""

    def __init__(self, profile: Path) -> None:
        options = ChromeOptions()
        for option in _OPTIONS.split():
            options.add_argument(option)
        options.add_argument(f"--user-data-dir={profile}")
        options.binary_location = _installed("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options, Service(_installed("chromedriver")))
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(60)
        self._scripts_run = True

    def open(self, page: Path) -> None:
        """Open a page, and wait until its script has drawn its map, if it has one."""
        self.driver.get(page.as_uri())
        if self._scripts_run:
            WebDriverWait(self.driver, 20).until(lambda _: self.run(_IS_DRAWN))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        texts: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)",
            selector,
        )
        return texts

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until an element's text begins so."""
        WebDriverWait(self.driver, 20).until(lambda _: self.one(selector).text.startswith(text))

    def complaints(self) -> list[str]:
        """What was written to the console since it was last asked."""
        log: list[dict[str, str]] = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [entry["message"] for entry in log]

    def prefer(self, scheme: str, media: str = "") -> None:
        """:param scheme: ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._command("Emulation.setEmulatedMedia", media=media, features=features)

    def allow_scripts(self, allowed: bool) -> None:
        self._scripts_run = allowed
        self._command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def resize(self, width: int) -> None:
        """:param width: In CSS pixels."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", **metrics)

    def restore_size(self) -> None:
        """Undo :meth:`resize()`."""
        self._command("Emulation.clearDeviceMetricsOverride")

    def screenshot(self, name: str) -> None:
        """Leave a screenshot of the page, from its top on, for a person."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        height = min(3600, self.run("return document.documentElement.scrollHeight"))
        width = self.run("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self._command("Page.printToPDF")["data"])

    def _command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)


def _installed(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is missing: apt install chromium chromium-driver"
    return path


@pytest.fixture(scope="session")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(_browser: Browser) -> Iterator[Browser]:
    """A browser as new; whatever a test does, its console must stay empty."""
    _browser.allow_scripts(True)
    _browser.prefer("light")
    _browser.restore_size()
    _browser.complaints()
    yield _browser
    assert _browser.complaints() == []


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name."""
    directory = tmp_path_factory.mktemp("pages")
    texts = {
        "damaged": pages.page_of(pages.damaged("7.2.0").prog),
        "damaged-tail-reuse": pages.page_of(pages.damaged("5.15.0").prog),
        "hostile": pages.page_of(pages.hostile().prog),
        "many": "".join(html.render(pages.many(500_000), View())),
    }
    for name in ("head-reuse", "shared-tail", "two-nodes-1GiB"):
        texts[name] = pages.page_of(open_vmcore(name))
    for name, text in texts.items():
        (directory / f"{name}.html").write_text(text)
    return {name: directory / f"{name}.html" for name in texts}
