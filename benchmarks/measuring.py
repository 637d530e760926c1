"""What a contender costs while it runs: wall-clock, CPU of its whole process tree, memory.

The contender measures itself and prints a line of JSON for each repetition, so that starting it and
warming it up are not in the figures. The peers' environment imports this too: psutil is all it
needs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

# What runs no images: the JVM, Ray's own servers. The fork server of Spark's workers looks like one
# of them, and is smaller.
NOT_WORKERS = ("java", "raylet", "gcs_server", "dashboard", "log_monitor", "runtime_env")


def processes(pid: int | None = None) -> Iterator[psutil.Process]:
    """Yield the process *pid* (this one by default) and all its descendants."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)


def cpu_seconds(pid: int | None = None) -> float:
    """Return the CPU seconds that the tree of *pid* has used, ended children included."""
    total = 0.0
    for process in processes(pid):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user, system, and those of waited-for children
    return total


def peak_mb(process: psutil.Process) -> float:
    """Return the most resident memory (MB) that a process ever had, as Linux recorded it."""
    with suppress(OSError), open(f"/proc/{process.pid}/status") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def is_worker(process: psutil.Process) -> bool:
    """Say whether the process is one of Python's that images may pass through."""
    with suppress(psutil.Error):
        words = process.cmdline()
        line = " ".join(words)
        return ("python" in line or "ray::" in line) and not any(
            name in line for name in NOT_WORKERS
        )
    return False


def is_alive(pid: int) -> bool:
    """Say whether the process runs; one that ended and was not waited for does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def limit_cores(cores: int) -> None:
    """Keep this process and its children on the first *cores* cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))


@contextmanager
def reporting() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that prints a line of JSON; all other output goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        yield lambda content: print(json.dumps(content), file=channel, flush=True)
    finally:
        channel.close()


def repeat(
    run: Callable[[str], int],
    report: Callable[[dict[str, Any]], None],
    *,
    warm_ups: int,
    repetitions: int,
    server: int | None,
    counted: bool = True,
) -> None:
    """Call *run* with a new name each time and report what each call but the warm-ups took.

    *run* returns the number of images that it did; *server* is the process id of the S3. The CPU of
    a contender that ends its processes without waiting for them cannot be *counted*.
    """
    for number in range(-warm_ups, repetitions):
        report({"phase": "warm-up" if number < 0 else "repetition", "number": number})
        before, served = cpu_seconds(), cpu_seconds(server) if server else 0.0
        started = time.perf_counter()
        images = run(f"{os.getpid()}-{number + warm_ups}")
        seconds = time.perf_counter() - started
        if number >= 0:
            cpu = cpu_seconds() - before if counted else None
            s3 = (cpu_seconds(server) - served) if server else 0.0
            report({"images": images, "seconds": seconds, "cpu": cpu, "s3_cpu": s3})
    sys.stderr.flush()
