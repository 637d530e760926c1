"""A wrong setting of the API server: the page says which, whatever was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends
from fastapi.testclient import TestClient


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the page's module, whose app asks nobody who they are."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    from fruits.page import app

    monkeypatch.setattr(app, "may_see", lambda: Depends(lambda: None))
    for cached in (app._reader, app._reports):
        cached.cache_clear()
    yield app
    for cached in (app._reader, app._reports):
        cached.cache_clear()


@pytest.mark.parametrize("path", ["/", "/batches/20261121T030000-1a2b3c4d"])
def test_a_wrong_setting_is_named(app: Any, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Neither the page nor a report ends in a bare Internal Server Error."""
    monkeypatch.setenv("FRUITS_WORKERS", "0")

    answer = TestClient(app.make_app(), raise_server_exceptions=False).get(path)

    assert answer.status_code == 500
    assert "FRUITS_WORKERS" in answer.text
    assert "default-src" in answer.headers["content-security-policy"]
