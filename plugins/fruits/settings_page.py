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
aws-deploy`. Those with a name in the last column are fields of the trigger form, which overrides
them for one run. They are checked when a DAG is parsed and again when a run starts: a wrong one is
named with its value and what would be right, before a cluster costs money. (The watchdog goes on:
it needs region and lake alone.) There is no other source: a connection or a Variable of
Airflow would have to be asked for at every parse.

AWS credentials are not settings: they are found where boto3 looks for them. Where the tables are is
PyIceberg's configuration (`PYICEBERG_CATALOG__FRUITS__*`), see [reading.md](reading.md).

*Made by `python -m fruits.settings_page`; a test compares it with the code.*

| variable | default | allowed | what it is | in the form |
|---|---|---|---|---|
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_page() -> str:
    """Return the page as Markdown."""
    from fruits.params import ingestion_params

    schema, form = Settings.model_json_schema(), ingestion_params(Settings())
    titles = {name: str(param.schema["title"]) for name, param in form.items()}
    properties = schema["properties"].items()
    rows = (_row(name, one, schema, titles.get(name, "")) for name, one in properties)
    return HEAD + "".join(rows)


def _row(name: str, field: dict[str, Any], schema: dict[str, Any], title: str) -> str:
    default = "" if field.get("default") is None else f"`{field['default']}`"
    if name == "cache_folder":
        default = "`~/.cache/fruits`"
    allowed = ", ".join(_allowed(field, schema)).replace("|", "\\|")
    text = str(Settings.model_fields[name].description).replace("|", "\\|")
    return f"| `FRUITS_{name.upper()}` | {default} | {allowed} | {text} | {title} |\n"


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
