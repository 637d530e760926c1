"""Starts a contender as a process of its own, watches its memory, and collects its figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job
from benchmarks.measuring import is_alive, is_worker, peak_mb, processes

SAMPLE_SECONDS = (
    1.0  # looking costs CPU that the contender wants; peaks are the kernel's own record
)
LIMIT_SECONDS = 1800


@dataclass(frozen=True)
class Contestant:
    """A program of benchmarks/contenders: what the tables call it, and its interpreter."""

    name: str
    program: str
    python: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """What a contender did: *seconds*, *cpu* and *s3_cpu* of each repetition, peak memory in MB.

    *cpu* is of the contender's own processes (empty if it hides what they used), *s3_cpu* of the
    local S3, which shares the cores.
    """

    name: str
    images: int
    cores: int
    seconds: tuple[float, ...]
    cpu: tuple[float, ...]
    s3_cpu: tuple[float, ...]
    worker_mb: float

    @property
    def rate(self) -> float:
        """Images per second, of the median repetition."""
        return self.images / statistics.median(self.seconds)

    @property
    def cpu_rate(self) -> float | None:
        """Images per CPU second of the contender's own processes, of the median."""
        return round(self.images / statistics.median(self.cpu), 1) if self.cpu else None

    def content(self) -> dict[str, Any]:
        """Return the figure as JSON has it, with its medians and spread."""
        return asdict(self) | {
            "repetitions": len(self.seconds),
            "median_seconds": round(statistics.median(self.seconds), 3),
            "images_per_second": round(self.rate, 1),
            "images_per_cpu_second": self.cpu_rate,
            "median_s3_cpu": round(statistics.median(self.s3_cpu), 2),
        }


class ContenderFailed(RuntimeError):  # noqa: N818
    """A contender ended with an error, or left images out: the end of its log says how."""

    def __init__(self, name: str, log: Path, why: str = "it did not end well") -> None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        super().__init__(f"{name} failed: {why}; {log} ends so:\n{tail}")


class StorageGone(RuntimeError):  # noqa: N818
    """The local S3 ended while a contender ran: no figure after that would be one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the local S3 ended while {name} ran: somebody ended it")


def run(contestant: Contestant, job: Job, folder: Path) -> Figure:
    """Run one contender in its own process and return its figure.

    ContenderFailed if it fails, StorageGone if no other can do better.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = "".join(c if c.isalnum() else "-" for c in contestant.name)
    path, log = folder / f"{stem}.json", folder / f"{stem}.log"
    job.write(path)
    command = [str(contestant.python), "-m", f"benchmarks.contenders.{contestant.program}"]
    environment = os.environ | contestant.environment
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, str(path)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
        Watch(process, job.server) as watch,
    ):
        repetitions = _collect(process, contestant.name, job)
    if not is_alive(job.server):
        raise StorageGone(contestant.name)
    if process.returncode or len(repetitions) != job.repetitions:
        raise ContenderFailed(contestant.name, log)
    if short := [one for one in repetitions if one["images"] < job.images]:
        raise ContenderFailed(contestant.name, log, f"it did {short[0]['images']} images only")

    def each(key: str) -> tuple[float, ...]:
        return tuple(round(one[key], 3) for one in repetitions if one[key] is not None)

    return Figure(
        contestant.name,
        repetitions[0]["images"],
        job.cores,
        seconds=each("seconds"),
        cpu=each("cpu"),
        s3_cpu=each("s3_cpu"),
        worker_mb=round(watch.worker),
    )


def _collect(process: subprocess.Popen[str], name: str, job: Job) -> list[dict[str, Any]]:
    assert process.stdout
    started = time.monotonic()
    found: list[dict[str, Any]] = []
    timer = threading.Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    say(f"{name}: starting")
    try:
        for line in process.stdout:
            content = json.loads(line)
            if "phase" in content:
                spent, number = time.monotonic() - started, len(found) + 1
                say(f"{name}: {content['phase']} {number}/{job.repetitions} ({spent:.0f} s)")
            else:
                found.append(content)
                rate = content["images"] / content["seconds"]
                say(f"{name}: {content['images']:,} in {content['seconds']:.2f} s, {rate:.1f}/s")
    except BaseException:
        process.kill()  # else an interrupted benchmark waits for its contender
        raise
    finally:
        timer.cancel()
    return found


def say(line: str) -> None:
    """Write a line about how far the benchmark is."""
    print(line, file=sys.stderr, flush=True)


class Watch:
    """The peak of the largest worker (MB) in a process tree while the `with` block lasts.

    Without the S3, whose process is *server*, the process is ended: clients ask again for minutes.
    """

    def __init__(self, process: subprocess.Popen[str], server: int) -> None:
        self.worker = 0.0
        self._process, self._server = process, server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            if not is_alive(self._server):
                self._process.kill()
            for process in processes(self._process.pid):
                # The first process is the driver: images pass through its children.
                if process.pid != self._process.pid and is_worker(process):
                    self.worker = max(self.worker, peak_mb(process))
