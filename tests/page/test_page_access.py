"""Who sees the page: asked of a real API server, in whose plugins Airflow itself guards nothing."""

from __future__ import annotations

import pytest

from fruits.objects import write_html
from fruits.reports import report_folder
from tests.page.conftest import ApiServer
from tests.page.scenes import LAKE

BATCH = "20261121T030000-1a2b3c4d"
PATHS = (
    "/fruits/",
    f"/fruits/batches/{BATCH}",
    "/fruits/batches/nothing",
    "/fruits/docs",
    "/fruits/openapi.json",
    "/fruits/static/style.css",
    "/fruits/anything/else",
)


@pytest.fixture(scope="module", autouse=True)
def _report(api_server: ApiServer) -> None:
    write_html(f"{report_folder(LAKE, BATCH)}/report.html", "<p>what the batch did</p>")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_a_visitor_gets_nothing(api_server: ApiServer, path: str, method: str) -> None:
    """Without a login every path under the page, there or not, says so and nothing else."""
    answer = api_server.ask(path, method)

    assert answer.status == 401
    assert answer.text in ("", '{"detail":"Not authenticated"}')


@pytest.mark.parametrize("token", ["nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."])
def test_a_made_up_token_is_none(api_server: ApiServer, token: str) -> None:
    """A token that Airflow did not sign opens nothing, in the header or in the cookie."""
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"_token={token}"}):
        answer = api_server.ask("/fruits/", **headers)

        assert answer.status in (401, 403)
        assert "Fruits" not in answer.text


def test_a_browser_without_a_login_is_sent_to_it(api_server: ApiServer) -> None:
    """Who follows a link to a report logs in first, and is brought there afterwards."""
    answer = api_server.ask(f"/fruits/batches/{BATCH}", Accept="text/html,*/*")

    assert answer.status == 307
    assert answer.headers["location"].startswith("/auth/login?next=http")
    assert answer.headers["location"].endswith(BATCH)
    assert answer.text == ""


@pytest.mark.parametrize("user", ["admin", "reader"])
def test_who_may_see_the_runs_sees_the_page(api_server: ApiServer, user: str) -> None:
    """A reader of DAG runs gets page and report, by the UI's cookie as by a bearer token."""
    token = api_server.token(user)

    page = api_server.ask("/fruits/", Cookie=f"_token={token}")
    report = api_server.ask(f"/fruits/batches/{BATCH}", Authorization=f"Bearer {token}")

    assert (page.status, report.status) == (200, 200)
    assert "<h1>Fruits!</h1>" in page.text
    assert report.text == "<p>what the batch did</p>"


def test_what_is_not_there_is_told(api_server: ApiServer) -> None:
    """A batch without a report says so; anything that is no batch id is not looked for."""
    cookie = f"_token={api_server.token('reader')}"

    unwritten = api_server.ask("/fruits/batches/20261121T030000-00000000", Cookie=cookie)
    others = [
        api_server.ask(f"/fruits/batches/{path}", Cookie=cookie)
        for path in ("x", "..%2F..%2Fledger", "20261121T030000-1a2b3c4d%0a")
    ]

    assert unwritten.status == 404
    assert "no report of batch 20261121T030000-00000000" in unwritten.text
    assert [answer.status for answer in others] == [404, 404, 404]


def test_pages_run_nothing_but_their_own(api_server: ApiServer) -> None:
    """The page's policy lets its own script alone run, a report's none at all; nothing is kept."""
    cookie = f"_token={api_server.token('reader')}"

    page = api_server.ask("/fruits/", Cookie=cookie)
    report = api_server.ask(f"/fruits/batches/{BATCH}", Cookie=cookie)

    nonce = page.headers["content-security-policy"].partition("script-src 'nonce-")[2][:22]
    assert page.text.count(f'<script nonce="{nonce}">') == page.text.count("<script") == 1
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]
    assert "sandbox" in report.headers["content-security-policy"]
    assert {page.headers["cache-control"], report.headers["cache-control"]} == {"no-store"}
