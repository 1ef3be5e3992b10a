"""The page of the results, opened from disk in a real browser; skipped where there is none."""

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from browser import Page, Scheme, count_coloured, count_colours, launch_browser, measure_brightness
from playwright.sync_api import Browser, Locator
from problems import ROOT

PAGE = ROOT / "reports/index.html"
TABLES = "table:not(#vg-tooltip-element table)"
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
    for chart in charts:
        chart.scroll_into_view_if_needed()
        chart.locator("svg.marks").first.wait_for()
    page.rest()
    return charts


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """On a desktop, with everything unfolded and drawn; for tests that change nothing."""
    with Page(browser, PAGE) as page:
        charts_of(page)
        yield page


# ---- One file --------------------------------------------------------------------------------------------------------


def test_it_asks_for_nothing_but_itself(page: Page):
    assert page.requested == [PAGE.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_its_console_is_silent(browser: Browser, width: int, scheme: Scheme):
    with Page(browser, PAGE, width, scheme) as page:
        charts_of(page)
        assert page.said == []


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


def marks_of(chart: Locator) -> list[Locator]:
    """A few of each kind: runs, means, cells of a heat map. The legend's are none."""
    groups = chart.locator("svg.marks .mark-symbol.role-mark, svg.marks .mark-rect.role-mark").all()
    return [mark for group in groups for mark in group.locator("path").all()[:5]]


def test_every_chart_is_drawn(page: Page):
    for chart in page.find(".chart"):
        box = chart.locator("svg.marks").bounding_box()
        assert box is not None and box["width"] > 100 and box["height"] > 50
        pixels = page.take_picture(chart)
        assert count_colours(pixels) > 8
        assert count_coloured(pixels) > 50
        marks = marks_of(chart)
        assert marks
        for mark in marks:
            assert count_colours(page.take_picture(mark)) > 1


def hover(page: Page, mark: Locator) -> dict[str, str]:
    """The tooltip of a mark, or of what covers it, as rows by their names; empty if there is none."""
    box = mark.bounding_box()
    assert box is not None
    page.view.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    return page.run(
        """() => Object.fromEntries([...document.querySelectorAll('#vg-tooltip-element.visible tr')].map(
            row => [...row.cells].map(cell => cell.innerText.trim())))"""
    )


def test_a_mark_says_its_arm_seed_and_value(browser: Browser):
    with Page(browser, PAGE) as page:
        for chart in charts_of(page):
            chart.scroll_into_view_if_needed()
            tooltips = [hover(page, mark) for mark in marks_of(chart)]
            of = "seed" if chart.locator("svg.marks .mark-symbol.role-mark path").count() else "n"  # a cell is a mean
            seeds = [tooltip for tooltip in tooltips if {"arm", of} <= {name.lower() for name in tooltip}]
            assert seeds, f"no mark of the chart has an arm and a seed in its tooltip: {tooltips}"
            for tooltip in seeds:
                rows = {name.lower(): value for name, value in tooltip.items()}
                assert rows.pop("arm")
                assert rows.pop(of).isdigit()
                assert any(re.match(r"[-−+]?\d", value) for value in rows.values()), f"no value: {tooltip}"
        page.rest()
        assert not page.view.locator("#vg-tooltip-element.visible").is_visible()
        assert page.said == []


def test_a_click_in_the_legend_hides_a_series(browser: Browser):
    with Page(browser, PAGE) as page:
        picked = 0
        for chart in charts_of(page):
            if not chart.locator(".role-legend-symbol path").count():  # the legend of a heat map is a gradient
                continue
            for entry in chart.locator(".role-legend-label text").all()[:2]:
                before = page.take_picture(chart)
                entry.click()
                page.rest()
                after = page.take_picture(chart)
                assert before.shape == after.shape
                assert np.count_nonzero((before != after).any(axis=-1)) > 20
                entry.click()
                page.rest()
                again = page.take_picture(chart)
                assert np.count_nonzero((before != again).any(axis=-1)) < 100  # shown again, but for an edge or two
                picked += 1
        assert picked > 4
        assert page.said == []


# ---- Windows, schemes, paper -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [PHONE, 768, DESKTOP])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int):
    with Page(browser, PAGE, width) as page:
        charts_of(page)
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


def test_what_scrolls_sideways_can_be_scrolled_with_keys(browser: Browser):
    with Page(browser, PAGE, PHONE) as page:
        charts_of(page)
        found = page.run(
            f"""{SIDEWAYS}.map(element => [element.tabIndex, element.getAttribute('role'),
                (element.getAttribute('aria-label') ?? '') !== '' || element.hasAttribute('aria-labelledby'),
                element.outerHTML.slice(0, 150)])"""
        )
        for index, role, named, html in found:
            assert (index, role, named) == (0, "region", True), html


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, scheme: Scheme, width: int):
    with Page(browser, PAGE, width, scheme) as page:
        charts_of(page)
        assert page.list_violations() == []


def test_dark_is_dark(browser: Browser):
    brightness = {}
    for scheme in ("light", "dark"):
        with Page(browser, PAGE, scheme=scheme) as page:
            charts = charts_of(page)
            pictures = [page.take_picture(), *map(page.take_picture, charts)]
            brightness[scheme] = [measure_brightness(picture) for picture in pictures]
    assert min(brightness["light"]) > 170
    assert max(brightness["dark"]) < 85


def test_the_scheme_may_change_while_the_page_is_open(browser: Browser):
    with Page(browser, PAGE) as page, Page(browser, PAGE, scheme="dark") as expected:
        charts = charts_of(page)
        page.view.emulate_media(color_scheme="dark")
        for chart, other in zip(charts, charts_of(expected), strict=True):
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
        for chart in charts_of(page):
            assert count_coloured(page.take_picture(chart)) > 50
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
        for picture in pictures:
            assert count_colours(plain.take_picture(picture)) > 8
        assert plain.requested == [PAGE.as_uri()]
        assert plain.said == []
