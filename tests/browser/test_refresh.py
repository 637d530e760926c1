"""How an open page looks anew: one request at a time, and none that is waited for for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fruits.rendering import render_template

URL = "http://page.test/fruits/"
INTERVAL = 30_000  # ms, between two looks of an open page
# What the test itself asks for.
MARK = f"{URL}mark"


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """Open a page whose clock is the test's; what its script asks for is never answered."""
    context = browser.new_context()
    page = context.new_page()
    page.asked = []
    script = render_template("page.js.jinja", {})
    html = f"<!doctype html><main data-live>what there is</main><script>{script}</script>"

    def answer(route: Any) -> None:
        page.asked.append(route.request.url)
        if len(page.asked) == 1 or route.request.url == MARK:
            route.fulfill(body=html, content_type="text/html")

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
