"""The page of the results, opened from disk in a real browser; skipped where there is none."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from browser import Page, Scheme, count_coloured, count_colours, launch_browser, measure_brightness
from playwright.sync_api import Browser, Locator, expect
from workspace import check_out

pytestmark = pytest.mark.ci
expect.set_options(timeout=20_000)

PAGE = check_out().root / "reports/index.html"
TABLES = "table:not(#vg-tooltip-element table)"
ENTRIES = ".role-legend-entry:has(.role-legend-symbol) .role-legend-label text"
"""Names of series in a legend, not the numbers along a band of colours."""
OWN_WORDS = ("chart-linear-", "chart-audit-")
"""Charts of studies whose marks are no runs, or of one run each."""
LINES = ".mark-line.role-mark path"
HIDDEN = ".role-mark path[opacity='0']"
DARK_INK = "#e8e8e8"
PHONE, DESKTOP = 360, 1440
SIDEWAYS = """[...document.querySelectorAll('body *')].filter(element =>
    element.scrollWidth > element.clientWidth && /auto|scroll/.test(getComputedStyle(element).overflowX))"""
"""Elements that scroll sideways."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_browser() as browser:
        yield browser


def charts_of(page: Page) -> list[Locator]:
    """All charts, once they are drawn: unfolded and looked at, in case that the page waits for it."""
    page.open_details()
    charts = page.find(".chart")
    assert charts
    list(draw_charts(charts))
    page.rest()
    return charts


def draw_charts(charts: Iterable[Locator]) -> Iterator[Locator]:
    """Charts, each once it is looked at and drawn."""
    for chart in charts:
        chart.scroll_into_view_if_needed()
        chart.locator("svg.marks").first.wait_for()
        yield chart


def find_series(page: Page) -> tuple[Locator, Locator]:
    """The first chart with buttons for its series, and its first button; what comes after it is not drawn."""
    page.open_details()
    for chart in draw_charts(page.find(".chart")):
        page.rest()
        buttons = chart.locator("xpath=following-sibling::div[contains(@class, 'series')]").locator("button")
        if buttons.count():
            return chart, buttons.first
    raise AssertionError("no chart has series")


Opener = Callable[[int, Scheme], Page]


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Iterator[Opener]:
    """Pages by width and scheme, with everything unfolded and drawn; for tests that change nothing."""
    with ExitStack() as pages:

        @cache
        def open_page(width: int, scheme: Scheme) -> Page:
            page = pages.enter_context(Page(browser, PAGE, width, scheme))
            charts_of(page)
            return page

        yield open_page


@pytest.fixture(scope="module")
def page(opened: Opener) -> Page:
    """On a desktop, light."""
    return opened(DESKTOP, "light")


# ---- One file --------------------------------------------------------------------------------------------------------


def test_it_asks_for_nothing_but_itself(page: Page):
    assert page.requested == [PAGE.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_its_console_is_silent(opened: Opener, width: int, scheme: Scheme):
    assert opened(width, scheme).said == []


def test_its_links_lead_somewhere(page: Page):
    links = page.run("[...document.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))")
    assert links
    for link in links:
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "mailto"):
            continue
        assert not (parts.scheme or parts.netloc or parts.path.startswith("/")), f"{link} is not relative"
        if parts.path:
            assert (PAGE.parent / unquote(parts.path)).exists(), f"{link} leads nowhere"
        elif parts.fragment:
            found = page.run("name => document.getElementById(name) !== null", unquote(parts.fragment))
            assert found, f"{link} leads nowhere"


def test_no_id_is_given_twice(page: Page):
    ids = page.run("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert [name for name, times in Counter(ids).items() if times > 1] == []


# ---- Charts ----------------------------------------------------------------------------------------------------------


def marks_of(chart: Locator) -> list[tuple[float, float, float, float]]:
    """Where in the window the first points or cells of each kind are: left, top, right, bottom."""
    return chart.evaluate(
        """chart => [...chart.querySelectorAll('.mark-symbol.role-mark, .mark-rect.role-mark')]
            .flatMap(group => [...group.querySelectorAll('path')].slice(0, 5))
            .map(mark => mark.getBoundingClientRect())
            .filter(box => Math.min(box.width, box.height) > 2)
            .map(box => [box.left, box.top, box.right, box.bottom])"""
    )


def test_every_chart_is_drawn(page: Page):
    for chart in page.find(".chart"):
        box = chart.locator("svg.marks").bounding_box()
        assert box is not None and box["width"] > 100 and box["height"] > 50
        pixels = page.take_picture(chart)
        assert count_colours(pixels) > 8
        box, marks = chart.bounding_box(), np.array(marks_of(chart))
        if not marks.size:
            assert chart.locator(LINES).count()  # of lines alone
            continue
        left, top = np.floor(marks[:, :2].min(axis=0) - (box["x"], box["y"])).astype(int)
        right, bottom = np.ceil(marks[:, 2:].max(axis=0) - (box["x"], box["y"])).astype(int)
        assert count_coloured(pixels[top:bottom, left:right]) > min(50, 4 * len(marks))  # small dots, maybe few


def hover(page: Page, x: float, y: float) -> dict[str, str]:
    """The tooltip there, as rows by their names; empty if there is none."""
    page.view.mouse.move(x, y)
    return page.run(
        """() => Object.fromEntries([...document.querySelectorAll('#vg-tooltip-element.visible tr')].map(
            row => [...row.cells].map(cell => cell.innerText.trim())))"""
    )


def test_a_mark_says_its_arm_seed_and_value(page: Page):
    """A point does, or over how many seeds it is a mean; so may a cell be."""
    for chart in page.find(".chart"):
        chart.scroll_into_view_if_needed()
        if not (boxes := marks_of(chart)) and chart.locator(LINES).count():
            continue
        tooltips = [hover(page, (left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
        needed = {"seed", "n"} if chart.locator(".mark-symbol.role-mark").count() else {"arm"}
        told = [tooltip for tooltip in tooltips if tooltip]
        complete = [tooltip for tooltip in told if "arm" in tooltip and needed & tooltip.keys()]
        if str(chart.get_attribute("id")).startswith(OWN_WORDS):
            complete = complete or told
        assert complete, f"no mark of the chart has its arm and one of {needed} in its tooltip: {tooltips}"
        for tooltip in complete:
            assert tooltip.pop("arm", "a chart of a study's own")
            assert tooltip.pop("seed", "0").isdigit()
            assert any(re.match(r"[-−+]?\d", value) for value in tooltip.values()), f"no value: {tooltip}"
    page.rest()
    assert not page.view.locator("#vg-tooltip-element.visible").is_visible()
    assert page.said == []


def test_a_click_in_the_legend_hides_a_series(browser: Browser):
    with Page(browser, PAGE) as page:
        picked = 0
        for chart in charts_of(page):
            for entry in chart.locator(ENTRIES).all()[:1]:  # what hides the others is the next test but two's
                before = page.take_picture(chart)
                entry.click()
                page.rest()
                after = page.take_picture(chart)
                assert before.shape == after.shape
                hidden = np.count_nonzero((before != after).any(axis=-1))
                assert hidden > 20
                entry.click()
                page.rest()
                again = page.take_picture(chart)
                assert np.count_nonzero((before != again).any(axis=-1)) < hidden / 3  # shown again, but for edges
                picked += 1
        assert picked > 4
        assert page.said == []


# ---- The remedies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "columns"), [(PHONE, 1), (768, 2), (DESKTOP, 4)])
def test_designs_stand_side_by_side_where_there_is_room_with_their_rows_aligned(
    opened: Opener, width: int, columns: int
):
    schematics = opened(width, "light").find(".designs")
    assert schematics
    for schematic in schematics:
        designs = schematic.locator(".design").all()
        assert len(designs) == 4
        tops = [[part.bounding_box()["y"] for part in design.locator(".branch, .norm, dl").all()] for design in designs]
        for index, row in enumerate(tops):
            assert row == pytest.approx(tops[index - index % columns], abs=0.5)
        assert len({row[0] for row in tops}) == 4 // columns


def test_what_a_remedy_changes_is_told_by_a_word_and_a_frame(page: Page):
    marked = page.find(".design .added, .design .changed, .design .removed")
    assert marked
    for element in marked:
        assert element.locator(".badge").inner_text() in ("added", "changed", "removed")
        assert element.evaluate("element => parseFloat(getComputedStyle(element).outlineWidth)") >= 2
    assert len(page.find(".badge")) == len(marked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_branches_have_pictures_in_colours_of_their_own(opened: Opener, scheme: Scheme):
    page = opened(DESKTOP, scheme)
    for kind in ("convolution", "channel", "position"):
        glyph = page.view.locator(f".{kind} .glyph").first
        assert count_coloured(page.take_picture(glyph)) > 50, kind


def count_hidden(chart: Locator) -> int:
    """Marks that are drawn, but cannot be seen."""
    return chart.locator(HIDDEN).count()


def press_tab_until(page: Page, element: Locator) -> None:
    """Go on with the Tab key until the element has the focus."""
    for _ in range(200):
        if element.evaluate("element => element === document.activeElement"):
            return
        page.view.keyboard.press("Tab")
    raise AssertionError("Tab does not get there")


def test_every_legend_of_series_has_buttons(page: Page):
    titles = set()
    for chart in page.find(".chart"):
        names = [name.text_content() for name in chart.locator(ENTRIES).all()]
        group = page.view.get_by_role("group", name=f"Series of {chart.get_attribute('aria-label')}", exact=True)
        assert [button.text_content() for button in group.get_by_role("button").all()] == names
        titles.add(chart.get_attribute("aria-label"))
        assert chart.get_attribute("role") == "graphics-document"
    assert len(titles) == len(page.find(".chart"))
    assert len(page.find(".series")) > 2


def test_keys_hide_a_series(browser: Browser):
    with Page(browser, PAGE, PHONE) as page:
        chart, button = find_series(page)
        press_tab_until(page, button)
        for key in ("Space", "Enter"):
            assert (button.get_attribute("aria-pressed"), count_hidden(chart)) == ("true", 0)
            page.view.keyboard.press(key)
            page.rest()
            assert button.get_attribute("aria-pressed") == "false"
            assert count_hidden(chart) > 2
            page.view.keyboard.press(key)
            page.rest()
        assert (button.get_attribute("aria-pressed"), count_hidden(chart)) == ("true", 0)
        page.view.keyboard.press("Space")
        assert page.list_violations(".series") == []
        assert page.said == []


def test_legend_and_buttons_show_the_same(browser: Browser):
    with Page(browser, PAGE) as page:
        charts = [chart for chart in charts_of(page) if chart.locator(ENTRIES).count() > 1]
        assert charts
        for chart in charts:
            first, second = chart.locator("xpath=following-sibling::div").locator("button").all()[:2]
            entry = chart.locator(ENTRIES).first
            entry.click()
            page.rest()
            assert [button.get_attribute("aria-pressed") for button in (first, second)] == ["false", "true"]
            hidden = count_hidden(chart)
            second.click()
            page.rest()
            assert count_hidden(chart) > hidden > 0
            entry.click()
            page.rest()
            assert [button.get_attribute("aria-pressed") for button in (first, second)] == ["true", "false"]
            assert count_hidden(chart) > 0
        assert page.said == []


def test_what_is_hidden_stays_hidden_when_the_scheme_changes(browser: Browser):
    with Page(browser, PAGE) as page:
        chart, button = find_series(page)
        button.click()
        page.rest()
        hidden = count_hidden(chart)
        page.view.emulate_media(color_scheme="dark")
        chart.locator(f"text[fill='{DARK_INK}']").first.wait_for()
        expect(chart.locator(HIDDEN)).to_have_count(hidden)
        assert hidden > 0
        assert button.get_attribute("aria-pressed") == "false"
        button.click()
        page.rest()
        assert count_hidden(chart) == 0


# ---- Folds, contents, tables, downloads ------------------------------------------------------------------------------


def test_folded_the_page_is_short_and_a_link_into_a_fold_opens_it(browser: Browser):
    with Page(browser, PAGE) as page:
        assert page.run("document.documentElement.scrollHeight") < 16_000
        section = page.view.locator("#table1")
        assert not section.is_visible()
        page.run("location.hash = '#table1'")
        expect(section).to_be_in_viewport()
        page.run("location.hash = '#curves'")
        expect(page.view.locator("#curves .chart svg.marks").first).to_be_visible()
        assert page.said == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_contents_follow_the_reading(browser: Browser, width: int):
    with Page(browser, PAGE, width) as page:
        current = page.view.locator("nav a[aria-current=true]")
        expect(current).to_have_text("The answer")
        for name in ("claims", "study-node", "claims"):
            page.run("name => document.getElementById(name).scrollIntoView()", name)
            link = page.view.locator(f"nav a[href='#{name}']")
            expect(link).to_have_attribute("aria-current", "true")
            expect(link).to_be_in_viewport()
            expect(current).to_have_count(1)


def test_a_table_is_sorted_by_a_click_on_a_header(browser: Browser):
    with Page(browser, PAGE) as page:
        table = page.view.locator("table.claims")
        header = table.locator("th", has_text=re.compile("^n$"))
        cells = "(table, column) => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[column].innerText))"
        before = table.evaluate(f"table => ({cells})(table, 6)")
        for direction in ("ascending", "descending"):
            header.get_by_role("button").click()
            assert header.get_attribute("aria-sort") == direction
            after = table.evaluate(f"table => ({cells})(table, 6)")
            assert after == sorted(before, reverse=direction == "descending")


def test_a_chart_is_saved_as_a_picture_and_its_data(browser: Browser):
    with Page(browser, PAGE) as page:
        figure = page.view.locator("figure", has=page.view.locator("#chart-timetest-there_and_back"))
        contents = {}
        for button in figure.locator(".downloads button").all():
            with page.view.expect_download() as found:
                button.click()
            contents[found.value.suggested_filename] = found.value.path().read_text(encoding="utf-8")
        assert list(contents) == ["timetest-there_and_back.svg", "timetest-there_and_back.csv"]
        picture, data = contents.values()
        assert picture.startswith("<svg")
        assert "R = error / floor" in picture
        rows = list(csv.DictReader(io.StringIO(data)))
        assert {"arm", "seed", "value", "mean", "low", "high", "n"} <= set(rows[0])
        assert {row["seed"] for row in rows if row["value"]} == {"0", "1", "2", "3", "4"}


def test_no_table_or_chart_is_cut_on_a_desktop(page: Page):
    cut = "[...document.querySelectorAll('.scroll')].filter(element => element.scrollWidth > element.clientWidth)"
    assert page.run(f"{cut}.map(element => element.getAttribute('aria-label'))") == []


# ---- Windows, schemes, paper -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [PHONE, 768, DESKTOP])
def test_nothing_is_wider_than_the_window(opened: Opener, width: int):
    page = opened(width, "light")
    wide = page.run(
        f"""(() => {{
            const sideways = {SIDEWAYS};
            return [...document.querySelectorAll('body *')].filter(element =>
                element.getBoundingClientRect().right > innerWidth + 0.5
                && !sideways.some(container => container !== element && container.contains(element))
            ).map(element => element.outerHTML.slice(0, 150));
        }})()"""
    )
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), wide


def test_what_scrolls_sideways_can_be_scrolled_with_keys(opened: Opener):
    found = opened(PHONE, "light").run(
        f"""{SIDEWAYS}.map(element => [element.tabIndex, element.getAttribute('role'),
            (element.getAttribute('aria-label') ?? '') !== '' || element.hasAttribute('aria-labelledby'),
            element.outerHTML.slice(0, 150)])"""
    )
    assert found
    for index, role, named, html in found:
        assert index == 0 and role in ("region", "group") and named, html


@pytest.mark.parametrize(("scheme", "width"), [("light", DESKTOP), ("dark", PHONE)])
def test_axe_finds_nothing_serious(opened: Opener, scheme: Scheme, width: int):
    assert opened(width, scheme).list_violations() == []


def test_dark_is_dark(opened: Opener):
    brightness = {}
    for scheme in ("light", "dark"):
        page = opened(DESKTOP, scheme)
        page.run("scrollTo(0, 0)")
        pictures = [page.take_picture(), *map(page.take_picture, page.find(".chart"))]
        brightness[scheme] = [measure_brightness(picture) for picture in pictures]
    assert min(brightness["light"]) > 170
    assert max(brightness["dark"]) < 85


def test_the_scheme_may_change_while_the_page_is_open(browser: Browser, opened: Opener):
    expected = opened(DESKTOP, "dark")
    with Page(browser, PAGE) as page:
        charts = charts_of(page)
        page.view.emulate_media(color_scheme="dark")
        for chart, other in zip(charts, expected.find(".chart"), strict=True):
            picture = expected.take_picture(other)
            for _ in range(20):
                if (different := (picture != page.take_picture(chart)).any(axis=-1).mean()) < 0.01:
                    break
                page.view.wait_for_timeout(200)
            assert different < 0.01
        assert page.said == []


def test_paper(browser: Browser):
    with Page(browser, PAGE) as page:
        charts_of(page)
        page.view.emulate_media(media="print")
        page.view.set_viewport_size({"width": 794, "height": 1123})  # A4
        assert all(table.is_visible() for table in page.find(TABLES))
        charts = charts_of(page)
        boxes = [chart.locator("svg.marks").bounding_box() for chart in charts]
        assert all(box is not None and box["x"] + box["width"] <= 794 for box in boxes)
        for chart in charts[::5]:  # a second each
            assert count_coloured(page.take_picture(chart)) > 50
        assert not any(buttons.is_visible() for buttons in page.find(".series"))
        assert measure_brightness(page.take_picture()) > 170
        assert page.view.pdf(format="A4", print_background=True).startswith(b"%PDF")
        assert page.said == []


# ---- Without sight, without scripts ----------------------------------------------------------------------------------


def test_every_picture_has_a_text(page: Page):
    for html, text in page.run("[...document.images].map(image => [image.outerHTML.slice(0, 150), image.alt])"):
        assert text.strip(), html


def test_every_table_has_headers(page: Page):
    tables = page.find(TABLES)
    assert tables
    for table in tables:
        scopes = table.locator("th").evaluate_all("headers => headers.map(header => header.getAttribute('scope'))")
        assert scopes
        assert set(scopes) <= {"col", "row", "colgroup", "rowgroup"}, table.evaluate("table => table.outerHTML")[:500]


def test_without_scripts_tables_and_pictures_are_there(browser: Browser, page: Page):
    with Page(browser, PAGE, script=False) as plain:
        plain.open_details()
        tables = plain.find(TABLES)
        assert len(tables) == len(page.find(TABLES))
        assert all(table.is_visible() for table in tables)
        for image in plain.find("img"):
            assert image.evaluate("image => image.complete && image.naturalWidth > 0")
        boxes = [(picture, picture.bounding_box()) for picture in plain.find("img, svg:not(svg svg)")]
        pictures = [picture for picture, box in boxes if box and min(box["width"], box["height"]) > 50]
        assert len(pictures) >= len(page.find(".chart"))
        for picture in pictures[::3]:  # a quarter of a second each
            assert count_colours(plain.take_picture(picture)) > 8
        assert plain.find(".series, button") == []
        assert plain.requested == [PAGE.as_uri()]
        assert plain.said == []
