"""Nothing is committed unless a step's output is exactly what it was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.errors import MissingObjectError, ReconciliationError
from fruits.lake import open_table
from tests.fruits.lake_support import (
    LAKE,
    LENGTH,
    OTHER_MODEL,
    Rows,
    featurized,
    manifest_uri,
    put,
    reduced,
    sensed,
    table_rows,
)

OLD = [f"Zoo/{number}.jpg" for number in range(3)]
KEYS = [f"Apple/{number:02}.jpg" for number in range(12)]


@pytest.fixture(scope="module")
def lake(module_catalog: Catalog) -> Catalog:
    """Return a lake with batch b1 committed, and b2 sensed; what is refused leaves it as it is."""
    for key in OLD:
        put(key)
    sensed(module_catalog, "b1")
    commit_features(module_catalog, manifest_uri("b1"), featurized("b1"))
    for key in KEYS:
        put(key)
    sensed(module_catalog, "b2")
    return module_catalog


def with_first(**values: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [rows[0] | values, *rows[1:]]


def with_value(value: float | None) -> Callable[[Rows], Rows]:
    return lambda rows: [rows[0] | {"features": [value] * LENGTH}, *rows[1:]]


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda rows: rows[1:], "images without an outcome"),
        (lambda rows: [*rows, rows[0]], "images with more than one outcome"),
        (with_first(image_key="Apple/x.jpg"), "outcomes of images that were not asked for"),
        (with_first(etag="another"), "outcomes of images that were not asked for"),
        (with_value(math.nan), "features with a null, NaN or infinite value"),
        (with_value(math.inf), "features with a null, NaN or infinite value"),
        (with_value(None), "features with a null, NaN or infinite value"),
        (with_first(features=[1.0] * (LENGTH - 1)), f"features of another length than {LENGTH}"),
        (
            lambda rows: [row | {"features": [1.0, 2.0]} for row in rows],
            f"features of another length than {LENGTH}",
        ),
        (with_first(features=None), "rows without features"),
        (with_first(label=None), "rows without label"),
        (with_first(batch="b9"), "rows whose batch is not b2"),
        (
            lambda rows: [row | {"feature_model": OTHER_MODEL} for row in rows],
            "rows whose feature_model is not",
        ),
    ],
)
def test_wrong_rows_are_refused(lake: Catalog, edit: Callable[[Rows], Rows], kind: str) -> None:
    """Missing, extra, doubled, broken or foreign rows fail before the commit and are named."""
    result = featurized("b2", edit=edit)
    before = table_rows(lake, "features")

    with pytest.raises(ReconciliationError) as refused:
        commit_features(lake, manifest_uri("b2"), result)

    assert kind in str(refused.value)
    assert any(difference.kind.startswith(kind) for difference in refused.value.differences)
    assert table_rows(lake, "features") == before
    assert open_table("quarantine", lake).current_snapshot() is None


def test_the_error_counts_and_gives_ten_examples(lake: Catalog) -> None:
    """A person sees how many images differ and which, without a list of all of them."""
    result = featurized("b2", edit=lambda rows: [])

    with pytest.raises(ReconciliationError, match="Clear the featurize step") as refused:
        commit_features(lake, manifest_uri("b2"), result)

    (difference,) = refused.value.differences
    assert (difference.count, difference.examples) == (12, tuple(KEYS[:10]))


def a_row_more(result: dict[str, Any]) -> None:
    result["features"]["files"][0]["rows"] += 1


def a_byte_less(result: dict[str, Any]) -> None:
    result["features"]["files"][0]["bytes"] -= 1


def a_file_less(result: dict[str, Any]) -> None:
    result["features"]["files"].pop()


def a_file_twice(result: dict[str, Any]) -> None:
    result["features"]["files"].append(result["features"]["files"][0])


def a_lost_file(result: dict[str, Any]) -> None:
    result["features"]["files"][0]["uri"] += ".lost"


def wrong_columns(result: dict[str, Any]) -> None:
    result["quarantine"]["files"] = result["features"]["files"]


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (a_row_more, "files with other rows than listed"),
        (a_byte_less, "files of another size than listed"),
        (a_file_less, "images without an outcome"),
        (a_file_twice, "images with more than one outcome"),
        (a_lost_file, "listed files that do not exist"),
        (wrong_columns, "files with wrong columns"),
    ],
)
def test_wrong_files_are_refused(
    lake: Catalog, edit: Callable[[dict[str, Any]], None], kind: str
) -> None:
    """Files that are not what result.json lists fail before the commit and are named."""
    result = featurized("b2", edit_result=edit)

    with pytest.raises(ReconciliationError, match=kind):
        commit_features(lake, manifest_uri("b2"), result)


def test_another_batch_s_result_is_refused(lake: Catalog) -> None:
    """A result of another batch is foreign in every row."""
    with pytest.raises(ReconciliationError, match="whose batch is not b2"):
        commit_features(lake, manifest_uri("b2"), f"{LAKE}/attempts/b1/featurize-1/result.json")


def test_an_unfinished_step_is_named(lake: Catalog) -> None:
    """Without result.json the error says which object is missing and what to do."""
    with pytest.raises(MissingObjectError, match="clear it") as missing:
        commit_features(lake, manifest_uri("b2"), f"{LAKE}/attempts/b2/none/result.json")

    assert missing.value.uri.endswith("/none/result.json")


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda rows: rows[1:], "images without an outcome"),
        (lambda rows: [*rows, rows[0]], "images with more than one outcome"),
        (with_first(etag="another"), "outcomes of images that were not asked for"),
        (with_first(components=[1.0]), "components of another length than 2"),
        (with_first(components=[1.0, math.nan]), "components with a null, NaN or infinite value"),
        (with_first(model_version="v0"), "rows whose model_version is not b1-1"),
    ],
)
def test_wrong_components_are_refused(
    lake: Catalog, edit: Callable[[Rows], Rows], kind: str
) -> None:
    """Components are those of the features that the step read, once each, finite, of length k."""
    result = reduced(lake, "b1", edit=edit)

    with pytest.raises(ReconciliationError, match=kind):
        commit_components(lake, result)

    assert open_table("components", lake).current_snapshot() is None
