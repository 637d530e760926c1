"""Parsing the DAGs is cheap and touches nothing: it happens again and again, on every scheduler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import ROOT

HEAVY = (
    "duckdb",
    "keras",
    "matplotlib",
    "numpy",
    "obstore",
    "ai_edge_litert",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "pyiceberg",
    "pyspark",
    "tensorflow",
)
# Airflow and its own imports are paid once per process; the DAG files again and again.
PARSE = """
import json, socket, sys, time
import airflow.sdk
import airflow.providers.amazon.aws.operators.emr
import airflow.providers.amazon.aws.sensors.emr
from airflow.dag_processing.dagbag import DagBag
import botocore.session

touched = []
socket.socket.connect = lambda self, address: touched.append(f"connect {address}")
socket.getaddrinfo = lambda host, *rest, **more: touched.append(f"resolve {host}")
botocore.session.Session.create_client = lambda self, *name, **more: touched.append(name)
before = time.process_time()
bag = DagBag(sys.argv[1])
seconds = time.process_time() - before
tasks = [task for dag in bag.dags.values() for task in dag.tasks]
print(json.dumps({
    "errors": bag.import_errors, "dags": sorted(bag.dags), "seconds": seconds,
    "deferring": [task.task_id for task in tasks if getattr(task, "deferrable", False)],
    "touched": touched, "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""
# The loader runs each file under its bare stem: a file of the library would be seen by its path.
PLUGINS = """
import json, sys
from airflow.plugins_manager import ensure_plugins_loaded

ensure_plugins_loaded()
files = [str(getattr(module, "__file__", None)) for module in list(sys.modules.values())]
print(json.dumps([file for file in files if file.startswith(sys.argv[1])]))
"""
PLUGIN = """
import json, sys
from airflow.plugins_manager import get_plugin_info

before = set(sys.modules)
found = [one for one in get_plugin_info() if one["name"] == "fruits"]
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps({"found": found, "modules": sorted(new)}, default=str))
"""


def run(
    program: str, home: Path, argument: Path, plugins: Path = ROOT / "plugins", **settings: str
) -> Any:
    """Run *program* in a Python of its own and return the JSON of its last line."""
    environment = (
        os.environ
        | settings
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "0",  # none
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            "PYTHONPATH": str(ROOT / "plugins"),
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(argument)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Parse the DAG folder in a new process and return what that took.

    In an Airflow whose operators defer where they can.
    """
    home, defer = tmp_path_factory.mktemp("home"), "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE"
    parsed: dict[str, Any] = run(PARSE, home, ROOT / "dags", **{defer: "True"})
    return parsed


def test_all_dags_are_found_without_errors(parsed: dict[str, Any]) -> None:
    """What the repository ships, Airflow can import."""
    assert parsed["errors"] == {}
    assert parsed["dags"] == [
        "fruits_cost_watchdog",
        "fruits_ingestion",
        "fruits_retention",
        "fruits_switch_model",
    ]


def test_no_task_defers(parsed: dict[str, Any]) -> None:
    """No trigger of the provider renews a lease, or can end what it waits for; sensors can."""
    assert parsed["deferring"] == []


def test_parsing_takes_less_than_two_seconds(parsed: dict[str, Any]) -> None:
    """The DAG files' own processor time stays small, however busy the machine is."""
    assert parsed["seconds"] < 2


def test_parsing_touches_nothing(parsed: dict[str, Any]) -> None:
    """No connection, no name look-up, no AWS client: a scheduler may have none of them."""
    assert parsed["touched"] == []


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    """What tasks import when they run is not paid for by every parse."""
    assert sorted({*HEAVY} & {*parsed["modules"]}) == []


def test_wrong_settings_are_named_in_the_last_line(tmp_path: Path) -> None:
    """Whoever deployed it sees in the UI which variables to change; only the watchdog goes on."""
    wrong = {"FRUITS_WORKERS": "0", "FRUITS_CAP_MINUTES": "-1"}
    parsed = run(PARSE, tmp_path / "home", ROOT / "dags", **wrong)

    assert parsed["dags"] == ["fruits_cost_watchdog"]
    assert len(parsed["errors"]) == 3
    for error in parsed["errors"].values():
        last = error.strip().splitlines()[-1]
        assert "SettingsError" in last
        assert all(name in last and value in last for name, value in wrong.items())


def test_the_plugin_loader_leaves_the_library_alone(tmp_path: Path) -> None:
    """Airflow executes the plugins folder's files, but for those that .airflowignore excludes."""
    plugins = tmp_path / "plugins"
    (plugins / "fruits").mkdir(parents=True)
    (plugins / "fruits" / "part_of_the_library.py").touch()
    (plugins / "a_plugin.py").touch()
    shutil.copy(ROOT / "plugins" / ".airflowignore", plugins)

    executed = run(PLUGINS, tmp_path / "home", plugins, plugins)

    assert executed == [str(plugins / "a_plugin.py")]


def test_the_plugin_has_a_page_in_the_menu_and_costs_nothing_until_it_is_asked(
    tmp_path: Path,
) -> None:
    """Every process of Airflow loads the plugin: it imports neither the library nor the web."""
    loaded = run(PLUGIN, tmp_path / "home", tmp_path)

    (plugin,) = loaded["found"]
    (app,), (view,) = plugin["fastapi_apps"], plugin["external_views"]
    assert (app["url_prefix"], view["href"]) == ("/fruits", "fruits/")
    assert (view["destination"], view["url_route"]) == ("nav", "fruits")
    assert view["icon"].startswith("data:image/svg+xml,")
    assert not {"fruits", *HEAVY} & {*loaded["modules"]}
