"""The dead-man timer: a node is shut down at its cap, whatever else has died."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bootstrap.nodes import put_command
from tests.fruits.emr_support import until

SCRIPT = Path(__file__).resolve().parents[2] / "bootstrap" / "node" / "limit_lifetime.sh"


class Node:
    """A folder that stands in for a node: `sudo` runs its arguments, `shutdown` leaves a file.

    `sleep` writes down how many seconds it is asked for, and sleeps until the test lets time pass.
    """

    def __init__(self, folder: Path, *, primary: bool) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.down = folder / "down"
        self.asked = folder / "asked"
        self._passed = folder / "passed"
        (folder / "instance.json").write_text(f'{{"isMaster": {str(primary).lower()}}}')
        commands = folder / "bin"
        leave_word = f'echo "$@" >"{self.down}.new" && mv "{self.down}.new" "{self.down}"'
        put_command(commands, "sudo", '"$@"')
        put_command(commands, "shutdown", leave_word)
        sleep = f'until [[ -e "{self._passed}" ]]; do /bin/sleep 0.05; done'
        put_command(commands, "sleep", f'echo "$1" >"{self.asked}"; {sleep}')

    def run(
        self, *arguments: str, path: str = os.environ["PATH"]
    ) -> subprocess.CompletedProcess[str]:
        """Run the bootstrap action as EMR does; on *path* are the commands that the node lacks."""
        environment = os.environ | {
            "PATH": f"{self.folder}/bin:{path}",
            "INSTANCE_INFO": str(self.folder / "instance.json"),
        }
        return subprocess.run(
            [str(SCRIPT), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def let_time_pass(self) -> None:
        """Let the timer's sleep end, and wait for the timer's end."""
        self._passed.touch()
        session = (self.folder / "limit_lifetime.pid").read_text().strip()
        pgrep = ["pgrep", "-s", session]
        until(lambda: not subprocess.run(pgrep, check=False, capture_output=True).stdout)

    def seconds_left(self) -> int:
        """Return how many seconds the timer sleeps for, once it does."""
        until(lambda: self.asked.exists() and bool(self.asked.read_text()))
        return int(self.asked.read_text())

    def stop_timer(self) -> None:
        """End the timer, if one runs."""
        pid = self.folder / "limit_lifetime.pid"
        if pid.exists():
            subprocess.run(["pkill", "-s", pid.read_text().strip()], check=False)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Return a primary node whose timer ends with the test."""
    node = Node(tmp_path, primary=True)
    yield node
    node.stop_timer()


def test_the_primary_is_shut_down_at_its_cap(node: Node) -> None:
    """The timer outlives the shell that set it, and shuts the node down in time, not before."""
    done = node.run("10")

    assert done.returncode == 0
    assert node.seconds_left() == 600
    assert not node.down.exists()
    node.let_time_pass()
    assert node.down.read_text() == "-h now\n"


def test_a_simulated_node_that_is_gone_shuts_nothing_down(node: Node, tmp_path: Path) -> None:
    """Whoever removes a local cloud under its timer keeps the machine that it was simulated on."""
    machine = Node(tmp_path / "machine", primary=True)
    path = f"{machine.folder}/bin:{os.environ['PATH']}"

    node.run("5", path=path)
    assert node.seconds_left() == 300
    shutil.rmtree(node.folder / "bin")
    node.let_time_pass()

    assert not machine.down.exists()
    assert not node.down.exists()


def test_a_second_call_keeps_the_first_timer(node: Node) -> None:
    """A bootstrap action that runs twice does not give the cluster more time."""
    node.run("10")
    again = node.run("600")

    assert "already set" in again.stdout
    assert node.seconds_left() == 600
    node.let_time_pass()
    assert node.down.exists()


def test_other_nodes_set_no_timer(tmp_path: Path) -> None:
    """A worker that shut itself down would only be replaced."""
    worker = Node(tmp_path, primary=False)

    assert "not the primary" in worker.run("1").stdout
    assert not (worker.folder / "limit_lifetime.pid").exists()
    assert not worker.asked.exists()


def test_a_node_that_cannot_tell_what_it_is_fails_the_bootstrap(node: Node) -> None:
    """It could be the primary: a cluster without a timer does not start."""
    (node.folder / "instance.json").unlink()

    done = node.run("1")

    assert done.returncode != 0
    assert "instance.json cannot be read" in done.stderr


@pytest.mark.parametrize("minutes", ["0", "-5", "abc", "1.5", ""])
def test_a_wrong_cap_fails_the_bootstrap(node: Node, minutes: str) -> None:
    """A cluster without a working timer does not start: the action fails, and names the reason."""
    done = node.run(minutes)

    assert done.returncode != 0
    assert "MINUTES" in done.stderr
