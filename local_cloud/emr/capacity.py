"""Which instance types cannot be had now: `capacity.json` in the endpoint's folder.

    {"ON_DEMAND": ["c6i.2xlarge"], "SPOT": ["c6i.2xlarge"]}

It is read again while a cluster waits, so that capacity can come back. As on EMR, a cluster stays
in STARTING until all its machines are there. A Spot timeout is recorded, but not acted on.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from local_cloud.emr.model import Cluster

NAME = "capacity.json"


def is_short(cluster: Cluster, folder: Path) -> bool:
    """Say whether a machine of *cluster* cannot be had; *folder* is the endpoint's."""
    lacking: dict[str, list[str]] = {}
    with suppress(FileNotFoundError):  # it may go at any moment
        lacking = json.loads((folder / NAME).read_text())
    return any(one.instance_type in lacking.get(one.market, ()) for one in cluster.instances)
