"""What a contender is told: one job, the same for all of them, as a file of JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import limit_cores, repeat, reporting

REGION = "eu-west-3"
LAKE = "s3://fruits-lake"


@dataclass(frozen=True)
class Job:
    """Images under *prefix* and in *manifest*, a network, and where features go.

    *network* and *weights* are files, *network_uri* and *weights_uri* the same in S3; *buckets* is
    the folder that the S3 serves, *server* its process id; *options* are the contender's own.
    """

    prefix: str
    manifest: str
    images: int
    network: str
    weights: str
    network_uri: str
    weights_uri: str
    feature_model: str
    output: str
    buckets: str
    server: int
    cores: int = 2
    repetitions: int = 5
    warm_ups: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the job to a file."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: str) -> Job:
        """Return the job in a file."""
        return cls(**json.loads(Path(path).read_text()))

    def option(self, name: str, otherwise: Any) -> Any:
        """Return an option of the contender, which the environment may set too (for trials)."""
        return self.options.get(name, os.environ.get(f"BENCH_{name.upper()}", otherwise))


def contend(contender: Any, *, counted: bool = True) -> None:
    """Run a contender's program: ``python -m benchmarks.contenders.<name> <job file>``.

    *contender* is called with the job and gives, as a context, the function to repeat; *counted* is
    whether its CPU seconds are.
    """
    job = Job.read(sys.argv[1])
    limit_cores(job.cores)
    with reporting() as report, contender(job) as run:
        repeat(
            run,
            report,
            warm_ups=job.warm_ups,
            repetitions=job.repetitions,
            server=job.server,
            counted=counted,
        )
