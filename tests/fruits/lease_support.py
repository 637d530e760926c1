"""Leases as tests need them: granted, aged by setting back S3's time, seen by a wrong clock."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from fruits.leases import Lease, grant_lease, read_lease

LAKE = "s3://fruits-lake"


def grant(token: str = "token", lake: str = LAKE, generation: int = 1) -> Lease:
    """Grant half an hour, and return the lease."""
    lease = Lease(token, generation, 30, 1.25, "USD")
    grant_lease(lake, lease)
    return lease


def leave_months_end() -> None:
    """Wait for the next month (UTC) where this one has less than half a minute left."""
    while (datetime.now(UTC) + timedelta(seconds=30)).month != datetime.now(UTC).month:
        time.sleep(1)


def age_lease(bucket: Path, token: str, minutes: float) -> None:
    """Let S3 show that the lease was written *minutes* ago; *bucket* is the lake's folder."""
    path = bucket / "leases" / f"{token}.1.json"
    then = time.time() - minutes * 60
    os.utime(path, (then, then))
    lake, deadline = f"s3://{bucket.name}", time.monotonic() + 60
    while (lease := read_lease(lake, token)) and lease.age.total_seconds() < minutes * 60 - 5:
        assert time.monotonic() < deadline, "the local S3 goes on showing the old time"
        time.sleep(0.05)


def jump_clock(monkeypatch: pytest.MonkeyPatch, wrong: timedelta) -> None:
    """Let the clock of this machine, as fruits.objects reads it, be *wrong*; S3's stays right."""

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + wrong

    monkeypatch.setattr("fruits.objects.datetime", Jumped)
