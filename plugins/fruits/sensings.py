"""The last sensing: what was waiting in the bucket when a run last looked, as one small object.

The page shows it. A listing of the bucket would be as long as there are images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from fruits.errors import MissingObjectError
from fruits.manifests import Counts
from fruits.objects import read_json, storage_time, write_json


@dataclass(frozen=True)
class Sensing:
    """Who looked where and when, and what there was; *run_id* is None for a run without Airflow.

    The page shows what is still waiting of it; the rest is for people who open the object.
    """

    batch: str
    run_id: str | None
    images_uri: str
    feature_model: str
    sensed_at: datetime
    counts: Counts
    added_bytes: int


def sensing_uri(lake: str) -> str:
    """Return where the last sensing is kept."""
    return f"{lake}/sensings/latest.json"


def remember_sensing(lake: str, found: dict[str, Any], images_uri: str, run_id: str | None) -> None:
    """Write down what `ingestion.sense_changes` *found*, over what was found before."""
    sensing = Sensing(
        batch=found["batch"],
        run_id=run_id,
        images_uri=images_uri,
        feature_model=found["feature_model"],
        sensed_at=storage_time(lake),
        counts=Counts(**found["counts"]),
        added_bytes=found["added_bytes"],
    )
    told = asdict(sensing) | {"sensed_at": sensing.sensed_at.isoformat()}
    write_json(sensing_uri(lake), told)


def read_sensing(lake: str) -> Sensing | None:
    """Return the last sensing, or None if no run has looked yet."""
    try:
        told = read_json(sensing_uri(lake))
    except MissingObjectError:
        return None
    read = {
        "sensed_at": datetime.fromisoformat(told["sensed_at"]),
        "counts": Counts(**told["counts"]),
    }
    return Sensing(**told | read)
