"""Lakes for the page's tests, and an Airflow API server that asks who one is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

import pytest

from fruits.settings import Settings, load_settings
from local_cloud.addresses import HeldPort
from local_cloud.cloud import LocalCloud
from local_cloud.s3 import ObjectStorage
from tests.conftest import serving
from tests.fruits.emr_support import cloud_in_environment

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def lake(folder: Path) -> Iterator[ObjectStorage]:
    """Run an S3 with empty tables over *folder*; this process finds it by its environment."""
    from fruits.lake import ensure_tables, open_catalog
    from fruits.page import readings

    with serving(folder) as storage:
        readings._catalog.cache_clear()
        ensure_tables(open_catalog())
        yield storage


@pytest.fixture
def settings() -> Settings:
    """Return the settings of the environment."""
    return load_settings()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Run one S3, with empty tables, and one EMR for the module."""
    from fruits.lake import ensure_tables, open_catalog
    from fruits.page import readings

    with cloud_in_environment(tmp_path_factory.mktemp("cloud")) as running:
        readings._catalog.cache_clear()
        readings._emr.cache_clear()
        ensure_tables(open_catalog())
        yield running


@dataclass(frozen=True)
class Answer:
    """What a server answered: its status, its headers in lower case, and its text."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class ApiServer:
    """An Airflow API server whose users have to log in: *passwords* has theirs."""

    url: str
    passwords: dict[str, str]

    def token(self, user: str) -> str:
        """Log in and return the user's token."""
        body = json.dumps({"username": user, "password": self.passwords[user]}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/auth/token", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.loads(answer.read())["access_token"])

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Return the answer for *path*, without following where it sends us.

        Asked again while it is 503, for a minute at most: on a busy machine S3 may be late.
        """
        deadline = time.monotonic() + 60
        while True:
            answer = self._ask_once(path, method, headers)
            if answer.status != 503 or time.monotonic() > deadline:
                return answer
            time.sleep(1)

    def _ask_once(self, path: str, method: str, headers: dict[str, str]) -> Answer:
        request = urllib.request.Request(f"{self.url}{path}", headers=headers, method=method)
        opener = urllib.request.build_opener(_Stay)
        try:
            with opener.open(request, timeout=60) as answer:
                return _answer(answer)
        except HTTPError as error:
            return _answer(error)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _answer(answer: object) -> Answer:
    headers = {name.lower(): value for name, value in answer.headers.items()}  # type: ignore[attr-defined]
    return Answer(answer.status, headers, answer.read().decode())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Run Airflow's API server, its plugins loaded, over a lake with one report; nothing else."""
    folder = tmp_path_factory.mktemp("airflow")
    with lake(tmp_path_factory.mktemp("lake")):
        passwords = {"admin": "admin-secret", "reader": "reader-secret"}
        (folder / "passwords.json").write_text(json.dumps(passwords))
        environment = os.environ | _settings(folder)
        airflow = str(Path(sys.executable).with_name("airflow"))
        subprocess.run([airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
        port = HeldPort()
        environment |= _address(port.number)
        command = [airflow, "api-server", "--workers", "1"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port.number}"
            _wait(url, process, folder / "log")
            yield ApiServer(url, passwords)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _settings(folder: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,reader:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of this test, long enough for a signature",
        "PYTHONPATH": str(ROOT / "plugins"),
    }


def _address(port: int) -> dict[str, str]:
    return {
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
    }


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"{url}/api/v2/version", timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.3)
