"""Descriptions: what EMR says of a cluster, as everything that asks for it reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fruits.descriptions import age_in, lake_of, tags_of

CREATED = datetime(2026, 11, 1, 3, 0, 0, 900_000, UTC)


def test_tags_are_values_by_keys() -> None:
    """A cluster without tags has none; a tag may lack its value."""
    tags = [{"Key": "fruits:token", "Value": "b1"}, {"Key": "owner"}]

    assert tags_of({"Tags": tags}) == {"fruits:token": "b1", "owner": ""}
    assert tags_of({}) == {}


@pytest.mark.parametrize(
    ("log_uri", "lake"),
    [
        ("s3n://fruits-lake/logs/", "s3://fruits-lake"),
        ("s3://fruits-lake/a/folder/logs", "s3://fruits-lake/a/folder"),
        ("s3://fruits-lake/logs-of-others/", None),
        ("", None),
    ],
)
def test_the_logs_say_whose_a_cluster_is(log_uri: str, lake: str | None) -> None:
    """The lake is where the folder of logs is, under whatever name EMR gives the scheme back."""
    assert lake_of({"LogUri": log_uri}) == lake


@pytest.mark.parametrize(("second", "age"), [(0, 0), (10, 9.1)])
def test_a_cluster_is_never_younger_than_new(second: int, age: float) -> None:
    """EMR's answers are dated to the second: an age is not less than nothing."""
    sent = f"Sun, 01 Nov 2026 03:00:{second:02} GMT"
    answer = {
        "Cluster": {"Status": {"Timeline": {"CreationDateTime": CREATED}}},
        "ResponseMetadata": {"HTTPHeaders": {"date": sent}},
    }

    assert age_in(answer) == timedelta(seconds=age)
