"""An Airflow with requirements-airflow.txt alone: no Spark, no TensorFlow there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fruits.staging import stage_jobs
from fruits.weights import Weights, publish_weights
from local_cloud.s3 import ObjectStorage
from tests.bootstrap.wheelhouses import pins
from tests.fruits.lake_support import put

ROOT = Path(__file__).resolve().parents[2]
# What requirements.txt has and the slim list has not.
ABSENT = (
    *("PIL", "asyncpg", "h5py", "keras", "matplotlib", "onnx", "onnxruntime", "pandas"),
    *("psycopg2", "pyspark", "scipy", "sklearn", "tensorflow", "tf2onnx", "threadpoolctl"),
    "ai_edge_litert",
)
PROGRAM = """
import importlib, json, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in json.loads(sys.argv[1]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[2])
import fruits
from fruits import ingestion
from fruits.erasures import erase
from fruits.leases import end_lease
from fruits.settings import load_settings
from fruits.sweeps import sweep

modules = [one.name for one in pkgutil.walk_packages(fruits.__path__, "fruits.")]
for name in modules:
    importlib.import_module(name)
settings = load_settings()
found = ingestion.sense_changes(settings, "b1")
staged = ingestion.stage(settings, found)
reserved = ingestion.reserve(settings, "b1", staged, found)
end_lease(settings.lake, "b1")
swept = sweep(settings)
receipt, uri = erase(settings, ["Apple/1.jpg"])
print(json.dumps({
    "errors": bag.import_errors, "dags": sorted(bag.dags), "found": found["counts"]["added"],
    "model": found["feature_model"], "token": reserved["token"], "versions": receipt.versions,
    "imported": "fruits.commits" in modules,
}))
"""


@pytest.fixture
def published(storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Put weights and a network into the lake, as publishing does on a whole machine."""
    file = tmp_path / "w.h5"
    file.write_bytes(b"weights")
    weights = Weights(str(file), "1" * 64, "model-of-test", "file")
    monkeypatch.setattr(
        "fruits.staging._exported", lambda _, __, kinds: dict.fromkeys(kinds, b"network")
    )
    stage_jobs("s3://fruits-lake", "eu-west-3", weights)
    publish_weights(weights, "MobileNetV2", "s3://fruits-lake")
    return weights


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """Return a DAGs folder as docs/aws.md lays it out for an Airflow without Docker."""
    folder = tmp_path / "dags"
    for part in ("dags", "plugins", "spark_jobs", "bootstrap"):
        without_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / "fruits" / part, ignore=without_caches)
    (folder / ".airflowignore").write_text(
        "fruits/plugins/\nfruits/spark_jobs/\nfruits/bootstrap/\n"
    )
    return folder


def test_a_slim_airflow_is_enough(published: Weights, dags: Path, tmp_path: Path) -> None:
    """DAGs parse, every module imports, sensing, staging, reserving, retention, erasure work."""
    put("Apple/1.jpg")
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(dags / "fruits" / "plugins"),
        "FRUITS_WEIGHTS": "published",
        "FRUITS_PRICES_MAX_AGE_DAYS": "36500",
    }

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(ABSENT), str(dags)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "errors": {},
        "dags": [
            "fruits_cost_watchdog",
            "fruits_ingestion",
            "fruits_retention",
            "fruits_switch_model",
        ],
        "found": 1,
        "model": "model-of-test",
        "token": "b1",
        "versions": 1,
        "imported": True,
    }


def test_the_slim_list_is_part_of_the_whole() -> None:
    """Every version in it is the one that the tests run with."""
    ours, slim = (pins(ROOT / f"requirements{name}.txt") for name in ("", "-airflow"))

    assert slim <= ours
    assert "pyiceberg==0.12.0" in slim
    assert not [pin for pin in slim if pin.startswith(("pyspark", "tensorflow", "apache-airflow"))]
