"""How an open page looks anew: one request at a time, none for ever, and an old one says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fruits.rendering import render_template

URL = "http://page.test/fruits/"
INTERVAL = 30_000  # ms, between two looks of an open page
# What the test itself asks for.
MARK = f"{URL}mark"


def html(content: str) -> str:
    """Return a page of which *content* is what is looked at anew."""
    stale = "<p data-stale hidden>What is below is <span></span> minutes old</p>"
    script = render_template("page.js.jinja", {})
    return f"<!doctype html>{stale}<main data-live>{content}</main><script>{script}</script>"


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """Open a page whose clock is the test's; what its script asks for is answered if told so."""
    context = browser.new_context()
    page = context.new_page()
    page.asked = []
    page.answers = {}  # what its script gets, if it gets anything

    def answer(route: Any) -> None:
        page.asked.append(route.request.url)
        if len(page.asked) == 1 or route.request.url == MARK:
            route.fulfill(body=html("what there is"), content_type="text/html")
        elif route.request.is_navigation_request():
            route.fulfill(body="what the window was shown", content_type="text/html")
        elif page.answers:
            route.fulfill(content_type="text/html", **page.answers)

    page.route("**/*", answer)
    page.clock.install()
    yield page
    context.close()


def looks(tab: Any, times: int) -> int:
    """Let so many half minutes pass; return how often was asked by then."""
    for _ in range(times):
        tab.clock.run_for(INTERVAL)
    # What a script asks for reaches the route a little later, but before what is asked after it.
    tab.evaluate(f"async () => {{ await fetch('{MARK}') }}")
    return int(tab.asked.count(URL))


def test_a_server_that_hangs_is_asked_once(tab: Any) -> None:
    """A look that falls due while the one before it has no answer is left out."""
    tab.goto(URL)

    assert looks(tab, 1) == 2
    assert looks(tab, 1) == 2


def test_a_request_is_given_up(tab: Any) -> None:
    """A page whose request was lost does not wait for ever: it looks again."""
    tab.goto(URL)
    looks(tab, 2)

    assert looks(tab, 1) == 3


def test_what_is_old_says_so(tab: Any) -> None:
    """Where no answer comes, nobody takes what is shown for what there is."""
    tab.goto(URL)
    tab.answers = {"status": 500}
    looks(tab, 5)
    early = tab.locator("[data-stale]").is_visible()
    looks(tab, 2)

    assert not early
    tab.get_by_text("What is below is 4 minutes old").wait_for(state="visible")

    tab.answers = {"body": html("what is new")}
    looks(tab, 1)
    tab.get_by_text("what is new").wait_for(state="visible")
    tab.locator("[data-stale]").wait_for(state="hidden")


def test_a_link_that_was_followed_does_not_keep_the_page_old(tab: Any) -> None:
    """It has the focus until somebody clicks elsewhere: two minutes later the page goes on."""
    link = "<a href='#logs' onclick='return false'>Logs</a>"
    tab.answers = {"body": html(f"what is new {link}")}
    tab.goto(URL)
    tab.evaluate(f"document.querySelector('main').innerHTML = `{link}`")
    tab.get_by_text("Logs").click()

    assert looks(tab, 3) == 1
    looks(tab, 2)
    tab.get_by_text("what is new").wait_for(state="visible")
    assert tab.evaluate("document.activeElement.textContent") == "Logs"


def test_a_login_elsewhere_is_followed_by_the_window(tab: Any) -> None:
    """A session that is over leads to a login whose answer no script may read."""
    tab.answers = {"status": 302, "headers": {"location": "https://login.test/"}}
    tab.goto(URL)

    tab.clock.run_for(INTERVAL)

    tab.get_by_text("what the window was shown").wait_for(state="visible")
