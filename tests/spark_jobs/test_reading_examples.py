"""The examples of docs/reading.md are run as they stand there."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from fruits.commits import commit_features
from fruits.component_commits import commit_components
from fruits.lake import ensure_tables, open_catalog
from tests.docs.examples import examples, names_of
from tests.fruits.lake_support import LENGTH, featurized, manifest_uri, put, reduced, sensed

KEYS = ["Apple/1.jpg", "Apple/2.jpg", "Banana/1.jpg", "Banana/broken.jpg"]


@pytest.fixture
def lake(spark: SparkSession) -> None:
    """Fill the tables: two apples and a banana with features, another banana quarantined."""
    catalog = open_catalog()
    ensure_tables(catalog)
    for key in KEYS:
        put(key)
    sensed(catalog, "b1")
    result = featurized("b1", broken=KEYS[3:])
    commit_features(catalog, manifest_uri("b1"), result, max_quarantine_share=0.5)
    commit_components(catalog, reduced(catalog, "b1"))


def test_every_example_runs(lake: None) -> None:
    """Whoever copies a block gets what the page says."""
    # The last one is a DAG: tests/end_to_end/test_dag_runs.py lets Airflow run it.
    pandas, some, duckdb, spark, then = map(names_of, examples("reading.md")[:-1])

    assert pandas["matrix"].shape == (3, LENGTH)
    assert sorted(pandas["labels"]) == ["Apple", "Apple", "Banana"]
    assert len(some["apples"]) == 2
    assert some["why"]["reason"].tolist() == ["truncated"]
    assert duckdb["counted"].fetchall() == [("Apple", 2), ("Banana", 1)]
    assert sorted(row["image_key"] for row in spark["components"].collect()) == KEYS[:3]
    assert len(then["then"]) == 3
