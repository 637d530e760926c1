"""A local cloud in a process of its own: start it, ask for it, end it without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from local_cloud.airflow import HEALTH_PATIENCE, MIGRATE_PATIENCE
from local_cloud.cloud import FOLDER_MARK, environment_file
from local_cloud.emr.processes import end_tree
from local_cloud.lock import FolderInUseError, holder
from local_cloud.s3 import START_PATIENCE

# The longest that the parts wait, each of which says itself what failed: S3, on the port of last
# time and then on another; Airflow's database; its processes. Python's own beginning comes on top.
_START_PATIENCE = 2 * START_PATIENCE + MIGRATE_PATIENCE + HEALTH_PATIENCE + 30.0
_STOP_PATIENCE = 30.0
_FORK_PATIENCE = 0.5  # until a process that was forked has its mark
_COMMAND = [sys.executable, "-m", "local_cloud", "serve"]


def up(folder: Path, arguments: list[str] | None = None) -> dict[str, str]:
    """Start a cloud over *folder* in the background and return its environment.

    *arguments* are further ones of `serve`.
    FolderInUseError when one runs already; RuntimeError with its log when it does not start. One
    that was interrupted leaves nothing that starts.
    """
    if holder(folder):
        raise FolderInUseError(folder, holder(folder))
    environment_file(folder).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    process = None
    try:
        process = _serve(folder, arguments or [])
        return _environment_once_up(folder, process)
    except BaseException:
        if process is None:  # interrupted between the fork and its answer
            time.sleep(_FORK_PATIENCE)
        if process is None or process.poll() is None:  # one that ended by itself did so in order
            end_tree(_mark(folder))
            if process:
                process.wait()
            environment_file(folder).unlink(missing_ok=True)
        raise


def down(folder: Path) -> int | None:
    """End the cloud over *folder* with everything it started; return its pid, None if none ran."""
    pid = holder(folder)
    if pid:
        with suppress(psutil.NoSuchProcess):
            _end(psutil.Process(pid))
    # What a cloud that was killed left behind; or itself, if its lock was deleted.
    end_tree(_mark(folder))
    environment_file(folder).unlink(missing_ok=True)
    return pid


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment of the cloud that runs over *folder*."""
    return dict(json.loads(environment_file(folder).read_text()))


def _serve(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    name, value = _mark(folder)
    with _log(folder).open("wb") as output:
        return subprocess.Popen(
            [*_COMMAND, "--folder", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": _import_path(), name: value},
        )


def _environment_once_up(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if environment_file(folder).exists():
            return environment_of(folder)
        time.sleep(0.05)
    told = _log(folder).read_text()
    raise RuntimeError(f"The local cloud over {folder} did not start: {told}")


def _log(folder: Path) -> Path:
    return folder / "cloud.log"


def _mark(folder: Path) -> tuple[str, str]:
    """Return what everything of a background cloud has in its environment."""
    return FOLDER_MARK, str(folder.resolve())


def _import_path() -> str:
    """Return PYTHONPATH with this package's home first: `up` may be called from anywhere."""
    home = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def _end(process: psutil.Process) -> None:
    process.terminate()
    deadline = time.monotonic() + _STOP_PATIENCE
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    process.kill()
