"""docker/aws.env: the environment in which Airflow, jobs and readers find what the stack made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# Outputs that are settings have their names; these are not for Airflow.
NOT_SETTINGS = frozenset({"AirflowPolicy", "AirflowInstance"})
HEADER = """\
# Made by `make aws-deploy` from the stack's outputs. Credentials are not here: they are found where
# boto3 looks for them (AWS_PROFILE, an instance's role).
"""


def environment(
    outputs: Mapping[str, str], region: str, parameters: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables for a stack with these *outputs*, made with these *parameters*."""
    catalog = "PYICEBERG_CATALOG__FRUITS__"
    settings = {
        name: value for output, value in outputs.items() if (name := setting_of(output)) is not None
    }
    return {
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        f"{catalog}TYPE": "glue",
        f"{catalog}WAREHOUSE": f"{outputs['LakeUri']}/tables",
        f"{catalog}GLUE__REGION": region,
        f"{catalog}S3__REGION": region,
        "FRUITS_REGION": region,
        "FRUITS_RETENTION_DAYS": parameters["RetentionDays"],
        "FRUITS_WEIGHTS": "published",
        **settings,
        **settings_in(parameters["MoreSettings"]),
    }


def setting_of(output: str) -> str | None:
    """Return the name of the setting that a stack's *output* is; None if it is none."""
    return None if output in NOT_SETTINGS else f"FRUITS_{_snake(output)}"


def settings_in(text: str) -> dict[str, str]:
    """Return the settings in the parameter MoreSettings: FRUITS_NAME=value, blanks between."""
    return {name: value for name, _, value in (word.partition("=") for word in text.split())}


def write_environment(file: Path, variables: Mapping[str, str]) -> None:
    """Write *variables* to *file*, a line each, as docker-compose and a shell read it."""
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    file.write_text(HEADER + "".join(lines))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
