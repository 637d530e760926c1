"""The S3 that a benchmark runs against, and the machine that its figures belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.jobs import REGION
from local_cloud.s3 import ACCESS_KEY, SECRET_KEY, ObjectStorage

PACKAGES = ("pyspark", "onnxruntime", "tensorflow-cpu", "pillow", "obstore", "pyarrow", "numpy")


@contextmanager
def storage(folder: Path, **rclone: str) -> Iterator[ObjectStorage]:
    """Serve an S3 over a folder below *folder* that this process' children find.

    *rclone* are variables of its environment, without their RCLONE_.
    """
    variables = {f"RCLONE_{name.upper()}": value for name, value in rclone.items()}
    with ObjectStorage(folder / "s3", environment=variables) as s3:
        for bucket in ("fruits-images", "fruits-lake"):
            s3.make_bucket(bucket)
        os.environ |= s3_environment(s3.endpoint_url, folder)
        yield s3


def s3_environment(endpoint: str, folder: Path) -> dict[str, str]:
    """Return the variables by which S3 clients and PyIceberg find *endpoint*."""
    catalog = "PYICEBERG_CATALOG__FRUITS__"
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        f"{catalog}TYPE": "sql",
        f"{catalog}URI": f"sqlite:///{folder}/catalog.db",
        f"{catalog}WAREHOUSE": "s3://fruits-lake/tables",
        f"{catalog}S3__ENDPOINT": endpoint,
        f"{catalog}S3__ACCESS_KEY_ID": ACCESS_KEY,
        f"{catalog}S3__SECRET_ACCESS_KEY": SECRET_KEY,
        f"{catalog}S3__REGION": REGION,
    }


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
