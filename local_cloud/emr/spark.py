"""How a step's spark-submit is configured: the cluster's Configurations over a local base.

Spark reads `s3://` through Hadoop's ViewFileSystemOverloadScheme: every bucket is a mount of the
folder that the local S3 serves, as EMRFS is a mount of S3 on EMR.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local_cloud.emr.model import Cluster, Step

_VIEW = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
_MOUNTS = "spark.hadoop.fs.viewfs."
# What the machine decides: a request that sets these is kept, shown, and not applied.
_OURS = ("spark.master", "spark.submit.deployMode", "spark.hadoop.fs.s3.impl", _MOUNTS)
_PYTHONS = frozenset(
    {
        "spark.pyspark.python",
        "spark.pyspark.driver.python",
        "PYSPARK_PYTHON",
        "PYSPARK_DRIVER_PYTHON",
    }
)
_FLAGS = frozenset({"--verbose", "-v", "--supervise", "--help", "-h", "--version"})
_DROPPED = ("--master", "--deploy-mode")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def defaults(cluster: Cluster, folder: Path, buckets: Path) -> dict[str, str]:
    """Return spark-defaults for *cluster*, whose own files go under *folder*."""
    wanted = properties(cluster, "spark-defaults")
    base = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.local.dir": str(folder / "spark-local"),
        "spark.sql.warehouse.dir": (folder / "spark-warehouse").as_uri(),
        # Spark's default, INT96, is refused by PyIceberg's add_files.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }
    chosen = {name: value for name, value in wanted.items() if not _is_ours(name, value)}
    return base | chosen | _machine(buckets)


def submit_arguments(buckets: Path) -> str:
    """Return PYSPARK_SUBMIT_ARGS with which a shell's own Spark session reads the *buckets*."""
    mounts = {k: v for k, v in _machine(buckets).items() if k.startswith("spark.hadoop.")}
    words = [word for name, value in mounts.items() for word in ("--conf", f"{name}={value}")]
    return shlex.join([*words, "pyspark-shell"])


def properties(cluster: Cluster, classification: str) -> dict[str, str]:
    """Return the properties of a top-level classification; later entries win."""
    found: dict[str, str] = {}
    for entry in cluster.request.get("Configurations", []):
        if entry.get("Classification") == classification:
            found |= entry.get("Properties", {})
    return found


def exports(cluster: Cluster) -> dict[str, str]:
    """Return the variables of `spark-env` / `export`, which EMR writes into spark-env.sh."""
    found: dict[str, str] = {}
    for entry in cluster.request.get("Configurations", []):
        if entry.get("Classification") == "spark-env":
            found |= dict(_exported(entry))
    return {name: value for name, value in found.items() if not _is_ours(name, value)}


def render(settings: dict[str, str]) -> str:
    """Return *settings* as a spark-defaults.conf, which Java reads as a properties file."""
    lines = (f"{_escape(name, ' :=#!')} {_escape(value)}\n" for name, value in settings.items())
    return "".join(lines)


def local_arguments(arguments: list[str]) -> list[str]:
    """Return spark-submit's *arguments* without what names a resource manager.

    `--master yarn` and `--deploy-mode cluster` are right on EMR and impossible on one machine.
    What follows the main script is the job's own and stays as it is.
    """
    options, job = _split(arguments)
    return [word for option in options if not _is_local(option) for word in option] + job


def not_applied(cluster: Cluster, step: Step) -> list[str]:
    """Return what the request says and this machine decides instead, for the step's log."""
    if step.args[0] != "spark-submit":
        return []
    wanted = properties(cluster, "spark-defaults")
    settings = [f"{name}={value}" for name, value in wanted.items() if _is_ours(name, value)]
    options, _ = _split(list(step.args[1:]))
    return settings + [" ".join(option) for option in options if _is_local(option)]


def _split(arguments: list[str]) -> tuple[list[list[str]], list[str]]:
    """Return spark-submit's options, each with its value, and the script with its arguments."""
    options: list[list[str]] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        size = 1 if rest[0] in _FLAGS or "=" in rest[0] else 2
        options.append(rest[:size])
        rest = rest[size:]
    return options, rest


def _is_local(option: list[str]) -> bool:
    name, _, value = option[0].partition("=")
    setting, _, value = (value or option[-1]).partition("=")
    return name in _DROPPED or (name in ("--conf", "-c") and _is_ours(setting, value))


def _is_ours(name: str, value: str) -> bool:
    """Say whether the machine decides this setting: also a Python that it does not have.

    On EMR a bootstrap action installs one under /opt, which is not for us to write to; here the
    Python that runs the endpoint has what the jobs need.
    """
    python = name in _PYTHONS and value.startswith("/") and not Path(value).exists()
    return python or name.startswith(_OURS)


def _machine(buckets: Path) -> dict[str, str]:
    # The mount's scheme is s3 too: that makes Hadoop take the raw file system named here. A target
    # file:///… would take the checksummed one, whose .crc files S3 would list as objects.
    mounts = {
        f"{_MOUNTS}mounttable.{bucket.name}.linkFallback": f"s3://{quote(str(bucket))}"
        for bucket in sorted(buckets.iterdir())
        if bucket.is_dir()
    }
    return {
        # A failed task is tried 4 times on EMR; in plain local[n] the first failure is final.
        "spark.master": f"local[{cores()},4]",
        "spark.hadoop.fs.s3.impl": _VIEW,
        f"{_MOUNTS}overload.scheme.target.s3.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        **mounts,
    }


def _exported(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for nested in entry.get("Configurations", []):
        if nested.get("Classification") == "export":
            yield from nested.get("Properties", {}).items()


def _escape(text: str, separators: str = "") -> str:
    special = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(
        special.get(character, f"\\{character}" if character in separators else character)
        for character in text
    )
