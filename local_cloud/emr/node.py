"""What a simulated machine offers: its own folder, instance.json, `sudo` and `shutdown`.

EMR's nodes have /mnt/var/lib/info/instance.json; here several nodes share one file system, so each
process has its node's in INSTANCE_INFO: scripts read
"${INSTANCE_INFO:-/mnt/var/lib/info/instance.json}".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from local_cloud.emr.baked import python_locks, what_lacks
from local_cloud.emr.model import Cluster, Instance

CLUSTER_MARK = "EMR_CLUSTER_ID"
STEP_MARK = "EMR_STEP_ID"
NODE_MARK = "INSTANCE_INFO"

# Of the endpoint's own environment a node sees only what a machine has, and what reaches a package
# index: what else a developer's shell holds must not make a job work here and fail on EMR.
_INHERITED = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL")
_INHERITED_PREFIXES = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")

_SUDO = """#!/usr/bin/env bash
# Everything on this node already runs as the user who owns it: sudo runs its arguments.
while [[ "${1:-}" == -* || "${1:-}" == *=* ]]; do
    case "$1" in
        -u | -g | -C | -p | --user | --group) shift 2 ;;
        --) shift; break ;;
        *=*) [[ "$1" == -* ]] || export "${1?}"; shift ;;
        *) shift ;;
    esac
done
exec "$@"
"""

_SHUTDOWN = """#!/usr/bin/env bash
# Ends this node the way the endpoint sees it: by a file, which outlives a restart of the endpoint.
for argument in "$@"; do
    case "$argument" in
        -h | -P | -H | --halt | --poweroff | now | +0) ;;
        *) echo "shutdown: this node does not know '$argument', use: shutdown -h now" >&2; exit 1 ;;
    esac
done
printf '%s\\n' "shutdown $*" > {request}.new && mv {request}.new {request}
"""


class Node:
    """The machine of *instance* under the cluster's *folder*."""

    def __init__(self, folder: Path, cluster: Cluster, instance: Instance) -> None:
        self.folder = folder / "nodes" / instance.ec2_id
        self.instance = instance
        self._cluster = cluster

    @property
    def mark(self) -> tuple[str, str]:
        """The environment variable (name, value) that every process of this node carries."""
        return NODE_MARK, str(self.folder / "instance.json")

    @property
    def shutdown_request(self) -> Path:
        """The file that says that somebody called `shutdown`."""
        return self.folder / "shutdown-requested"

    def prepare(self) -> None:
        """Make the folder with everything in it; what is there already is made again."""
        commands = self.folder / "bin"
        commands.mkdir(parents=True, exist_ok=True)
        self.shutdown_request.unlink(missing_ok=True)
        request = str(self.shutdown_request).replace("'", "'\\''")
        _write_command(commands / "sudo", _SUDO)
        _write_command(commands / "shutdown", _SHUTDOWN.replace("{request}", f"'{request}'"))
        info = {
            "isMaster": self.instance.role == "MASTER",
            "isRunningNameNode": self.instance.role == "MASTER",
            "instanceGroupId": self.instance.collection_id,
            "instanceRole": {"MASTER": "Master"}.get(
                self.instance.role, self.instance.role.title()
            ),
            "clusterId": self._cluster.id,
        }
        (self.folder / "instance.json").write_text(json.dumps(info, indent=2))
        # As a custom image would: install_python_env.sh has nothing to do here.
        (self.folder / "python-locks").write_text("".join(f"{lock}\n" for lock in python_locks()))
        # For that script to say where it cannot go on.
        (self.folder / "python-lacks").write_text(what_lacks())

    def environment(self, services: dict[str, str]) -> dict[str, str]:
        """Return the environment of the node's processes; *services* says where S3 and EMR are."""
        tools = f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}"
        path = os.environ.get("PATH", os.defpath)
        region = self._cluster.region
        return (
            _inherited()
            | services
            | {
                "PATH": f"{tools}{os.pathsep}{path}",
                "AWS_REGION": region,
                "AWS_DEFAULT_REGION": region,
                CLUSTER_MARK: self._cluster.id,
                NODE_MARK: self.mark[1],
            }
        )


def _inherited() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES) or name.upper() in _PROXIES
    }


def _write_command(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)
