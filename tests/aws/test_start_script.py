"""The script that starts the Airflow machine, run by bash with stand-ins for what is not here."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.aws.stacks import CONTENT, ROOT

# Called by another's name it writes down how, and fails as often as a file of that name has lines.
STAND_IN = """#!/bin/bash
name=$(basename "$0")
echo "$name $*" >>{folder}/calls
if [[ -s {folder}/failures/$name ]]; then
    sed -i 1d {folder}/failures/$name
    exit 1
fi
case "$name $*" in
apt-get*install*) cp "$0" {folder}/bin/docker ;;
python3*) cp {folder}/code.tar.gz "${{@: -1}}" ;;
esac
"""
# The machine's other programs: no docker of ours may be found.
PROGRAMS = (
    *("base64", "basename", "bash", "cat", "chmod", "cp", "dirname", "env", "find", "gzip"),
    *("head", "mkdir", "mv", "rm", "sed", "tar", "tr"),
)
VALUES = {"AirflowCode": "code/0123.tar.gz", "MoreSettings": "FRUITS_K=64", "RetentionDays": "30"}


@dataclass(frozen=True)
class Machine:
    """A machine whose disk is *folder*."""

    folder: Path

    def fail(self, program: str, times: int) -> None:
        """Let the next calls of *program* fail."""
        (self.folder / "failures" / program).write_text("once\n" * times)

    def start(self) -> subprocess.CompletedProcess[str]:
        """Run the script as cloud-init does at a start."""
        return subprocess.run(
            ["bash", "-c", self._script()],
            env={"PATH": str(self.folder / "bin")},
            umask=0o022,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """How the stand-ins were called so far."""
        return (self.folder / "calls").read_text().splitlines()

    def _script(self) -> str:
        data = CONTENT["Resources"]["Airflow"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
        _, script = email.message_from_string(data).get_payload()
        text = re.sub(r"\$\{([\w:.]+)\}", lambda m: VALUES.get(m[1], "x"), script.get_payload())
        return re.sub(r"/(?=opt/fruits|etc/cron)", f"{self.folder}/", text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine that was never started, and the code that it will find in the lake."""
    for folder in ("bin", "failures", "opt", "etc/cron.daily"):
        (tmp_path / folder).mkdir(parents=True)
    for program in PROGRAMS:
        (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
    for program in ("apt-get", "python3", "sleep"):
        path = tmp_path / "bin" / program
        path.write_text(STAND_IN.format(folder=tmp_path))
        path.chmod(0o755)
    with tarfile.open(tmp_path / "code.tar.gz", "w:gz") as archive:
        for name in ("docker/make_env.sh", ".env.example"):
            archive.add(ROOT / name, name)
    return Machine(tmp_path)


def test_it_starts_airflow(machine: Machine) -> None:
    """Packages, code, settings, and Compose, without a pause where everything is there."""
    done = machine.start()

    assert done.returncode == 0, done.stderr
    settings = (machine.folder / "opt/fruits/0123/docker/aws.env").read_text().splitlines()
    assert settings[-1] == "FRUITS_K=64"
    assert "docker compose up --detach --build --remove-orphans" in machine.calls
    assert not [call for call in machine.calls if call.startswith("sleep")]


@pytest.mark.parametrize("program", ["apt-get", "python3", "docker"])
def test_what_the_network_refuses_is_tried_again(machine: Machine, program: str) -> None:
    """A lock, a registry's limit or a broken download leaves no machine without Airflow."""
    machine.fail(program, 3)

    done = machine.start()

    assert done.returncode == 0, done.stderr
    pauses = [call for call in machine.calls if call.startswith("sleep")]
    assert pauses == ["sleep 1m", "sleep 1m", "sleep 2m"]
    assert f"{program} failed" in done.stderr or "install_packages failed" in done.stderr
    assert "docker compose up --detach --build --remove-orphans" in machine.calls


def test_it_gives_up_after_some_hours(machine: Machine) -> None:
    """A machine whose code cannot be built ends its start, and says so."""
    machine.fail("docker", 1000)

    done = machine.start()

    hours = [call for call in machine.calls if call == "sleep 1h"]
    assert done.returncode != 0
    assert len(hours) == 6
    assert not [call for call in machine.calls if call.startswith("docker image prune")]


def test_packages_wait_for_the_lock_of_ubuntus_own_updates(machine: Machine) -> None:
    """At the first start they are at work, and a second apt-get would end at once."""
    machine.start()

    (install,) = [call for call in machine.calls if " install " in call]
    assert "-o DPkg::Lock::Timeout=600" in install


def test_passwords_are_read_by_root_alone(machine: Machine) -> None:
    """Also where an older script had left them to everybody on the machine."""
    machine.start()
    code = machine.folder / "opt/fruits/0123"
    first = (code / ".env").stat().st_mode
    (code / ".env").chmod(0o644)

    machine.start()

    assert first & 0o077 == 0
    assert (code / ".env").stat().st_mode & 0o077 == 0
    assert (machine.folder / "opt/fruits/secrets.env").stat().st_mode & 0o077 == 0
    assert "FRUITS_CLOUD=docker/aws.env" in (code / ".env").read_text()
