"""The report in a real browser: what is seen is what was recorded, and nobody is asked for it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ondevice.display import format_bytes
from ondevice.html_report.page import write_report
from recorded_folder import CLASS_NAMES, eventful_run, report_summary, write_folder

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no browser: chromium and chromedriver are not installed",
)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

DARK = [{"name": "prefers-color-scheme", "value": "dark"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "20261126-120000-toy"
    write_folder(path, eventful_run(), summary=report_summary())
    write_report(path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.add_argument("about:blank")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(executable_path=str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((folder / "report.html").as_uri())
    return browser


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())",
        selector,
    )
    return found


def test_nothing_is_asked_for_but_the_file_itself_and_no_error_is_logged(
    page: Any, folder: Path
) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser's own first tab is not of the report.
    asked = [r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome:")]
    assert asked == [(folder / "report.html").as_uri()]
    assert page.get_log("browser") == []


def test_the_figures_that_are_seen_are_those_of_the_summary(page: Any, folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("accuracy_before", "accuracy_after"):
        assert texts(page, f"[data-figure={name}]") == [f"{100 * summary[name]:.1f} %"]
    for name in ("loss_before", "loss_after"):
        assert texts(page, f"[data-figure={name}]") == [f"{summary[name]:.4f}"]
    for name in ("ram_bytes", "arena_planned_bytes", "arena_measured_bytes", "flash_bytes"):
        assert texts(page, f"[data-figure={name}]") == [format_bytes(summary[name])]
    for name in ("count_per_step", "steps"):
        assert texts(page, f"[data-figure={name}]") == [f"{summary[name]:,.0f}"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_confusion_matrix_that_is_seen_is_the_recorded_one(
    page: Any, folder: Path, moment: str
) -> None:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    (matrix,) = (r["confusion"] for r in records if r.get("moment") == moment)
    table = f"table.matrix[data-moment={moment}]"
    cells = texts(page, f"{table} tbody td")
    assert cells == [str(count) for row in matrix for count in row]
    assert texts(page, f"{table} tbody th") == list(CLASS_NAMES)
    assert texts(page, f"{table} thead th") == list(CLASS_NAMES)
    # The right answers are as blue as the share of the row says.
    shares = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => "
        "getComputedStyle(e).backgroundColor)",
        f"{table} td.right",
    )
    assert len(set(shares)) == len({row[i] / sum(row) for i, row in enumerate(matrix)})


def test_a_click_on_a_heading_sorts_and_another_one_turns_round(page: Any) -> None:
    from selenium.webdriver.common.by import By

    def column() -> list[str]:
        return texts(page, "#operator-table tbody td:nth-child(5)")

    assert column() == ["50", "20", "25"]  # in the order of the step, also without JavaScript
    heading = page.find_element(By.CSS_SELECTOR, "#operator-table th:nth-child(5)")
    heading.find_element(By.TAG_NAME, "button").click()
    assert column() == ["50", "25", "20"]
    assert heading.get_attribute("aria-sort") == "descending"
    heading.find_element(By.TAG_NAME, "button").click()
    assert column() == ["20", "25", "50"]
    assert heading.get_attribute("aria-sort") == "ascending"
    page.find_element(By.CSS_SELECTOR, "#operator-table th:nth-child(2) button").click()
    assert texts(page, "#operator-table tbody th") == [
        *("forward/fc", "loss/d.fc", "update/fc.weight"),
    ]


def test_every_chart_has_a_size_a_title_and_something_in_it(page: Any) -> None:
    charts = page.execute_script(
        "return [...document.querySelectorAll('svg[role=img]')].map(svg => {"
        "const box = svg.getBoundingClientRect();"
        "const marks = [...svg.querySelectorAll('path, rect')].map(e => e.getBoundingClientRect());"
        "return [svg.querySelector('title').textContent, svg.querySelector('desc').textContent,"
        "  box.width, box.height, Math.max(...marks.map(b => b.width)),"
        "  marks.every(b => b.left >= box.left - 1 && b.right <= box.right + 1"
        "    && b.top >= box.top - 1 && b.bottom <= box.bottom + 1)]})"
    )
    assert [chart[0] for chart in charts] == [
        *("Loss", "Accuracy", "Learning rate", "Instructions a training step"),
        "The arena over one training step",
        "Gradient elements that int8 does not hold",
    ]
    for title, words, width, height, widest, inside in charts:
        assert words, title
        assert width > 300, title
        assert height > 150, title
        assert widest > width / 3, title
        assert inside, title


def test_a_phone_shows_the_page_without_scrolling_sideways(page: Any) -> None:
    try:
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 400, "height": 800, "deviceScaleFactor": 2, "mobile": True},
        )
        page.refresh()
        assert page.execute_script("return document.documentElement.scrollWidth") <= 400
        # What is wider scrolls in a region of its own that the keyboard reaches.
        assert page.execute_script(
            "return [...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)"
        )
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_printed_page_cuts_nothing_off(page: Any) -> None:
    try:
        page.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": False},  # A4
        )
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        page.refresh()
        assert page.execute_script("return document.documentElement.scrollWidth") <= 794
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": DARK})
        ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"  # paper is white, whatever the screen is
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(page: Any, scheme: str) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    style = (
        "const s = getComputedStyle(document.documentElement);"
        "return Object.fromEntries(arguments[0].map(n => [n, s.getPropertyValue('--' + n)]))"
    )
    inks = ("ink", "soft", "c1", "c2", "c3", "c4", "c5")
    colours = page.execute_script(style, ["card", "page", *inks])
    assert (luminance(colours["card"]) < 0.5) == (scheme == "dark")
    for name in inks:
        needed = 4.5 if name in ("ink", "soft", "c1") else 3.0  # WCAG 2: text; pictures
        for ground in ("card", "page"):
            assert contrast(colours[name], colours[ground]) >= needed, (name, ground)
    body = page.execute_script("return getComputedStyle(document.body).color")
    assert body == "rgb({}, {}, {})".format(*channels(colours["ink"]))


def channels(colour: str) -> tuple[int, int, int]:
    digits = colour.strip().removeprefix("#")
    red, green, blue = (int(digits[i : i + 2], 16) for i in (0, 2, 4))
    return red, green, blue


def luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
