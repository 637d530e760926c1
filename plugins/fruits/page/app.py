"""The page in Airflow's API server: what happened, what it cost, and each batch's report."""

from __future__ import annotations

import re
import secrets
from functools import cache
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from fruits.page.access import DAG_ID, may_see, send_to_login
from fruits.page.parts import attempt
from fruits.page.readings import Reader
from fruits.page.reports import Reports
from fruits.page.switches import switched_off
from fruits.rendering import render_template
from fruits.settings import SettingsError, load_settings

BATCH = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
# A report is a file from the lake: whoever can write there must not run scripts in Airflow's name.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'; "
    "form-action 'none'; sandbox"
)


def make_app() -> FastAPI:
    """Return the app, of which nobody sees anything who may not see the DAG's runs."""
    app = FastAPI(
        title="Fruits!",
        # For every route, the last one too, which is all that is not there.
        dependencies=[may_see()],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: send_to_login, SettingsError: tell_settings},
    )
    app.get("/", response_class=HTMLResponse)(page)
    app.get("/batches/{batch}", response_class=HTMLResponse)(batch_report)
    app.api_route("/{path:path}", methods=ALL_METHODS)(nothing)
    return app


def page() -> Response:
    """Show what there is now."""
    reader = _reader()
    off = attempt("which DAGs are switched off", switched_off)
    shown = {"data": reader.read(), "off": off, "settings": reader.settings, "dag_id": DAG_ID}
    return _html("page.html.jinja", shown)


def batch_report(batch: str) -> Response:
    """Show the report of one batch, as it lies in the lake."""
    if not BATCH.fullmatch(batch):
        raise HTTPException(404, "No batch has such an id")
    report = _reports().read(batch)
    if report.trouble:
        told = (
            f"The report of batch {batch} cannot be read now ({report.trouble}). "
            "The API server's log says more."
        )
        return _html("trouble.html.jinja", {"trouble": told}, 503)
    if report.value is None:
        told = (
            f"There is no report of batch {batch}: it is written when its run has ended, and goes "
            "after FRUITS_RETENTION_DAYS or when an image is erased, for it shows images."
        )
        return _html("trouble.html.jinja", {"trouble": told}, 404)
    headers = COMMON_HEADERS | {"Content-Security-Policy": REPORT_POLICY}
    return HTMLResponse(report.value, headers=headers)


def nothing(path: str) -> Response:  # noqa: ARG001
    """Answer for everything that is not there, after the same question of who asks."""
    raise HTTPException(404, "Not found")


async def tell_settings(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Name the settings that are wrong, whichever page needed them."""
    return _html("trouble.html.jinja", {"trouble": str(error)}, 500)


@cache
def _reader() -> Reader:
    return Reader(load_settings())


@cache
def _reports() -> Reports:
    return Reports(load_settings().lake)


def _html(template: str, values: dict[str, Any], status_code: int = 200) -> Response:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )
    headers = COMMON_HEADERS | {"Content-Security-Policy": policy}
    return HTMLResponse(
        render_template(template, values | {"nonce": nonce}), status_code, headers=headers
    )
