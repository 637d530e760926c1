"""A folder that stands in for a node, and a node's lack of a network."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

REGION = "eu-west-3"
SCRIPT = Path(__file__).resolve().parents[2] / "bootstrap" / "node" / "install_python_env.sh"
# Whoever asks a network from a node of these tests gets no answer.
NOWHERE = "http://127.0.0.1:9"


def put_command(folder: Path, name: str, body: str) -> None:
    """Write the bash command *name* into *folder*, which is made where it is missing."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)


class Node:
    """A folder that stands in for a node without egress; `sudo` runs its arguments.

    Its disk has room, whatever this machine's has.
    Where the kernel lets us, its processes have no network at all; elsewhere a proxy to nowhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = folder / "opt" / "python"
        self.wheelhouse = folder / "wheelhouse"
        folder.mkdir(exist_ok=True)
        self.command("sudo", 'exec "$@"')
        self.command("df", "printf 'Filesystem\\nroot 9 9 9999 9 /\\n'")
        self.command("python3.11", f'exec {shlex.quote(sys.executable)} "$@"')

    def command(self, name: str, body: str) -> None:
        """Put the command *name* on the node's PATH."""
        put_command(self.folder / "bin", name, body)

    def run(self, lock: str, wheelhouse: str = "") -> subprocess.CompletedProcess[str]:
        """Run the bootstrap action as EMR does."""
        variables = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "INSTANCE_INFO": str(self.folder / "info" / "instance.json"),
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            # Settings of a developer's pip must not make a node's work.
            "PIP_INDEX_URL": "https://pypi.org/simple",
            "TMPDIR": str(self.folder),
        }
        wanted = wheelhouse or str(self.wheelhouse)
        return subprocess.run(
            [*without_network(), "bash", str(SCRIPT), wanted, lock, str(self.environment), REGION],
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def python(self, code: str) -> str:
        """Return what *code* prints in the installed environment."""
        command = [f"{self.environment}/bin/python", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def without_network() -> list[str]:
    """Return what to put before a command so that it has no network, if that is allowed here."""
    for unshare in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
            return unshare
    return []
