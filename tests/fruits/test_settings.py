"""Settings: a wrong value fails before a cluster costs money, and says what would be right."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fruits.settings import EU_REGIONS, Engine, Settings


def test_defaults_are_valid_and_in_paris() -> None:
    """With nothing set, the package runs in Paris."""
    assert Settings().region == "eu-west-3"


def test_the_environment_sets_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """FRUITS_<NAME> sets a field, with its type."""
    monkeypatch.setenv("FRUITS_ENGINE", "tensorflow")
    monkeypatch.setenv("FRUITS_WORKERS", "4")

    settings = Settings()

    assert (settings.engine, settings.workers) == (Engine.TENSORFLOW, 4)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-2", "eu-central-2", "paris", ""])
def test_data_stays_in_the_union(region: str) -> None:
    """A region outside the EU is refused, London and Zurich too, and the choices are named."""
    with pytest.raises(ValidationError, match=r"eu-west-3 \(Paris\)"):
        Settings(region=region)


@pytest.mark.parametrize("region", sorted(EU_REGIONS))
def test_each_region_of_the_union_is_accepted(region: str) -> None:
    """Every region that is named in an error message works."""
    assert Settings(region=region).region == region


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images_uri", "https://example.com/a"),
        ("images_uri", "s3:///no-bucket"),
        ("lake_uri", "/a/folder"),
        ("variance_target", 0.0),
        ("variance_target", 1.5),
        ("k", 0),
        ("workers", 0),
        ("cap_minutes", 5),
        ("max_removed_share", 1.1),
        ("release_label", "latest"),
        ("engine", "abacus"),
        ("backbone", "../secret"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: object) -> None:
    """The message names the field."""
    with pytest.raises(ValidationError, match=field):
        Settings(**{field: value})


def test_an_idle_limit_above_the_cap_is_refused() -> None:
    """An idle limit that the cap would always beat protects nobody."""
    with pytest.raises(ValidationError, match="idle_minutes"):
        Settings(idle_minutes=60, cap_minutes=60)


def test_settings_cannot_change_under_a_run() -> None:
    """Every task of a run sees the same values."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().region = "eu-west-1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/fruits/App", "b", "fruits/App"),
        ("s3://b/a=1/é %/", "b", "a=1/é %/"),
    ],
)
def test_a_prefix_is_taken_as_it_is(uri: str, bucket: str, prefix: str) -> None:
    """S3 prefixes are strings: nothing is added, decoded or stripped."""
    settings = Settings(images_uri=uri)

    assert (settings.images_bucket, settings.images_prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    "groups",
    [
        {"primary_security_group": "sg-1"},
        {f"{node}_security_group": "sg-1" for node in ("primary", "worker", "service")},
    ],
)
def test_a_private_network_is_complete(groups: dict[str, str]) -> None:
    """Groups without each other or without their subnet would fail when the cluster is created."""
    with pytest.raises(ValidationError, match="belong together"):
        Settings(**groups)  # type: ignore[arg-type]
