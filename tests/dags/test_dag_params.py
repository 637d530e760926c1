"""The trigger form: it can be used without reading code, and refuses what would fail later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fruits.settings import Settings, SettingsError


@pytest.mark.parametrize(
    "dag_id", ["fruits_ingestion", "fruits_cost_watchdog", "fruits_switch_model"]
)
def test_every_param_explains_itself(dags: Mapping[str, Any], dag_id: str) -> None:
    """Title and a sentence of help for each field of the form."""
    params = dags[dag_id].params

    for name in params:
        param = params.get_param(name)
        assert param.schema["title"], name
        assert param.description.endswith("."), name


def test_every_param_overrides_a_setting(ingestion: Any) -> None:
    """The form's defaults are the settings', and what it returns makes settings again."""
    from fruits.params import run_settings

    assert set(ingestion.params) <= set(Settings.model_fields)
    assert run_settings(ingestion.params.validate()) == Settings()


@pytest.mark.parametrize("name", ["month_cap_money", "_env_prefix", "note"])
def test_only_the_forms_fields_override_a_setting(ingestion: Any, name: str) -> None:
    """Airflow lets anything into a run's conf; who may trigger may not raise the month's cap."""
    from fruits.params import run_settings

    with pytest.raises(SettingsError, match=f"'{name}' is no field of the form"):
        run_settings(ingestion.params.validate() | {name: 1e6})


def test_what_is_for_one_run_is_no_default() -> None:
    """A setting that was left in the environment does not reprocess every night."""
    from fruits.params import ingestion_params

    params = ingestion_params(Settings(reprocess="ResNet50", retry_quarantined=True))

    assert params["reprocess"].value is None
    assert params["retry_quarantined"].value is False


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("images_uri", ["s3://b", "s3://b/a b/é/"], ["", "b/a", "s3://", "https://b/a"]),
        ("max_images_per_run", [1, 10_000_000], [0, -1, 1.5, "many"]),
        ("confirm_removals", [True, False], ["yes", 1]),
        ("retry_quarantined", [True, False], ["yes", 1]),
        ("reprocess", [None, "MobileNetV2", "ResNet50"], ["Mobilenet", "", True]),
        ("weights", ["imagenet", "published"], ["", "/etc/passwd", None]),
        ("variance_target", [0.01, 1], [0, 1.01, -0.5, "most"]),
        ("k", [None, 1, 64], [0, -1, 2.5]),
        ("workers", [1, 50], [0, 51, 1.5]),
        ("worker_instance_type", ["m5.xlarge"], ["m5.huge", ""]),
        ("refit", ["auto", "always", "never"], ["sometimes", True]),
        ("market", ["SPOT", "ON_DEMAND"], ["spot", "FREE"]),
        ("cap_minutes", [11, 1440], [10, 1441, 0]),
        ("max_quarantine_share", [0, 0.05, 1], [-0.1, 1.1, "few"]),
        ("cap_money", [0.01, 100], [0, -1, 100.01, "cheap"]),
    ],
)
def test_the_form_accepts_what_is_right_and_refuses_what_is_not(
    ingestion: Any, name: str, good: list[object], bad: list[object]
) -> None:
    """Bounds are checked before a run begins, and what passes makes settings."""
    from airflow.sdk.exceptions import ParamValidationError

    param = ingestion.params.get_param(name)

    for value in good:
        assert param.resolve(value) == value
        assert Settings(**{name: value})
    for value in bad:
        with pytest.raises(ParamValidationError):
            param.resolve(value)


def test_every_param_is_tried_here(ingestion: Any) -> None:
    """A new field of the form gets its bounds tested."""
    (tried,) = (
        mark.args[1]
        for mark in test_the_form_accepts_what_is_right_and_refuses_what_is_not.pytestmark
    )

    assert {name for name, _, _ in tried} == set(ingestion.params)
