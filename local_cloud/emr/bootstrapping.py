"""Bootstrap actions: fetched from S3 and run with bash, in order, on every node at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError

from local_cloud.emr import logs, programs
from local_cloud.emr.events import BootstrapFailed, BootstrapSucceeded
from local_cloud.emr.model import BootstrapAction, Cluster
from local_cloud.emr.node import Node
from local_cloud.emr.site import Site

_ROLES = {"MASTER": "master", "CORE": "core", "TASK": "task"}


def run(
    cluster: Cluster, site: Site, runner: programs.Programs
) -> BootstrapSucceeded | BootstrapFailed:
    """Run the cluster's bootstrap actions and return how they ended: the first failure counts."""
    nodes = site.nodes(cluster)
    with ThreadPoolExecutor(max_workers=max(len(nodes), 1)) as pool:
        failures = list(pool.map(lambda node: _run_on(node, cluster, site, runner), nodes))
    message = next((failure for failure in failures if failure), None)
    return BootstrapFailed(message) if message else BootstrapSucceeded()


def _run_on(node: Node, cluster: Cluster, site: Site, runner: programs.Programs) -> str | None:
    for number, action in enumerate(cluster.bootstrap_actions, start=1):
        folder = site.bootstrap_logs(cluster, node, number)
        problem = _run_action(action, node, folder, site, runner)
        folder.ship()
        if problem:
            where = f"{_ROLES[node.instance.role]} instance ({node.instance.ec2_id})"
            return f"On the {where}, bootstrap action {number} {problem}"
    return None


def _run_action(
    action: BootstrapAction,
    node: Node,
    folder: logs.LogFolder,
    site: Site,
    runner: programs.Programs,
) -> str | None:
    """Return what went wrong, None when the action ended with 0."""
    folder.tell(f"bootstrap action {action.name}: {action.path} {list(action.args)}")
    script = folder.folder / "script"
    try:
        script.write_bytes(site.objects.get(action.path))
    except (BotoCoreError, ClientError) as error:
        folder.tell(f"could not fetch {action.path}: {error}")
        return f"could not be fetched from {action.path}: {error}"
    command = ["bash", str(script), *action.args]
    process = runner.start(command, node.environment(site.services), node.folder, folder.folder)
    code = programs.wait(process, logs.INTERVAL, folder.ship)
    folder.tell(f"ended with exit code {code}")
    return f"returned a non-zero return code: {code}" if code else None
