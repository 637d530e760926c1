"""Clusters that really run: bootstrap actions, steps, logs, cancelling, shutting down."""

from __future__ import annotations

import errno
import gzip
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from local_cloud.cloud import LocalCloud
from local_cloud.emr import control, effects, journal, logs, processes
from local_cloud.emr.programs import cluster_mark, step_mark
from tests.local_cloud.living import lives, session_of, with_marker

CORE = {
    "InstanceGroups": [
        {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1},
        {"InstanceRole": "CORE", "InstanceType": "m5.xlarge", "InstanceCount": 2},
    ]
}
TREE = "setsid sleep 1000 & sleep 1000 & (env -i sleep 1000 &) ; sleep 1000"


@pytest.fixture
def bootstrap(s3: Any) -> Callable[..., dict[str, Any]]:
    """Return a maker of bootstrap actions: it puts the script into the lake."""

    def make(script: str, *args: str, name: str = "prepare") -> dict[str, Any]:
        s3.put_object(Bucket="fruits-lake", Key=f"node/{name}.sh", Body=script.encode())
        path = f"s3://fruits-lake/node/{name}.sh"
        return {"Name": name, "ScriptBootstrapAction": {"Path": path, "Args": list(args)}}

    return make


def add(emr: Any, cluster_id: str, *steps: dict[str, Any]) -> list[str]:
    """Add steps and return their ids."""
    return list(emr.add_job_flow_steps(JobFlowId=cluster_id, Steps=list(steps))["StepIds"])


def test_bootstrap_actions_run_on_every_node(
    emr: Any, job_flow: Any, bootstrap: Any, cluster_in: Any, read_log: Any
) -> None:
    """Each node runs each action with its arguments, knows whether it is the primary, has sudo."""
    script = 'echo "$1"; cat "${INSTANCE_INFO:-/mnt/none}"; sudo -E bash -c "echo as root" >&2'
    actions = [bootstrap(script, "an argument"), bootstrap("echo second", name="later")]
    request = job_flow(Instances=CORE, BootstrapActions=actions)
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    cluster_in(cluster_id, "WAITING")

    machines = emr.list_instances(ClusterId=cluster_id)["Instances"]
    said = {}
    for machine in [machines[0], machines[1]]:
        logs = f"logs/{cluster_id}/node/{machine['Ec2InstanceId']}/bootstrap-actions"
        said[machine["Ec2InstanceId"]] = read_log(f"{logs}/1/stdout.gz")
        assert read_log(f"{logs}/1/stderr.gz") == "as root\n"
        assert "exit code 0" in read_log(f"{logs}/1/controller.gz")
        assert read_log(f"{logs}/2/stdout.gz") == "second\n"
    primary, core = said.values()
    assert primary.startswith("an argument\n")
    assert '"isMaster": true' in primary
    assert '"isMaster": false' in core
    listed = emr.list_bootstrap_actions(ClusterId=cluster_id)["BootstrapActions"]
    assert [action["Name"] for action in listed] == ["prepare", "later"]
    assert listed[0]["Args"] == ["an argument"]


@pytest.mark.parametrize("missing", [False, True])
def test_failing_bootstrap_action_ends_the_cluster(
    *, emr: Any, job_flow: Any, bootstrap: Any, step: Any, cluster_in: Any, missing: bool
) -> None:
    """An action that fails, or that is not in S3, ends the cluster with BOOTSTRAP_FAILURE."""
    action = bootstrap("exit 7")
    if missing:
        action["ScriptBootstrapAction"]["Path"] = "s3://fruits-lake/node/absent.sh"
    request = job_flow(BootstrapActions=[action], Steps=[step("true")])
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    cluster = cluster_in(cluster_id, "TERMINATED_WITH_ERRORS")

    reason = cluster["Status"]["StateChangeReason"]
    assert reason["Code"] == "BOOTSTRAP_FAILURE"
    assert ("absent.sh" if missing else "non-zero return code: 7") in reason["Message"]
    assert "ReadyDateTime" not in cluster["Status"]["Timeline"]
    steps = emr.list_steps(ClusterId=cluster_id)["Steps"]
    assert [found["Status"]["State"] for found in steps] == ["CANCELLED"]


def test_daemon_of_a_bootstrap_action_can_shut_the_cluster_down(
    *, emr: Any, job_flow: Any, bootstrap: Any, cluster_in: Any, tmp_path: Path
) -> None:
    """`sudo shutdown -h now` from a detached process, later, ends the cluster and that process."""
    script = f"""
    setsid bash -c 'while [ ! -e {tmp_path}/now ]; do sleep 0.05; done
                    sudo shutdown -h now; sleep 1000' > /dev/null 2>&1 &
    """
    request = job_flow(BootstrapActions=[bootstrap(script)])
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    cluster_in(cluster_id, "WAITING")
    assert with_marker(cluster_mark(cluster_id))
    (tmp_path / "now").touch()

    cluster = cluster_in(cluster_id, "TERMINATED_WITH_ERRORS")
    assert cluster["Status"]["StateChangeReason"]["Code"] == "INSTANCE_FAILURE"
    assert not with_marker(cluster_mark(cluster_id))


def test_shutdown_does_not_end_a_protected_cluster(
    *, emr: Any, job_flow: Any, step: Any, step_in: Any, cloud: LocalCloud, wait_for: Any
) -> None:
    """`shutdown` on the primary of a protected cluster is noted, and the cluster goes on."""
    request = job_flow(Instances={"TerminationProtected": True}, Steps=[step("shutdown -h now")])
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    first = emr.list_steps(ClusterId=cluster_id)["Steps"][0]["Id"]
    step_in(cluster_id, first, "COMPLETED")

    path = cloud.emr.journal.path
    noted = wait_for(lambda: [e for e in journal.read(path) if e["kind"] == "node"])
    assert noted[0]["ignored"] is True
    again = add(emr, cluster_id, step("true"))[0]
    step_in(cluster_id, again, "COMPLETED")


def test_a_full_disk_is_survived(
    cloud: LocalCloud, emr: Any, ready: str, job_flow: Any, cluster_in: Any
) -> None:
    """Once there is room again, what was asked for meanwhile happens; what was refused is gone."""
    site = cloud.emr.plane._site
    (node,) = site.nodes(cloud.emr.plane.cluster(ready, "eu-west-3"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(site.store), "save", full)
        patch.setattr(type(site.journal), "write", full)
        node.shutdown_request.touch()
        with pytest.raises(ClientError):
            emr.run_job_flow(**job_flow())
        time.sleep(5 * control.LOOK_INTERVAL)

    cluster_in(ready, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert [one["Id"] for one in emr.list_clusters()["Clusters"]] == [ready]


def test_shutdown_takes_only_what_it_can_do(
    emr: Any, ready: str, step: Any, step_in: Any, read_log: Any
) -> None:
    """A shutdown in ten minutes, or a reboot, is refused by name instead of done at once."""
    step_id = add(emr, ready, step("shutdown -r +10"))[0]
    step_in(ready, step_id, "FAILED")

    assert "'-r'" in read_log(f"logs/{ready}/steps/{step_id}/stderr.gz")
    assert emr.describe_cluster(ClusterId=ready)["Cluster"]["Status"]["State"] == "WAITING"


def test_step_logs_land_under_log_uri(
    emr: Any, ready: str, step: Any, step_in: Any, read_log: Any
) -> None:
    """controller, stdout and stderr are where EMR puts them once the step has ended."""
    step_id = add(emr, ready, step("echo out; echo err >&2"))[0]
    step_in(ready, step_id, "COMPLETED")

    logs = f"logs/{ready}/steps/{step_id}"
    assert read_log(f"{logs}/stdout.gz") == "out\n"
    assert read_log(f"{logs}/stderr.gz") == "err\n"
    controller = read_log(f"{logs}/controller.gz")
    assert "bash -c" in controller
    assert "exitCode 0" in controller


def test_running_step_can_be_followed(
    *, emr: Any, ready: str, step: Any, read_log: Any, wait_for: Any, s3: Any
) -> None:
    """What a running step has said so far is under LogUri after a few seconds."""
    step_id = add(emr, ready, step("echo begun; sleep 1000"))[0]
    key = f"logs/{ready}/steps/{step_id}/stdout.gz"
    prefix = {"Bucket": "fruits-lake", "Prefix": key}
    wait_for(lambda: "Contents" in s3.list_objects_v2(**prefix))
    wait_for(lambda: read_log(key) == "begun\n")  # the first may have been too early

    found = emr.describe_step(ClusterId=ready, StepId=step_id)["Step"]
    assert found["Status"]["State"] == "RUNNING"


def test_failed_step_says_why(emr: Any, ready: str, step: Any, step_in: Any) -> None:
    """FailureDetails carry the exit code, the last error and the URI of the full stderr."""
    command = "echo 'ValueError: no such table' >&2; echo bye >&2; exit 3"
    step_id = add(emr, ready, step(command))[0]
    details = step_in(ready, step_id, "FAILED")["Status"]["FailureDetails"]

    assert "exit code 3" in details["Reason"]
    assert details["Message"] == "ValueError: no such table"
    assert details["LogFile"] == f"s3://fruits-lake/logs/{ready}/steps/{step_id}/stderr.gz"


def test_missing_log_bucket_holds_nothing_up(
    emr: Any, job_flow: Any, step: Any, cluster_in: Any, cloud: LocalCloud
) -> None:
    """Logs that cannot be brought are noted in the journal; the steps run all the same."""
    instances = {"KeepJobFlowAliveWhenNoSteps": False}
    request = job_flow(LogUri="s3://absent/logs", Instances=instances, Steps=[step("true")])
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    cluster_in(cluster_id, "TERMINATED")

    notes = [e for e in journal.read(cloud.emr.journal.path) if e.get("problem") == "logs"]
    assert cluster_id in notes[0]["uri"]


def test_step_fails_the_cluster_when_asked_to(
    emr: Any, job_flow: Any, step: Any, cluster_in: Any
) -> None:
    """TERMINATE_CLUSTER: a failed step ends the cluster, what was pending is cancelled."""
    steps = [step("exit 1", "TERMINATE_CLUSTER"), step("true")]
    cluster_id = emr.run_job_flow(**job_flow(Steps=steps))["JobFlowId"]
    cluster = cluster_in(cluster_id, "TERMINATED_WITH_ERRORS")

    assert cluster["Status"]["StateChangeReason"]["Code"] == "STEP_FAILURE"
    found = emr.list_steps(ClusterId=cluster_id)["Steps"]
    assert [one["Status"]["State"] for one in found] == ["CANCELLED", "FAILED"]


def test_failure_message_is_no_log_line(emr: Any, ready: str, step: Any, step_in: Any) -> None:
    """What a job said last counts as its message, not what Spark logs while it shuts down."""
    command = "echo 'main.py: error: --k is missing'; echo '26/11/21 09:00:00 INFO Bye: bye'"
    step_id = add(emr, ready, step(f"({command}) >&2; exit 2"))[0]
    details = step_in(ready, step_id, "FAILED")["Status"]["FailureDetails"]

    assert details["Message"] == "main.py: error: --k is missing"


def test_idle_cluster_ends_by_itself(
    emr: Any, job_flow: Any, cloud: LocalCloud, cluster_in: Any, monkeypatch: Any
) -> None:
    """The endpoint looks at its clock: a cluster idle for its policy's time ends unasked."""
    policy = {"IdleTimeout": 3600}
    cluster_id = emr.run_job_flow(**job_flow(AutoTerminationPolicy=policy))["JobFlowId"]
    cluster_in(cluster_id, "WAITING")
    monkeypatch.setattr(cloud.emr.plane, "clock", lambda: time.time() + 3601)

    reason = cluster_in(cluster_id, "TERMINATED")["Status"]["StateChangeReason"]
    assert "idle for 3600 seconds" in reason["Message"]


def test_stopping_the_cloud_ends_steps_and_brings_their_logs(
    job_flow: Any, step: Any, tmp_path: Path, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud that is stopped leaves no process, and what its steps had said is in the bucket."""
    monkeypatch.setattr(effects, "_LAST_LOGS", 60)  # as long as a busy machine takes
    with LocalCloud(tmp_path) as cloud:
        emr = boto3.client(
            "emr", "eu-west-3", endpoint_url=cloud.emr.endpoint_url,
            aws_access_key_id="x", aws_secret_access_key="x",
        )  # fmt: skip
        request = job_flow(Steps=[step("echo begun; sleep 1000")])
        cluster_id = emr.run_job_flow(**request)["JobFlowId"]
        wait_for(lambda: list(tmp_path.rglob("stdout")))
        wait_for(lambda: next(tmp_path.rglob("stdout")).read_text() == "begun\n")

    assert not with_marker(cluster_mark(cluster_id))
    log = next((tmp_path / "s3" / "fruits-lake" / "logs").rglob("stdout.gz"))
    assert gzip.decompress(log.read_bytes()) == b"begun\n"


def test_steps_run_side_by_side(emr: Any, job_flow: Any, step: Any, wait_for: Any) -> None:
    """StepConcurrencyLevel 2 runs two steps at once and holds the third back."""
    steps = [step("sleep 1000") for _ in range(3)]
    request = job_flow(StepConcurrencyLevel=2, Steps=steps)
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]

    def running() -> bool:
        found = emr.list_steps(ClusterId=cluster_id)["Steps"]
        return [one["Status"]["State"] for one in found] == ["PENDING", "RUNNING", "RUNNING"]

    wait_for(running)


@pytest.mark.parametrize("option", ["SEND_INTERRUPT", "TERMINATE_PROCESS"])
def test_cancelling_leaves_no_process(
    *, emr: Any, ready: str, step: Any, step_in: Any, wait_for: Any, option: str
) -> None:
    """CancelSteps ends the whole tree, also what called setsid or dropped its environment."""
    step_id = add(emr, ready, step(TREE))[0]
    tree = wait_for(lambda: _tree(step_id))
    answer = emr.cancel_steps(ClusterId=ready, StepIds=[step_id], StepCancellationOption=option)

    assert answer["CancelStepsInfoList"] == [{"StepId": step_id, "Status": "SUBMITTED"}]
    step_in(ready, step_id, "CANCELLED")
    assert not any(lives(process) for process in tree)
    again = emr.cancel_steps(ClusterId=ready, StepIds=[step_id])["CancelStepsInfoList"][0]
    assert (again["Status"], "CANCELLED" in again["Reason"]) == ("FAILED", True)


def test_terminating_leaves_no_process(
    emr: Any, ready: str, step: Any, cluster_in: Any, wait_for: Any
) -> None:
    """TerminateJobFlows ends every process of the cluster before it is TERMINATED."""
    step_id = add(emr, ready, step(TREE), step("true"))[0]
    tree = wait_for(lambda: _tree(step_id))
    emr.terminate_job_flows(JobFlowIds=[ready])
    cluster_in(ready, "TERMINATED")

    assert not any(lives(process) for process in tree)
    states = [one["Status"]["State"] for one in emr.list_steps(ClusterId=ready)["Steps"]]
    assert states == ["CANCELLED", "INTERRUPTED"]


def test_nothing_waits_for_the_next_look(
    *, emr: Any, job_flow: Any, step: Any, step_in: Any, cluster_in: Any, monkeypatch: Any
) -> None:
    """A cluster becomes ready, and a step begins and ends, when it can, not at an interval."""
    monkeypatch.setattr(control, "LOOK_INTERVAL", 3600)
    monkeypatch.setattr(logs, "INTERVAL", 3600)
    cluster_id = emr.run_job_flow(**job_flow())["JobFlowId"]
    cluster_in(cluster_id, "WAITING")
    step_in(cluster_id, add(emr, cluster_id, step("true"))[0], "COMPLETED")
    cluster_in(cluster_id, "WAITING")


def test_job_does_not_see_the_developers_environment(
    *, emr: Any, job_flow: Any, step: Any, step_in: Any, read_log: Any, monkeypatch: Any
) -> None:
    """A step gets a node's environment and spark-env's exports, not what a shell may hold."""
    monkeypatch.setenv("MY_SECRET_SETTING", "1")
    export = {"Classification": "export", "Properties": {"FRUIT": "plum"}}
    configurations = [{"Classification": "spark-env", "Configurations": [export]}]
    request = job_flow(Configurations=configurations, Steps=[step("env")])
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    step_id = emr.list_steps(ClusterId=cluster_id)["Steps"][0]["Id"]
    step_in(cluster_id, step_id, "COMPLETED")

    lines = read_log(f"logs/{cluster_id}/steps/{step_id}/stdout.gz").splitlines()
    names = {line.split("=")[0] for line in lines}
    assert "FRUIT=plum" in lines
    assert {"AWS_ENDPOINT_URL_S3", "AWS_REGION", "JAVA_HOME", "EMR_STEP_ID"} <= names
    assert "MY_SECRET_SETTING" not in names


def _tree(step_id: str) -> list[Any] | None:
    """Return the 4 processes of TREE once all have started, with the one that dropped its mark."""
    found = with_marker(step_mark(step_id))
    sessions = {session_of(process) for process in found} - {None}
    family = [p for p in psutil.process_iter() if session_of(p) in sessions]
    return family if len(family) == 4 else None


def test_a_step_is_cancelled_when_the_last_of_its_processes_is_dead(
    *, emr: Any, ready: str, step: Any, step_in: Any, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when its first one is: what that started may not listen, and is killed later."""
    monkeypatch.setattr(effects, "INTERRUPT_GRACE", 1.0)
    deaf = "(trap '' TERM; exec sleep 1000) & exec sleep 1000"
    step_id = add(emr, ready, step(deaf))[0]
    both = wait_for(lambda: _asleep(step_id))
    emr.cancel_steps(ClusterId=ready, StepIds=[step_id], StepCancellationOption="SEND_INTERRUPT")

    step_in(ready, step_id, "CANCELLED")
    assert not any(lives(process) for process in both)


def _asleep(step_id: str) -> list[Any] | None:
    """Return the step's two processes once both sleep."""
    found = with_marker(step_mark(step_id))
    return found if [process.name() for process in found] == ["sleep", "sleep"] else None


def test_cluster_ends_although_its_release_failed_once(
    emr: Any, ready: str, cluster_in: Any, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that would not die in time delays a cluster's end, and does not prevent it."""
    end, calls = processes.end_tree, []

    def busy(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("Processes would not end: [1]")
        end(*arguments)

    monkeypatch.setattr(processes, "end_tree", busy)
    emr.terminate_job_flows(JobFlowIds=[ready])

    cluster_in(ready, "TERMINATED")
    notes = [one for one in journal.read(cloud.emr.journal.path) if one.get("problem")]
    assert ["would not end" in note["message"] for note in notes] == [True]


def test_list_clusters_filters_and_pages(emr: Any, job_flow: Any, cluster_in: Any) -> None:
    """ListClusters gives 50 a page, newest first, and filters by state and creation time."""
    ids = [emr.run_job_flow(**job_flow())["JobFlowId"] for _ in range(52)]
    emr.terminate_job_flows(JobFlowIds=[ids[0]])
    cluster_in(ids[0], "TERMINATED")

    first = emr.list_clusters()
    second = emr.list_clusters(Marker=first["Marker"])
    listed = [cluster["Id"] for cluster in first["Clusters"] + second["Clusters"]]
    assert listed == ids[::-1]
    assert (len(first["Clusters"]), "Marker" in second) == (50, False)
    ended = emr.list_clusters(ClusterStates=["TERMINATED"])["Clusters"]
    assert [cluster["Id"] for cluster in ended] == [ids[0]]
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert emr.list_clusters(CreatedAfter=soon)["Clusters"] == []
    assert len(emr.list_clusters(CreatedBefore=soon)["Clusters"]) == 50
