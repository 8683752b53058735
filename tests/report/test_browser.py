"""The page in a browser: charts, sliders, sorting, and its look on a phone and printed."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: apt install chromium"
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 420, "height": 900}
TIMEOUT = 120_000  # ms


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(everything: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(everything, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page on a desktop; a test may move its controls."""
    page = browser.new_page(viewport=DESKTOP)
    opened(page, address)
    yield page
    page.close()


def opened(page: Page, address: str) -> None:
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("html.drawn", state="attached")


def texts(page: Page, chart: str) -> list[str]:
    """Return the texts that a chart's marks say to screen readers."""
    found = page.locator(f'[data-chart="{chart}"] text[aria-label]')
    return [str(text.get_attribute("aria-label")) for text in found.all()]


def move(page: Page, control: str, value: str) -> None:
    """Move a slider, and wait until the charts follow."""
    before = page.locator("#said").inner_text()
    page.locator(f"#{control}").fill(value)
    page.wait_for_function("before => document.querySelector('#said').textContent !== before",
                           arg=before)  # fmt: skip


def order(page: Page) -> list[str]:
    return page.locator(".systems tbody .name").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_silent_asks_for_nothing_and_nothing_overflows(
    browser: Browser, address: str, size: dict[str, int], scheme: str
) -> None:
    page = browser.new_page(viewport=size, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    opened(page, address)
    assert [line for line in said if line != address and not line.startswith("data:")] == []
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    # What is wider than its parent can at least be scrolled.
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, svg, .hidden')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    page.close()


def test_on_a_phone_no_figure_of_the_table_is_cut_off(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport=PHONE)
    opened(page, address)
    rights = page.evaluate(
        "[...document.querySelectorAll('.cards td, .cards th')]"
        ".map((cell) => cell.getBoundingClientRect().right)"
    )
    assert max(rights) <= PHONE["width"]
    page.close()


def test_every_chart_is_drawn(page: Page) -> None:
    charts = page.locator("[data-chart]")
    assert charts.count() > 10
    assert page.locator("[data-chart] svg").count() == charts.count()
    described = page.locator('[data-chart][role="graphics-document"][aria-label]')
    assert described.count() == charts.count()


def test_colours_are_those_of_the_scheme(browser: Browser, address: str) -> None:
    found = []
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=DESKTOP, color_scheme=scheme)
        opened(page, address)
        found.append(
            page.evaluate(
                "getComputedStyle(document.querySelector('[data-chart=roc] .mark-line path'))"
                ".stroke"
            )
        )
        page.close()
    assert found == ["rgb(31, 95, 168)", "rgb(127, 179, 238)"]


def test_the_slider_moves_the_confusion_matrix(page: Page) -> None:
    move(page, "threshold", "0")
    assert texts(page, "confusion") != []
    counts = {text.split(" ", 1)[1]: int(text.split()[0]) for text in texts(page, "confusion")}
    assert counts["NORMAL called NORMAL"] == counts["PNEUMONIA called NORMAL"] == 0
    # Everybody is called ill: PPV is the prevalence, and there is no NPV.
    assert "sensitivity 1.000" in texts(page, "rates")
    assert "PPV 0.300" in texts(page, "rates")
    assert "NPV ?" in texts(page, "rates")
    move(page, "prevalence", "0.6")
    assert "PPV 0.600" in texts(page, "rates")
    move(page, "threshold", "1")
    assert "specificity 1.000" in texts(page, "rates")
    assert page.locator('output[data-of="threshold"]').inner_text() == "1.000"


def test_another_system_starts_at_its_own_threshold(page: Page) -> None:
    move(page, "threshold", "0")
    page.locator("#system").select_option("vgg16_scratch")
    row = page.locator(".systems tbody tr", has_text="vgg16_scratch")
    own = float(row.locator('[data-label="Threshold"]').inner_text().split()[0])
    page.wait_for_function(
        "own => Math.abs(document.querySelector('#threshold').value - own) < 0.006", arg=own
    )
    sensitivity = row.locator('[data-label="Sensitivity"]').inner_text().split()[0]
    page.wait_for_function(
        "words => document.querySelector('#said').textContent.includes(words)",
        arg=f"sensitivity {sensitivity}",
    )


def test_the_pointer_shows_the_numbers_of_the_nearest_point(page: Page) -> None:
    box = page.locator('[data-chart="roc"] svg').bounding_box()
    assert box is not None
    page.locator('[data-chart="roc"] svg').scroll_into_view_if_needed()
    page.locator('[data-chart="roc"] svg').hover(
        position={"x": 0.5 * box["width"], "y": 0.4 * box["height"]}
    )
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for()
    assert re.search(r"system\s+(probe|vgg16_\w+)\s+threshold\s+[01]\.\d{3}", tooltip.inner_text())


def test_another_measure_of_robustness(page: Page) -> None:
    chart = page.locator('[data-chart="shift-0"]')
    before = chart.inner_html()
    page.locator("#measure").select_option("accuracy")
    page.wait_for_function(
        "before => document.querySelector('[data-chart=shift-0]').innerHTML !== before", arg=before
    )


def test_sorting_by_mouse_and_by_keyboard(page: Page) -> None:
    header = page.locator(".systems thead th", has_text=re.compile("^AUC .$|^AUC$")).first
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    cells = page.locator('.systems tbody [data-label="AUC"][data-order]')
    values = [float(str(cell.get_attribute("data-order"))) for cell in cells.all()]
    assert values == sorted(values, reverse=True)
    best = order(page)
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert order(page) == best[::-1]
    page.keyboard.press("Shift+Tab")  # to the names
    page.keyboard.press("Space")
    assert order(page) == sorted(best, reverse=True)
    assert page.locator("[aria-sort]").count() == 1


def test_unknown_figures_are_sorted_last(page: Page) -> None:
    button = page.locator(".systems thead button", has_text="AUC minus")
    for _ in range(2):
        button.click()
        assert order(page)[-1] == "probe"


def test_it_prints_without_controls_and_in_light_colours(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport=DESKTOP, color_scheme="dark")
    opened(page, address)
    page.emulate_media(media="print")
    assert not page.locator(".controls").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 36, 48)"
    page.close()


def test_without_scripts_the_figures_are_there(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "Yes: pretrained weights" in page.inner_text("h1 + p")
    assert page.locator('.systems [data-label="AUC"]').first.is_visible()
    context.close()


def test_screenshots_can_be_taken(page: Page, tmp_path: Path) -> None:
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert (tmp_path / "report.png").stat().st_size > 50_000
