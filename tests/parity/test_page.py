"""The HTML report in a browser: it renders, filters, sorts, fits a narrow screen, has a dark mode and works offline."""

import re
from types import SimpleNamespace

import pytest

from browser import Browser, with_script
from outcomes import several
from parity import page, peers, report

pytestmark = [pytest.mark.no_cover, pytest.mark.xdist_group("browser")]
ROW = re.compile(r'<tr data-row="(\d)"([^>]*)>')


@pytest.fixture(scope="module")
def report_page():
    """The page of four cases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "load", lambda name: SimpleNamespace(version=lambda: f"{name} 1.0"))
        return page.page(report.contents(several(), (720, 928)))


@pytest.fixture
def browser(tmp_path):
    return Browser(tmp_path)


def visible_rows(dom, table="cases"):
    """Return the rows of a table that are not hidden, in order."""
    body = re.search(rf'<table id="{table}">.*?</table>', dom, re.DOTALL)[0]
    return [int(number) for number, attributes in ROW.findall(body) if "hidden" not in attributes]


def test_the_page_renders_without_a_word_on_the_console(report_page, browser):
    """All cases are in both tables, and the console has no error."""
    dom, console = browser.load(report_page)
    assert console == []
    assert visible_rows(dom) == visible_rows(dom, "heat") == [0, 1, 2, 3]
    assert '<output id="shown" aria-live="polite">4 cases</output>' in dom


def test_an_error_on_the_page_would_be_noticed(report_page, browser):
    """A planted error shows on the console."""
    _, console = browser.load(with_script(report_page, "nothing.of.the.kind()"))
    assert "ReferenceError" in console[0]


@pytest.mark.table(quick=1)
@pytest.mark.parametrize(
    ("chosen", "rows", "count_text"),
    [
        ("#verdict=fail", [1], "1 of 4 cases"),
        ("#text=LSTM+r", [0], "1 of 4 cases"),
        ("#text=lstm&dtype=float64", [2], "1 of 4 cases"),
        ("#peer=other", [2], "1 of 4 cases"),
        ("#text=no+such+case", [], "0 of 4 cases"),
    ],
)
def test_what_the_address_asks_for_is_shown_and_the_rest_hidden(report_page, browser, chosen, rows, count_text):
    """The table and the heat map show the same cases."""
    dom, console = browser.load(report_page, address=chosen)
    assert (visible_rows(dom), visible_rows(dom, "heat"), console) == (rows, rows, [])
    assert f">{count_text}</output>" in dom


@pytest.mark.table(quick=1)
@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        ("#sort=ulp&order=descending", [1, 2, 3, 0]),
        ("#sort=ulp", [0, 3, 2, 1]),
        ("#sort=verdict&order=descending", [1, 2, 0, 3]),
        ("#sort=case", [2, 3, 0, 1]),
    ],
)
def test_the_address_sorts(report_page, browser, chosen, rows):
    """Numbers sort as numbers and words as words, in both tables."""
    dom, console = browser.load(report_page, address=chosen)
    assert (visible_rows(dom), visible_rows(dom, "heat"), console) == (rows, rows, [])


def test_clicks_and_typing_do_the_same(report_page, browser):
    """A click on a heading sorts, a second one reverses, and typing filters. The address keeps both."""
    script = """
        const click = () => document.querySelector("[data-key=ulp] button").click();
        click(); click();
        const field = document.querySelector("[name=text]");
        field.value = "lstm"; field.dispatchEvent(new Event("input", {bubbles: true}));
        document.querySelector("[value=peer]").click();
        document.title = location.hash;
    """
    dom, console = browser.load(with_script(report_page, script))
    assert console == []
    assert visible_rows(dom) == [0, 3, 2]
    assert "<title>#sort=ulp&amp;order=ascending&amp;text=lstm</title>" in dom
    assert 'data-key="ulp" aria-sort="ascending"' in dom
    assert '<body data-side="peer">' in dom


@pytest.mark.slow
def test_a_narrow_screen_needs_no_sideways_scrolling(report_page, browser):
    """At 390 pixels the page is as wide as the screen. Wider parts scroll in their own frame."""
    question = "[document.documentElement.scrollWidth, window.innerWidth]"
    assert browser.evaluate(report_page, question, width=390) == "390,390"


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("width", [390, 1200])
def test_what_is_hidden_is_not_seen(report_page, browser, width):
    """No style shows a hidden row."""
    hide = "((row) => { row.hidden = true; return window.getComputedStyle(row).display; })(document.querySelector('tbody tr'))"
    assert browser.evaluate(report_page, hide, width=width) == "none"


@pytest.mark.slow
def test_the_page_is_dark_where_the_system_is(report_page, browser):
    """Text contrasts with the background in both color schemes."""
    question = (
        "[window.getComputedStyle(document.body).backgroundColor, window.getComputedStyle(document.body).color].join(' on ')"
    )
    light, dark = (browser.evaluate(report_page, question, f"--blink-settings=preferredColorScheme={k}") for k in (1, 0))
    assert light == "rgb(255, 255, 255) on rgb(27, 31, 36)"
    assert dark == "rgb(13, 17, 23) on rgb(230, 237, 243)"


def test_every_control_and_picture_has_a_name(report_page, browser):
    """Screen readers get labels, table headings and descriptions of curves."""
    question = (
        "[...document.querySelectorAll('input, select')].every((field) => field.labels.length) && "
        "[...document.querySelectorAll('svg')].every((one) => one.getAttribute('aria-label').startsWith('error against')) && "
        "[...document.querySelectorAll('th')].every((one) => one.scope && one.textContent.trim())"
    )
    assert browser.evaluate(report_page, question) == "true"


def test_the_page_loads_nothing(report_page):
    """The page links to nothing but itself."""
    assert not re.search(r"https?:|//[a-z]|@import|src=|url\(", report_page)


def test_names_are_text_and_not_markup(report_page):
    """A case's name may contain any characters."""
    assert "<b>" not in report_page
    assert "stack2 &lt;b&gt;bold&lt;/b&gt; &amp; wrong" in report_page


def test_the_page_says_what_the_run_measured(report_page):
    """It has summary, diagnosis, known bug, versions, and curves of the long case and the failure."""
    assert "<title>Parity with keras, other: 1 of 4 fail</title>" in report_page
    assert "<dd>720 of 928</dd>" in report_page
    assert "worst: ys at batch " in report_page
    assert "theirs since 3.15" in report_page
    assert "<dd>keras 1.0</dd>" in report_page
    assert report_page.count("<figure>") == 2
    assert "error against time, step 0 to 39: ours at most 0.016" in report_page
    assert re.search(r'<td class="o7 p\d"><span class="ours">\S+</span><span class="peer">0\.\d</span></td>', report_page)
