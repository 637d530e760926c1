"""What the tests of cluster tasks share: a promise, a context, the task that creates a cluster."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fruits.clusters import GENERATION_TAG, TOKEN_TAG
from fruits.leases import Lease, grant_lease
from fruits.ledger import month_of
from fruits.objects import storage_time
from tests.fruits.emr_support import REGION, request
from tests.fruits.lease_support import leave_months_end

LAKE = "s3://fruits-lake"


class TaskInstance:
    """What a task tells of itself beside its answer: the parameters of its links."""

    def __init__(self) -> None:
        self.links: dict[str, Any] = {}
        self.first_look: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value."""
        self.links[key] = value

    def get_first_reschedule_date(self, _context: Any) -> datetime | None:
        """Return when the task was put off for the first time."""
        return self.first_look


def context(**params: Any) -> dict[str, Any]:
    """Return what a task of a run with *params* is given."""
    return {"params": params, "ti": TaskInstance()}


def reserve(token: str, generation: int = 1) -> dict[str, Any]:
    """Grant the lease as reserve_cluster does, and return what it returns."""
    leave_months_end()
    grant_lease(LAKE, Lease(token, generation, 30, 1.0, "USD"))
    month = month_of(storage_time(LAKE))
    tags = {TOKEN_TAG: token, GENERATION_TAG: str(generation)}
    made = request(token, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    return {"token": token, "generation": generation, "month": month, "request": made}


def create(reserved: dict[str, Any], given: dict[str, Any] | None = None) -> str:
    """Run create_cluster."""
    from fruits.operators import CreateClusterOperator

    task = CreateClusterOperator(task_id="create_cluster", reserved=reserved, region_name=REGION)
    return task.execute(given or context())  # type: ignore[arg-type]
