"""docs/settings.md: every setting, as the code knows it.

python -m fruits.settings_page >docs/settings.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from fruits.settings import Settings

HEAD = """\
# Settings

Each is an environment variable. Locally `make` sets what the local cloud needs; for containers
they are in the file that `FRUITS_CLOUD` names; on AWS in `docker/aws.env`, made by `make
aws-deploy`. The fields of the trigger form override them for one run. They are checked when a DAG
is parsed and again when a run starts: a wrong one is named with its value and what would be
right, before a cluster costs money. There is no other source: a connection or a Variable of
Airflow would have to be asked for at every parse.

AWS credentials are not settings: they are found where boto3 looks for them. Where the tables are is
PyIceberg's configuration (`PYICEBERG_CATALOG__FRUITS__*`), see [reading.md](reading.md).

*Made by `python -m fruits.settings_page`; a test compares it with the code.*

| variable | default | allowed | what it is |
|---|---|---|---|
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_page() -> str:
    """Return the page as Markdown."""
    schema = Settings.model_json_schema()
    rows = (_row(name, one, schema) for name, one in schema["properties"].items())
    return HEAD + "".join(rows)


def _row(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    default = "" if field.get("default") is None else f"`{field['default']}`"
    if name == "cache_folder":
        default = "`~/.cache/fruits`"
    allowed = ", ".join(_allowed(field, schema)).replace("|", "\\|")
    text = str(Settings.model_fields[name].description).replace("|", "\\|")
    return f"| `FRUITS_{name.upper()}` | {default} | {allowed} | {text} |\n"


def _allowed(field: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    kinds = field.get("anyOf", [field])
    for kind in kinds:
        if "$ref" in kind:
            chosen = schema["$defs"][kind["$ref"].rpartition("/")[2]]["enum"]
            yield " or ".join(f"`{one}`" for one in chosen)
        for bound, sign in BOUNDS.items():
            if bound in kind:
                yield f"{sign} {kind[bound]:g}"
        if "pattern" in kind:
            yield f"`{kind['pattern']}`"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
