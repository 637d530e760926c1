"""Leases as tests need them: granted, and aged by setting back the time that S3 shows."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fruits.leases import Lease, grant_lease, read_lease

LAKE = "s3://fruits-lake"


def grant(token: str = "token", lake: str = LAKE, generation: int = 1) -> Lease:
    """Grant half an hour, and return the lease."""
    lease = Lease(token, generation, 30, 1.25, "USD")
    grant_lease(lake, lease)
    return lease


def age_lease(bucket: Path, token: str, minutes: float) -> None:
    """Let S3 show that the lease was written *minutes* ago; *bucket* is the lake's folder."""
    path = bucket / "leases" / f"{token}.json"
    then = time.time() - minutes * 60
    os.utime(path, (then, then))
    lake, deadline = f"s3://{bucket.name}", time.monotonic() + 5
    while (lease := read_lease(lake, token)) and lease.age.total_seconds() < minutes * 60 - 5:
        assert time.monotonic() < deadline, "the local S3 goes on showing the old time"
        time.sleep(0.05)
