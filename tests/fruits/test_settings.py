"""Settings: a wrong value fails before a cluster costs money, and says what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fruits import batch
from fruits.objects import split_uri
from fruits.settings import (
    EU_REGIONS,
    Engine,
    Settings,
    SettingsError,
    load_guard_settings,
    load_settings,
)
from fruits.settings_page import settings_page


def test_defaults_are_valid_and_in_paris() -> None:
    """With nothing set, the package runs in Paris."""
    assert Settings().region == "eu-west-3"


def test_the_environment_sets_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """FRUITS_<NAME> sets a field, with its type."""
    monkeypatch.setenv("FRUITS_ENGINE", "tensorflow")
    monkeypatch.setenv("FRUITS_WORKERS", "4")

    settings = Settings()

    assert (settings.engine, settings.workers) == (Engine.TENSORFLOW, 4)


def test_an_empty_variable_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """FRUITS_K= in a file of settings is no number of components: the variance target chooses."""
    monkeypatch.setenv("FRUITS_K", "")
    monkeypatch.setenv("FRUITS_REPROCESS", "")

    assert (load_settings().k, load_settings().reprocess) == (None, None)


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
        ("cap_minutes", 0),
        ("cap_minutes", 1441),
        ("idle_minutes", 0),
        ("ready_minutes", 0),
        ("lease_minutes", 0),
        ("month_cap_money", 0),
        ("max_removed_share", 1.1),
        ("release_label", "latest"),
        ("release_label", "emr-6.15.0"),
        ("release_label", "emr-spark-8.2.0"),
        ("engine", "abacus"),
        ("backbone", "../secret"),
        ("alert_topic", "fruits-alerts"),
        ("alert_topic", "arn:aws:sqs:eu-west-3:123456789012:fruits-alerts"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: object) -> None:
    """The message names the field."""
    with pytest.raises(ValidationError, match=field):
        Settings(**{field: value})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            {"cap_money": 0},
            "FRUITS_CAP_MONEY is 0: it should be greater than 0.",
        ),
        (
            {"cap_money": -3.5},
            "FRUITS_CAP_MONEY is -3.5: it should be greater than 0.",
        ),
        (
            {"cap_money": float("inf")},
            "FRUITS_CAP_MONEY is inf: it should be a finite number.",
        ),
        (
            {"cap_minutes": 0},
            "FRUITS_CAP_MINUTES is 0: it should be greater than or equal to 1.",
        ),
        (
            {"region": "us-east-1"},
            "FRUITS_REGION: 'us-east-1' is not in the European Union; choose one of eu-central-1",
        ),
        (
            {"cap_money": 20, "month_cap_money": 10},
            "FRUITS_CAP_MONEY (20) must be at most FRUITS_MONTH_CAP_MONEY (10), the cap of the ",
        ),
        (
            {"idle_minutes": 60, "cap_minutes": 60},
            "FRUITS_IDLE_MINUTES (60) must be below FRUITS_CAP_MINUTES (60), or it would never ",
        ),
        (
            {"poll_seconds": 600, "lease_minutes": 29.9, "idle_minutes": 30},
            "FRUITS_LEASE_MINUTES (29.9) must be at least 30: 3 times FRUITS_POLL_SECONDS (600 s)",
        ),
        (
            {"poll_seconds": 300},
            "FRUITS_IDLE_MINUTES (10) must be at least 15: 3 times FRUITS_POLL_SECONDS (300 s)",
        ),
        (
            {"images_uri": "s3://fruits/", "lake_uri": "s3://fruits/lake"},
            "FRUITS_LAKE_URI (s3://fruits/lake) and FRUITS_IMAGES_URI (s3://fruits/) must not hold",
        ),
        (
            {"images_uri": "s3://fruits/lake/images/", "lake_uri": "s3://fruits/lake"},
            "FRUITS_LAKE_URI (s3://fruits/lake) and FRUITS_IMAGES_URI (s3://fruits/lake/images/)",
        ),
        (
            {"images_uri": "s3://fruits", "lake_uri": "s3://fruits/lake"},
            "FRUITS_LAKE_URI (s3://fruits/lake) and FRUITS_IMAGES_URI (s3://fruits) must not hold",
        ),
        (
            {"alert_topic": "arn:aws:sns:us-east-1:123456789012:alerts"},
            "FRUITS_ALERT_TOPIC (arn:aws:sns:us-east-1:123456789012:alerts) must be a topic of ",
        ),
        ({"cap_mony": 1}, "there is no setting FRUITS_CAP_MONY."),
        (
            {"worker_instance_type": "z9.huge"},
            "FRUITS_WORKER_INSTANCE_TYPE: There is no price for z9.huge in eu-west-3, so no cap ",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(overrides: dict[str, object], says: str) -> None:
    """The line names the setting, its value, and what would be right."""
    with pytest.raises(SettingsError) as refused:
        load_settings(**overrides)

    line = str(refused.value)
    assert line.startswith(says)
    assert line.endswith("Nothing was created: change that and start again.")
    assert "\n" not in line


def test_everything_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several wrong settings, from the environment too, need one try."""
    monkeypatch.setenv("FRUITS_WORKERS", "0")
    monkeypatch.setenv("FRUITS_ENGINE", "abacus")

    with pytest.raises(SettingsError) as refused:
        load_settings(k=0)

    assert set(refused.value.wrong) == {"FRUITS_WORKERS", "FRUITS_ENGINE", "FRUITS_K"}


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignored, it would leave a cap at its default; what resembles no setting is left alone."""
    monkeypatch.setenv("FRUITS_CAP_MINUTE", "30")
    monkeypatch.setenv("FRUITS_SHOP_COLOUR", "red")

    with pytest.raises(SettingsError, match="is it FRUITS_CAP_MINUTES") as refused:
        load_settings()

    assert set(refused.value.wrong) == {"FRUITS_CAP_MINUTE"}


def test_a_slip_elsewhere_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog knows its region and its lake, whatever else is wrong or misspelt."""
    monkeypatch.setenv("FRUITS_REGION", "eu-west-1")
    monkeypatch.setenv("FRUITS_LAKE_URI", "s3://orchard/lake/")
    monkeypatch.setenv("FRUITS_VARIANCE_TARGET", "95")
    monkeypatch.setenv("FRUITS_WORKER", "4")
    topic = "arn:aws:sns:eu-west-1:123456789012:fruits-alerts"
    monkeypatch.setenv("FRUITS_ALERT_TOPIC", topic)

    guard = load_guard_settings()

    assert guard.alert_topic == topic
    assert (guard.region, guard.lake, guard.workers) == ("eu-west-1", "s3://orchard/lake", 2)
    with pytest.raises(SettingsError):
        load_settings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"ALERT_TOPIC": "arn:aws:sns:eu-west-3:123456789012:fruits-alerts"},  # of another region
        {"ALERT_TOPIC": "fruits-alerts", "WORKERS": "x"},
        {"LAKE_URI": "s3://fruits-images/lake", "WORKERS": "x"},  # where images are by default
    ],
)
def test_nothing_else_is_checked_for_the_watch(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    """A topic of another region, or a default that nobody uses, is no reason to look no more."""
    monkeypatch.setenv("FRUITS_REGION", "eu-west-1")
    for name, value in wrong.items():
        monkeypatch.setenv(f"FRUITS_{name}", value)

    guard = load_guard_settings()

    assert guard.alert_topic is None
    assert (guard.region, guard.lake_uri) == (
        "eu-west-1",
        wrong.get("LAKE_URI", "s3://fruits-lake"),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRUITS_REGION", "us-east-1"),
        ("FRUITS_LAKE_URI", "orchard"),
        ("FRUITS_LAKE_URL", "s3://orchard"),
    ],
)
def test_a_watchdog_of_another_place_guards_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A slip in region or lake is an error for it as for all others."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=name):
        load_guard_settings()


def test_times_can_be_short() -> None:
    """A whole life in minutes is a matter of settings: nothing is hidden in the code."""
    brief = load_settings(
        cap_minutes=2, idle_minutes=1, lease_minutes=0.5, ready_minutes=0.5, poll_seconds=0.5
    )

    assert (brief.cap_minutes, brief.lease_minutes, brief.ready_minutes) == (2, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRUITS_CAP_MONEY", "0"),
        ("FRUITS_CAP_MONEY", "-1"),
        ("FRUITS_REGION", "us-east-1"),
        ("FRUITS_MONTH_CAP_MONEY", "4"),
    ],
)
def test_a_batch_from_the_shell_does_not_begin_with_a_wrong_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m fruits.batch` says one line and returns 2; it has not looked for AWS by then."""
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["batch"])

    code = batch.main()

    said = capsys.readouterr().out
    assert (code, said.count("\n")) == (2, 1)
    assert name in said


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

    assert settings.images_bucket == bucket
    assert split_uri(settings.images_uri) == (bucket, prefix)


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


def test_the_table_of_settings_is_the_codes() -> None:
    """What docs/settings.md says of each variable is what the code does."""
    page = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

    assert page.read_text() == settings_page(), "python -m fruits.settings_page >docs/settings.md"
