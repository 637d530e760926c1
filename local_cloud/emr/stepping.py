"""One step: its command with the cluster's configuration, its process, its logs, its end."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from local_cloud.emr import logs, processes, programs, spark
from local_cloud.emr.events import StepEnded, StepStarted
from local_cloud.emr.model import Cluster, Failure, Step
from local_cloud.emr.node import STEP_MARK
from local_cloud.emr.site import Site
from local_cloud.java import BRIEF_JVM

_ERROR_LINE = re.compile(r"[\w.$]*(?:Error|Exception|Exit|Interrupt)\b")
_LOG_LINE = re.compile(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d (?:DEBUG|INFO|WARN)")
_LONGEST_MESSAGE = 512
_TAIL = 64 * 1024  # bytes of stderr in which the reason of a failure is looked for


def run(
    cluster: Cluster,
    step: Step,
    site: Site,
    runner: programs.Programs,
    send: Callable[[StepStarted | StepEnded], object],
) -> None:
    """Run *step* to its end; *send* gets StepStarted and StepEnded."""
    folder = site.step_logs(cluster, step.id)
    command = _command(step)
    folder.tell(f"INFO startExec {shlex.join(command)}")
    for line in spark.not_applied(cluster, step):
        folder.tell(f"INFO this machine decides: {line} is not applied")
    try:
        environment = _environment(cluster, step, site, folder.folder)
        work = folder.folder / "work"
        work.mkdir(exist_ok=True)
        process = runner.start(command, environment, work, folder.folder)
    except programs.EndedError:
        send(StepEnded(step.id, Failure("The step was ended before it started")))
        return
    except OSError as error:
        folder.tell(f"ERROR could not start: {error}")
        folder.ship()
        send(StepEnded(step.id, Failure("The step's command could not be started", str(error))))
        return
    send(StepStarted(step.id, processes.identify(process.pid)))
    began = time.monotonic()
    code = programs.wait(process, logs.INTERVAL, folder.ship)
    runner.await_end(programs.step_mark(step.id))
    folder.tell(f"INFO Step ended with exitCode {code} in {_seconds(began)} seconds")
    shutil.rmtree(folder.folder / "tmp", ignore_errors=True)
    folder.ship()
    send(StepEnded(step.id, _failure(code, folder.folder) if code else None))


def _command(step: Step) -> list[str]:
    program, *arguments = step.args
    if program != "spark-submit":
        return [program, *arguments]
    # The one beside this Python: it runs the pyspark that the jobs were tested with.
    spark_submit = str(Path(sys.executable).with_name("spark-submit"))
    return [spark_submit, *spark.local_arguments(arguments)]


def _environment(cluster: Cluster, step: Step, site: Site, folder: Path) -> dict[str, str]:
    configuration = folder / "conf"
    configuration.mkdir(exist_ok=True)
    settings = spark.defaults(cluster, site.folder(cluster), site.buckets)
    (configuration / "spark-defaults.conf").write_text(spark.render(settings), encoding="utf-8")
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    ours = {
        "SPARK_CONF_DIR": str(configuration),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "TMPDIR": str(temporary),
        # Spark leaves its copies of jobs behind when it is killed: they go with the step's folder.
        "SPARK_SUBMIT_OPTS": f"{BRIEF_JVM} -Djava.io.tmpdir={shlex.quote(str(temporary))}",
    }
    base = site.node(cluster, cluster.primary).environment(site.services)
    return base | ours | spark.exports(cluster) | {STEP_MARK: step.id}


def _failure(code: int, folder: Path) -> Failure:
    ended = f"was ended by signal {-code}" if code < 0 else f"returned exit code {code}"
    return Failure(f"The step's command {ended}", _last_error(folder / "stderr"))


def _last_error(stderr: Path) -> str:
    """Return the last line of *stderr* that names an error, else the last that is no log line."""
    with stderr.open("rb") as file:
        file.seek(max(stderr.stat().st_size - _TAIL, 0))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and not _LOG_LINE.match(line)]
    errors = [line for line in said if _ERROR_LINE.match(line)]
    return (errors or said or [""])[-1][:_LONGEST_MESSAGE]


def _seconds(began: float) -> float:
    return round(time.monotonic() - began, 1)
