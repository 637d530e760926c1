"""The same tables in AWS Glue's catalog: nothing but PyIceberg's configuration differs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.client import BaseClient
from moto.server import ThreadedMotoServer
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.glue import GlueCatalog

from fruits import sweeps
from fruits.commits import commit_features
from fruits.erasures import erase
from fruits.lake import ensure_tables, open_catalog, read
from fruits.settings import Settings
from local_cloud.s3 import ObjectStorage
from tests.aws.stacks import ACCOUNT, REGION, Call, empty_account, make_stack
from tests.fruits.lake_support import (
    bucket_versions,
    delete,
    ingest_and_fit,
    keys,
    manifest_uri,
    put,
)

SETTINGS = Settings(images_uri="s3://fruits-images/")
GLUE = f"arn:aws:glue:{REGION}:{ACCOUNT}"


@pytest.fixture
def glue_calls(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Return the set of (operation, resource) that this process asks Glue for."""
    seen: set[tuple[str, str]] = set()
    real = BaseClient._make_api_call

    def noted(self: Any, operation: str, given: dict[str, Any]) -> Any:
        if self.meta.service_model.service_name == "glue":
            seen.add((operation, _resource(given)))
        return real(self, operation, given)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    return seen


def _resource(given: dict[str, Any]) -> str:
    table = given.get("TableInput", {}).get("Name") or given.get("Name")
    if "DatabaseName" in given:
        return f"{GLUE}:table/{given['DatabaseName']}/{table}"
    return f"{GLUE}:database/{given.get('DatabaseInput', given)['Name']}"


@pytest.fixture
def glue(
    storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, glue_calls: set[tuple[str, str]]
) -> Iterator[Catalog]:
    """Return the catalog in a Glue of moto's, its tables in the local S3."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    start = "PYICEBERG_CATALOG__FRUITS__"
    monkeypatch.delenv(f"{start}URI")
    monkeypatch.setenv(f"{start}TYPE", "glue")
    monkeypatch.setenv(f"{start}GLUE__ENDPOINT", f"http://{host}:{port}")
    monkeypatch.setenv(f"{start}GLUE__REGION", REGION)
    catalog = open_catalog()
    ensure_tables(catalog)
    yield catalog
    server.stop()


def test_days_of_an_orchard_in_glue(
    glue: Catalog, glue_calls: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding, replacing, removing, sweeping, erasing; and IAM allows each call that it took."""
    ingest_and_fit(glue, "b1", "Apple/1.jpg", "Apple/2.jpg", "Banana/1.jpg")
    put("Apple/1.jpg", "other")
    delete("Banana/1.jpg")
    ingest_and_fit(glue, "b2")
    now = sweeps.storage_time("s3://fruits-lake")
    monkeypatch.setattr(sweeps, "storage_time", lambda _: now + timedelta(days=30))
    swept = sweeps.sweep(SETTINGS)
    erase(SETTINGS, ["Apple/2.jpg"])

    assert isinstance(glue, GlueCatalog)
    assert keys(glue, "features") == keys(glue, "components") == ["Apple/1.jpg"]
    assert bucket_versions().keys() == {"Apple/1.jpg"}
    assert read("components", glue).to_pandas()["image_key"].tolist() == ["Apple/1.jpg"]
    assert swept["objects"] > 10
    with empty_account():
        stack = make_stack(AirflowCode="code/0123.tar.gz")
        asked = [Call(f"glue:{operation}", resource) for operation, resource in glue_calls]
        assert [call for call in asked if stack.answer("AirflowRole", call) != "Allowed"] == []
    assert {operation for operation, _ in glue_calls} >= {"GetTable", "CreateTable", "UpdateTable"}


def test_a_commit_is_made_once_in_glue(glue: Catalog) -> None:
    """A retry finds its mark; two catalogs see the same table."""
    ingest_and_fit(glue, "b1", "Apple/1.jpg")
    commit_features(
        glue, manifest_uri("b1"), "s3://fruits-lake/attempts/b1/featurize-1/result.json"
    )

    assert keys(open_catalog(), "features") == ["Apple/1.jpg"]
