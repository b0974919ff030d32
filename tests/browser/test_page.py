# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a person does with the page, with a mouse and with keys alone."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from tests.browser.conftest import Browser
from tests.synthetic.model import FIRST_FOLIO
from tests.synthetic.pages import HOSTILE

Pages = dict[str, Path]

NOTHING = "-"

NAMES = (
    *("head-reuse", "shared-tail", "two-nodes-1GiB"),
    *("damaged", "damaged-tail-reuse", "hostile", "many"),
)


def column(browser: Browser, key: str) -> list[str]:
    index = browser.run(
        "return document.querySelector(`th[data-key=${arguments[0]}]`).cellIndex + 1", key
    )
    return browser.texts(f"#table tbody td:nth-child({index})")


def search(browser: Browser, words: str, status: str) -> None:
    field = browser.one("#search")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.BACKSPACE, words)
    browser.wait_for("#status", status)


@pytest.mark.parametrize("scheme", ("light", "dark"))
@pytest.mark.parametrize("name", NAMES)
def test_the_page_opens_without_a_complaint(
    browser: Browser, written: Pages, name: str, scheme: str
) -> None:
    browser.prefer(scheme)
    browser.open(written[name])
    assert browser.run("return document.compatMode") == "CSS1Compat"
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(width) == 0
    assert browser.texts("#table tbody tr")
    browser.screenshot(f"{name}-{scheme}")


def settled(browser: Browser, script: str, *arguments: object) -> object:
    """What a script returns once it returns the same twice: the page fills its table in turns."""
    before: object = None
    for _ in range(50):
        now: object = browser.run(script, *arguments)
        if now == before:
            break
        before = now
        time.sleep(0.3)
    return before


@pytest.mark.parametrize("scheme", ("light", "dark"))
@pytest.mark.parametrize("name", ("damaged", "two-nodes-1GiB"))
def test_a_narrow_page_shows_what_a_wide_one_shows(
    browser: Browser, written: Pages, name: str, scheme: str
) -> None:
    browser.prefer(scheme)
    browser.open(written[name])
    selector = "main :is(td, th[scope=row], dt, dd, p, h2, h3, li)"
    visible = """
        return [...document.querySelectorAll(arguments[0])]
            .filter((cell) => cell.textContent.trim() && cell.checkVisibility()).length;
    """
    wide = settled(browser, visible, selector)
    browser.resize(420)
    assert settled(browser, visible, selector) == wide
    outside = """
        const end = document.documentElement.clientWidth;
        return [...document.querySelectorAll(arguments[0])]
            .filter((cell) => cell.textContent.trim() && cell.checkVisibility())
            .filter((cell) => cell.getBoundingClientRect().right > end + 1)
            .map((cell) => cell.textContent.trim());
    """
    assert browser.run(outside, selector) == []
    names = browser.run("""
        return [...document.querySelectorAll("#table tbody tr:first-child td")]
            .map((cell) => getComputedStyle(cell, "::before").content);
    """)
    assert {"PFN", "verdict"} <= {name.strip('" ') for name in names}
    browser.screenshot(f"{name}-narrow-{scheme}")


@pytest.mark.parametrize("media", ("screen", "print"))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_text_can_be_read(browser: Browser, written: Pages, scheme: str, media: str) -> None:
    """With the contrast of 4.5 that the Web Content Accessibility Guidelines ask for."""
    browser.prefer(scheme, media)
    browser.open(written["damaged"])
    colours = browser.run("""
        const style = getComputedStyle(document.documentElement);
        const read = (name) => style.getPropertyValue(name).trim();
        const texts = ["--ink", "--quiet", "--link", "--red"];
        return [texts.map(read), ["--paper", "--sheet"].map(read)];
    """)
    for text in colours[0]:
        for ground in colours[1]:
            assert contrast(text, ground) >= 4.5, (text, ground)
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", ground)))
    assert (lightness > 700) == (scheme == "light" or media == "print")


def contrast(one: str, other: str) -> float:
    """Of two colours like ``#123456`` or ``#123``."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_a_printed_page_has_all_but_the_controls(browser: Browser, written: Pages) -> None:
    browser.prefer("dark", "print")
    browser.open(written["damaged"])
    for selector in ("nav", "#controls", "#map-controls", "#pager"):
        assert not browser.one(selector).is_displayed()
    assert browser.one("#table").is_displayed()
    browser.screenshot("damaged-print")
    assert browser.printed().startswith(b"%PDF")


def test_without_javascript_everything_is_there(browser: Browser, written: Pages) -> None:
    browser.allow_scripts(False)
    browser.open(written["damaged"])
    assert len(browser.all("#table tbody tr")) == 167
    assert len(browser.all("#findings article")) > 5
    assert len(browser.all("figure svg")) >= 5
    assert all(not controls.is_displayed() for controls in browser.all(".controls"))
    title = browser.one(".cell.error title").get_attribute("textContent") or ""
    assert "inconsistent, layout shared-tail" in title
    browser.screenshot("damaged-without-javascript")


# The table.


def test_a_click_on_a_header_sorts_and_another_one_turns_it(
    browser: Browser, written: Pages
) -> None:
    browser.open(written["damaged"])
    header = browser.one("th[data-key=reuse_frame]")
    header.find_element(By.TAG_NAME, "button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(browser, "reuse_frame")[0] == NOTHING
    header.find_element(By.TAG_NAME, "button").click()
    assert header.get_attribute("aria-sort") == "descending"
    frames = [int(text, 16) for text in column(browser, "reuse_frame")]
    assert frames == sorted(frames, reverse=True)
    assert len(browser.all("th[aria-sort]")) == 1


def test_numbers_sort_as_numbers_and_words_as_words(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    for key in ("freed", "verdict"):
        button = browser.one(f"th[data-key={key}] button")
        button.click()
        button.click()
    verdicts = column(browser, "verdict")
    assert verdicts == sorted(verdicts, reverse=True)
    button = browser.one("th[data-key=freed] button")
    button.click()
    button.click()
    freed = [int(text) for text in column(browser, "freed")]
    assert freed == sorted(freed, reverse=True)
    assert freed[0] > 1000


def test_a_search_finds_words_and_pfns(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    search(browser, "inconsistent", "Folios 1 to 3 of 3 that match, of 167.")
    assert set(column(browser, "verdict")) == {"inconsistent"}
    search(browser, "node1 opt", "Folios 1 to 64 of 64")
    assert set(column(browser, "node")) == {"1"}
    # Any PFN within a folio, or its reuse frame.
    search(browser, hex(FIRST_FOLIO + 3 * 512 + 77), "Folios 1 to 1 of 1")
    assert column(browser, "pfn") == [hex(FIRST_FOLIO + 3 * 512)]
    search(browser, f"{FIRST_FOLIO:#x}-{FIRST_FOLIO + 512:#x}", "Folios 1 to 2 of 2")
    search(browser, "0xfffffffff", "No folio matches")
    assert browser.texts("#table tbody tr") == []
    search(browser, "", "Folios 1 to 100 of 167.")


def test_pages_of_the_table_are_turned(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    browser.one("[data-step=next]").click()
    browser.wait_for("#status", "Folios 101 to 167 of 167.")
    assert len(browser.all("#table tbody tr")) == 67
    assert not browser.one("[data-step=next]").is_enabled()
    browser.one("[data-step=first]").click()
    browser.wait_for("#status", "Folios 1 to 100 of 167.")


def test_the_table_is_used_by_keys_alone(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    keys = ActionChains(browser.driver)
    keys.send_keys(Keys.TAB).perform()
    assert browser.run("return document.activeElement.className") == "skip"
    keys.send_keys(Keys.ENTER).perform()
    keys.send_keys(Keys.TAB).perform()
    assert browser.run("return document.activeElement.id") == "search"
    keys.send_keys("unreadable").perform()
    browser.wait_for("#status", "Folios 1 to 2 of 2")
    keys.send_keys(Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    header = browser.one("th[data-key=pfn]")
    assert header.get_attribute("aria-sort") == "descending"
    assert browser.run("return document.activeElement.matches('th button:focus-visible')")


def test_a_finding_leads_to_its_folio(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    pfn = hex(FIRST_FOLIO + 5 * 512)
    browser.one(f"#findings a[data-search='{pfn}']").click()
    browser.wait_for("#status", "Folios 1 to 1 of 1")
    assert column(browser, "pfn") == [pfn]
    assert browser.one("#table").is_displayed()


def test_half_a_million_folios_can_be_used(browser: Browser, written: Pages) -> None:
    browser.open(written["many"])
    browser.wait_for("#status", "Folios 1 to 100 of 500,000.")
    search(browser, "inconsistent", "Folios 1 to 50 of 50 that match, of 500,000.")
    search(browser, "", "Folios 1 to 100 of 500,000.")
    took = browser.run("""
        const started = performance.now();
        document.querySelector("th[data-key=reuse_frame] button").click();
        return performance.now() - started;
    """)
    # Half a second here; a machine under load has its time.
    assert took < 10_000
    assert column(browser, "reuse_frame")[0] == NOTHING


# The map.


def test_a_cell_says_what_it_is_when_pointed_at(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    tooltip = browser.one("#tooltip")
    assert not tooltip.is_displayed()
    cell = browser.one(f".cell[data-pfn='{FIRST_FOLIO + 5 * 512}']")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", cell)
    ActionChains(browser.driver).move_to_element(cell).perform()
    assert tooltip.is_displayed()
    assert tooltip.text.startswith("PFN 0x8a00 to 0x8bff, 2 MiB: hugepages-2048kB, node 0, free")
    assert "findings: 1" in tooltip.text
    browser.screenshot("damaged-hover")
    ActionChains(browser.driver).move_to_element(browser.one("#map-title")).perform()
    assert not tooltip.is_displayed()


def test_a_click_opens_a_row_then_finds_the_folio(browser: Browser, written: Pages) -> None:
    browser.open(written["many"])
    whole = browser.texts("#map-picture text")
    cell = browser.one(".cell.error")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.click()
    assert browser.one("#map-view").text.endswith("16 GiB; a cell is 4 MiB.")
    cell = browser.one(".cell.error")
    cell.click()
    assert browser.one("#map-view").text.endswith("256 MiB; a cell is 2 MiB.")
    browser.one(".cell.error").click()
    assert browser.one("#map-view").text.endswith("128 MiB; a cell is 2 MiB.")
    browser.screenshot("many-zoomed")
    last = browser.one(".cell.error")
    pfn = int(last.get_attribute("data-pfn") or "")
    assert hex(pfn) in browser.texts("#map-picture .name")
    last.click()
    browser.wait_for("#status", "Folios 1 to 1 of 1")
    assert column(browser, "pfn") == [hex(pfn)]
    assert column(browser, "verdict") == ["inconsistent"]
    browser.one("[data-zoom=whole]").click()
    assert browser.one("#map-view").text == "This is the whole map."
    assert browser.texts("#map-picture text") == whole


def test_the_parts_of_the_map_add_up_to_the_whole(browser: Browser, written: Pages) -> None:
    """The script draws a part as the page has the whole."""
    browser.open(written["damaged"])
    of_row = """
        const cells = [...document.querySelectorAll(".cell")];
        return cells.filter((cell) => cell.dataset.pfn >>> 15 === 1)
            .map((cell) => [cell.dataset.text, cell.getAttribute("class")]);
    """
    whole = browser.run(of_row)
    assert len(whole) == 64
    frame = browser.one("#map-frame")
    frame.send_keys(Keys.ENTER)
    assert browser.one("#map-view").text.endswith("128 MiB; a cell is 2 MiB.")
    assert browser.run(of_row) == whole
    assert len(browser.all(".cell")) == 64


def test_the_map_is_used_by_keys_alone(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    frame, output = browser.one("#map-frame"), browser.one("#map-output")
    frame.send_keys(Keys.ARROW_RIGHT)
    assert output.text.startswith("PFN 0x8000 to 0x81ff")
    frame.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert output.text.startswith("PFN 0x8200 to 0x83ff")
    assert browser.one("#tooltip").text == output.text
    frame.send_keys(Keys.ARROW_DOWN)
    assert output.text.startswith("PFN 0x10200 to 0x103ff")
    frame.send_keys(Keys.ARROW_UP, Keys.ENTER)
    assert "PFN 0x8000 to 0xffff" in browser.one("#map-view").text
    assert output.text.startswith("PFN 0x8200 to 0x83ff")
    frame.send_keys(Keys.ARROW_DOWN)
    assert output.text.startswith("PFN 0xa200 to 0xa3ff")
    frame.send_keys(Keys.ENTER)
    browser.wait_for("#status", "Folios 1 to 1 of 1")
    assert browser.run("return document.activeElement.id") == "search"
    frame.send_keys(Keys.ESCAPE)
    assert browser.one("#map-view").text == "This is the whole map."


def test_a_part_of_a_1_gib_folio_is_drawn(browser: Browser, written: Pages) -> None:
    browser.open(written["damaged"])
    cell = browser.one(f".cell[data-pfn='{(2 << 18) + (3 << 15)}']")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.click()
    part = (2 << 18) + (3 << 15)
    cells = [hex(part + 0x200 * number) for number in range(64)]
    assert browser.texts("#map-picture .name") == cells
    said = browser.run("return document.querySelector('.cell').dataset.text")
    assert "hugepages-1048576kB, node 0, free, inconsistent" in said


# What a dump can do.


def test_nothing_that_a_dump_says_is_run(browser: Browser, written: Pages) -> None:
    browser.open(written["hostile"])
    assert browser.all("img") == []
    assert HOSTILE in column(browser, "hstate")
    search(browser, HOSTILE.lower(), "No folio matches")
    search(browser, HOSTILE.split()[0], "Folios 1 to 1 of 1")
    browser.one("#map-frame").send_keys(Keys.ARROW_RIGHT)
    assert HOSTILE in browser.one("#tooltip").text
    browser.one("#map-frame").send_keys(Keys.ENTER)
    browser.one("#map-frame").send_keys(Keys.ARROW_RIGHT)
    assert HOSTILE in browser.one("#map-output").text
    assert browser.all("img") == []
