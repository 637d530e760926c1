"""An endpoint that was killed comes back with everything it knew, and without its old processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from local_cloud import background
from local_cloud.addresses import is_taken
from local_cloud.cloud import environment_file
from local_cloud.emr import journal, processes
from local_cloud.emr.programs import cluster_mark, step_mark
from local_cloud.lock import holder
from tests.local_cloud.living import with_marker

SERVE = [sys.executable, "-m", "local_cloud", "serve"]


@pytest.fixture
def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_for: Any
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Return a function that starts a cloud over the test's folder in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        environment_file(tmp_path).unlink(missing_ok=True)
        started.append(subprocess.Popen([*SERVE, "--folder", str(tmp_path)]))
        wait_for(environment_file(tmp_path).exists)
        for name, value in background.environment_of(tmp_path).items():
            monkeypatch.setenv(name, value)
        return started[-1]

    yield start
    background.down(tmp_path)
    for process in started:
        process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the endpoint the way a crash does."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_running_step_comes_back_failed(
    serve: Any, job_flow: Any, step: Any, wait_for: Any, tmp_path: Path
) -> None:
    """After kill -9: the running step is FAILED and its processes are ended; the next one runs."""
    server = serve()
    steps = [step("setsid sleep 1000 & sleep 1000"), step("true")]
    cluster_id = boto3.client("emr").run_job_flow(**job_flow(Steps=steps))["JobFlowId"]
    first = boto3.client("emr").list_steps(ClusterId=cluster_id)["Steps"][1]["Id"]
    wait_for(lambda: len(with_marker(step_mark(first))) >= 2)
    ports = (tmp_path / "ports.json").read_text()
    kill(server)
    assert len(with_marker(step_mark(first))) >= 2
    serve()

    emr = boto3.client("emr")
    state = _state_of(cluster_id)
    wait_for(lambda: state() == "WAITING")
    states = [one["Status"]["State"] for one in emr.list_steps(ClusterId=cluster_id)["Steps"]]
    assert states == ["COMPLETED", "FAILED"]
    details = emr.describe_step(ClusterId=cluster_id, StepId=first)["Step"]["Status"]
    assert "restarted" in details["FailureDetails"]["Reason"]
    assert details["FailureDetails"]["LogFile"].endswith(f"{first}/stderr.gz")
    assert not with_marker(step_mark(first))
    assert (tmp_path / "ports.json").read_text() == ports


def test_daemon_of_a_node_lives_on_and_still_shuts_down(
    serve: Any, job_flow: Any, wait_for: Any, tmp_path: Path
) -> None:
    """A node's daemon outlives the endpoint, and its `shutdown` ends the cluster of the new one."""
    server = serve()
    script = f"""setsid bash -c 'while [ ! -e {tmp_path}/now ]; do sleep 0.05; done
                 sudo shutdown -h now' > /dev/null 2>&1 &"""
    boto3.client("s3").put_object(Bucket="fruits-lake", Key="guard.sh", Body=script.encode())
    action = {"Name": "guard", "ScriptBootstrapAction": {"Path": "s3://fruits-lake/guard.sh"}}
    request = job_flow(BootstrapActions=[action])
    cluster_id = boto3.client("emr").run_job_flow(**request)["JobFlowId"]
    state = _state_of(cluster_id)
    wait_for(lambda: state() == "WAITING")
    kill(server)
    serve()

    assert state() == "WAITING"
    assert with_marker(cluster_mark(cluster_id))
    (tmp_path / "now").touch()
    wait_for(lambda: state() == "TERMINATED_WITH_ERRORS")
    assert not with_marker(cluster_mark(cluster_id))


def test_nothing_is_forgotten(serve: Any, job_flow: Any, wait_for: Any, tmp_path: Path) -> None:
    """Clusters, tags, policies and the journal are there after a restart, ended clusters too."""
    server = serve()
    emr = boto3.client("emr")
    policy = {"IdleTimeout": 3600}
    tagged = job_flow(Tags=[{"Key": "token", "Value": "t"}], AutoTerminationPolicy=policy)
    kept, ended = (emr.run_job_flow(**tagged)["JobFlowId"] for _ in range(2))
    emr.terminate_job_flows(JobFlowIds=[ended])
    state_of_ended, state_of_kept = _state_of(ended), _state_of(kept)
    wait_for(lambda: state_of_ended() == "TERMINATED")
    wait_for(lambda: state_of_kept() == "WAITING")
    before = emr.describe_cluster(ClusterId=kept)["Cluster"]
    kill(server)
    serve()

    emr = boto3.client("emr")
    assert emr.describe_cluster(ClusterId=kept)["Cluster"] == before
    assert [c["Id"] for c in emr.list_clusters()["Clusters"]] == [ended, kept]
    assert emr.get_auto_termination_policy(ClusterId=kept)["AutoTerminationPolicy"] == policy
    path = tmp_path / "emr" / "journal.jsonl"
    assert len(journal.accepted_calls(path, "RunJobFlow")) == 2


def test_torn_journal_line_is_left_out(tmp_path: Path) -> None:
    """A line that was half written when the endpoint died spoils no other line."""
    log = journal.Journal(tmp_path)
    log.write("call", action="RunJobFlow")
    with log.path.open("a") as file:
        file.write('{"time": 1, "kind": "ca')
    journal.Journal(tmp_path).write("call", action="RunJobFlow")

    assert len(journal.accepted_calls(log.path, "RunJobFlow")) == 2


def test_reused_pid_is_never_killed() -> None:
    """A process with the pid of an old step, but another start time, is somebody else's."""
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        recorded = processes.identify(bystander.pid)
        reused = type(recorded)(bystander.pid, recorded.started_at - 60)
        processes.end_tree(("EMR_STEP_ID", "s-none"), [reused])

        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_end_tree_waits_for_the_last_process(wait_for: Any) -> None:
    """A tree that ignores SIGTERM is gone when end_tree returns, children included."""
    mark = ("EMR_STEP_ID", f"s-{os.getpid()}")
    command = ["bash", "-c", "trap '' TERM; (trap '' TERM; sleep 1000) & sleep 1000; sleep 1000"]
    root = subprocess.Popen(command, env=os.environ | dict([mark]), start_new_session=True)
    known = processes.identify(root.pid)
    wait_for(lambda: len(psutil.Process(root.pid).children(recursive=True)) >= 2)

    processes.end_tree(mark, [known], grace=0.2)

    assert not with_marker(mark)
    assert root.wait() == -signal.SIGKILL


def test_program_whose_first_thread_is_gone_still_runs(wait_for: Any, tmp_path: Path) -> None:
    """Its other threads keep its port: end_tree returns when that is free."""
    program = f"""if True:
        import ctypes, pathlib, socket, threading
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=threading.Event().wait).start()
        pathlib.Path({str(tmp_path / "port")!r}).write_text(str(listener.getsockname()[1]))
        ctypes.CDLL(None).pthread_exit(None)
    """
    root = subprocess.Popen([sys.executable, "-c", program])
    known = processes.identify(root.pid)
    wait_for(lambda: psutil.Process(root.pid).status() == psutil.STATUS_ZOMBIE)
    port = int((tmp_path / "port").read_text())
    assert is_taken(port)

    processes.end_tree(("EMR_STEP_ID", "s-none"), [known])

    assert not is_taken(port)
    root.wait()


def test_folder_is_free_after_a_kill(serve: Any, tmp_path: Path) -> None:
    """The lock of a killed cloud holds nobody up."""
    server = serve()
    assert holder(tmp_path) == server.pid
    kill(server)

    assert holder(tmp_path) is None


def _state_of(cluster_id: str) -> Callable[[], str]:
    client = boto3.client("emr")
    return lambda: str(client.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]["State"])
