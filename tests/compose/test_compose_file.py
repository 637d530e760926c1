"""docker-compose.yaml: what has to hold for every service, and what docker itself makes of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fruits.settings import Settings
from local_cloud.cloud import LocalCloud
from tests.compose.tool import compose_tool, variables

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yaml"
SECRETS = {
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_SECRET",
    "POSTGRES_PASSWORD",
}
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
LASTING = sorted(set(SERVICES) - {"init"})


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a .env that docker/make_env.sh made."""
    subprocess.run([ROOT / "docker" / "make_env.sh", tmp_path / ".env"], check=True)
    return tmp_path / ".env"


@pytest.fixture
def compose() -> list[str]:
    """Return the compose command of this machine, or skip the test where there is none."""
    if tool := compose_tool():
        return tool
    pytest.skip("neither `docker compose` nor `docker-compose` is on this machine")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_watched(name: str) -> None:
    """Each service has a health check, and its log cannot fill the disk."""
    service = SERVICES[name]

    assert service["healthcheck"]["test"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", LASTING)
def test_what_stays_comes_back(name: str) -> None:
    """A service that stays is restarted; init, which ends, is not."""
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_airflow_waits_for_its_database() -> None:
    """Init waits for a healthy PostgreSQL, Airflow for both; so PostgreSQL is stopped last."""
    healthy = {"postgres": {"condition": "service_healthy"}}
    migrated = {"init": {"condition": "service_completed_successfully"}}

    assert SERVICES["init"]["depends_on"] == healthy
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        assert SERVICES[name]["depends_on"] == healthy | migrated


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    """An image has a tag that names a version, in the file and in the Dockerfile's default."""
    used = [SERVICES[name]["image"], *SERVICES[name].get("build", {}).get("args", {}).values()]
    default = re.search(r"^ARG PYTHON_IMAGE=(.+)$", (ROOT / "Dockerfile").read_text(), re.M)

    for image in [*used, default[1] if default else ""]:
        assert re.fullmatch(r"(\$\{\w+:-)?[a-z-]+:\d[\w.-]+\}?", image), image


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_published_on_this_machine_alone(name: str) -> None:
    """Nothing that a service publishes is reached from another machine."""
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_is_written_down(name: str) -> None:
    """Passwords and keys come from .env alone, and the file says how to make it."""
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD$|SECRET|_KEY$", variable):
            assert re.fullmatch(r"\$\{\w+:\?run docker/make_env.sh [^}]*\}", value), variable
        assert "://" not in value or "@" not in value, variable


def test_example_holds_no_secret() -> None:
    """The committed .env.example names every secret, without a value."""
    example = variables(ROOT / ".env.example")

    assert {name for name, value in example.items() if not value} == SECRETS
    assert set(re.findall(r"\$\{(\w+):\?", FILE.read_text())) == SECRETS


def test_made_environment_has_new_secrets(environment: Path) -> None:
    """make_env.sh gives every secret a value of its own that only its owner can read."""
    made = variables(environment)

    assert all(len(made[name]) >= 40 for name in SECRETS)
    assert len({made[name] for name in SECRETS}) == len(SECRETS)
    assert environment.stat().st_mode & 0o077 == 0


def test_environment_that_exists_stays(environment: Path) -> None:
    """make_env.sh never replaces secrets that a database was made with."""
    before = environment.read_text()
    subprocess.run([ROOT / "docker" / "make_env.sh", environment], check=True)

    assert environment.read_text() == before


def test_containers_do_not_run_as_root() -> None:
    """The image ends with a user of its own, and containers cannot get more rights."""
    last = re.findall(r"^USER (.+)$", (ROOT / "Dockerfile").read_text(), re.M)[-1]

    assert last == "fruits"
    for name in set(SERVICES) - {"postgres"}:
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_local_environment_is_that_of_the_local_cloud(tmp_path: Path) -> None:
    """docker/local.env sets what a local cloud tells its clients, at the service's address."""
    with LocalCloud(tmp_path / "cloud") as cloud:
        told = cloud.environment()
    local = variables(ROOT / "docker" / "local.env")
    told |= {
        name: value.replace(told[f"AWS_ENDPOINT_URL_{kind}"], f"http://local-cloud:{port}")
        for kind, port in (("S3", 9000), ("EMR", 9001))
        for name, value in told.items()
        if value == told[f"AWS_ENDPOINT_URL_{kind}"]
    }
    # Java and proxies are the machine's own, the catalog is in PostgreSQL.
    of_the_machine = {"JAVA_HOME", "NO_PROXY", "no_proxy", "PYICEBERG_CATALOG__FRUITS__URI"}

    assert told.items() - local.items() == {(name, told[name]) for name in of_the_machine}


@pytest.mark.parametrize("file", ["local.env", "aws.env.example"])
def test_settings_of_the_environment_are_valid(file: str, monkeypatch: Any) -> None:
    """Every FRUITS_ variable is a setting, with a value that it takes."""
    chosen = variables(ROOT / "docker" / file)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    ours = {name.removeprefix("FRUITS_").lower() for name in chosen if name.startswith("FRUITS_")}

    assert ours <= set(Settings.model_fields)
    assert Settings().images_uri == chosen["FRUITS_IMAGES_URI"]


def test_the_example_asks_for_no_credentials() -> None:
    """What is filled in there lies in the clone; an empty key would hide the machine's role."""
    names = variables(ROOT / "docker" / "aws.env.example")

    assert [name for name in names if "ACCESS_KEY" in name or "TOKEN" in name] == []


def test_compose_accepts_the_file(compose: list[str], environment: Path) -> None:
    """`config` resolves every service, and the local cloud goes with its profile."""
    command = [*compose, "--file", str(FILE), "--env-file", str(environment)]
    done = subprocess.run(
        [*command, "--profile", "local", "config"], capture_output=True, text=True, check=True
    )

    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


def test_compose_says_how_to_get_secrets(compose: list[str], tmp_path: Path) -> None:
    """Without .env nothing starts, and the message names the command that makes it."""
    (tmp_path / ".env").touch()
    command = [*compose, "--file", str(FILE), "--env-file", str(tmp_path / ".env"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "docker/make_env.sh" in done.stderr
