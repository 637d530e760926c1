"""The dead-man timer: a node is shut down at its cap, whatever else has died."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bootstrap.nodes import put_command

SCRIPT = Path(__file__).resolve().parents[2] / "bootstrap" / "node" / "limit_lifetime.sh"


class Node:
    """A folder that stands in for a node: `sudo` runs its arguments, `shutdown` leaves a file.

    `sleep` sleeps a hundredth of what it is asked, so that a minute is 0.6 s.
    """

    def __init__(self, folder: Path, *, primary: bool) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.down = folder / "down"
        (folder / "instance.json").write_text(f'{{"isMaster": {str(primary).lower()}}}')
        commands = folder / "bin"
        leave_word = f'echo "$@" >"{self.down}.new" && mv "{self.down}.new" "{self.down}"'
        put_command(commands, "sudo", '"$@"')
        put_command(commands, "shutdown", leave_word)
        put_command(commands, "sleep", 'exec /bin/sleep "$(echo "$1" | awk \'{print $1 / 100}\')"')

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

    def is_down_within(self, seconds: float) -> bool:
        """Wait until the node was shut down, for *seconds* at most."""
        deadline = time.monotonic() + seconds
        while not self.down.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.down.exists()

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
    assert not node.is_down_within(0.5)
    assert node.is_down_within(20)
    assert node.down.read_text() == "-h now\n"


def test_a_simulated_node_that_is_gone_shuts_nothing_down(node: Node, tmp_path: Path) -> None:
    """Whoever removes a local cloud under its timer keeps the machine that it was simulated on."""
    machine = Node(tmp_path / "machine", primary=True)
    path = f"{machine.folder}/bin:{os.environ['PATH']}"

    node.run("5", path=path)
    shutil.rmtree(node.folder / "bin")

    assert not machine.is_down_within(6)
    assert not node.down.exists()
    session = (node.folder / "limit_lifetime.pid").read_text().strip()
    assert subprocess.run(["pgrep", "-s", session], check=False).returncode == 1


def test_a_second_call_keeps_the_first_timer(node: Node) -> None:
    """A bootstrap action that runs twice does not give the cluster more time."""
    node.run("10")
    again = node.run("600")

    assert "already set" in again.stdout
    assert node.is_down_within(20)


def test_other_nodes_set_no_timer(tmp_path: Path) -> None:
    """A worker that shut itself down would only be replaced."""
    worker = Node(tmp_path, primary=False)

    assert "not the primary" in worker.run("1").stdout
    assert not worker.is_down_within(1.5)


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
