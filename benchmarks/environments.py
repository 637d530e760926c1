"""The S3 that a benchmark runs against, and the machine that its figures belong to."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from local_cloud.clients import catalog_variables, s3_variables
from local_cloud.s3 import ObjectStorage

PACKAGES = (
    *("pyspark", "ai-edge-litert", "onnxruntime", "tensorflow-cpu"),
    *("pillow", "obstore", "pyarrow", "numpy"),
)

SHARED = ("ai-edge-litert", "pillow", "numpy")


@contextmanager
def storage(folder: Path, **rclone: str) -> Iterator[ObjectStorage]:
    """Serve an S3 over a folder below *folder* that this process' children find.

    *rclone* are variables of its environment, without their RCLONE_. A program that is told to end
    ends it, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    variables = {f"RCLONE_{name.upper()}": value for name, value in rclone.items()}
    with ObjectStorage(folder / "s3", environment=variables) as s3:
        for bucket in ("fruits-images", "fruits-lake"):
            s3.make_bucket(bucket)
        url = s3.endpoint_url
        os.environ |= s3_variables(url) | catalog_variables(url, folder)
        yield s3


def peers_versions(python: Path) -> dict[str, str]:
    """Return the versions of the peers that *python* has; ValueError if what all use is not ours.

    FileNotFoundError if there is no such *python*: `make bench` installs it.
    """
    ask = (
        "import json, sys; from importlib.metadata import version;"
        " print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [str(python), "-c", ask, "ray", "daft", *SHARED]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    for name in SHARED:
        if found.pop(name) != version(name):
            raise ValueError(f"{python} has another version of {name} than ours, {version(name)}")
    return found


def machine() -> dict[str, Any]:
    """Say what the figures were measured on, and how busy it was before."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg(),
        "versions": {name: version(name) for name in PACKAGES},
    }
