"""Clusters on disk, one file each, so that the endpoint forgets nothing when it is restarted."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import TypeAdapter

from local_cloud.emr.model import Cluster

_CLUSTER = TypeAdapter(Cluster)


class Store:
    """The clusters under *folder*/clusters/<id>/cluster.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folder = folder / "clusters"
        self._folder.mkdir(parents=True, exist_ok=True)

    def folder_of(self, cluster_id: str) -> Path:
        """Return the folder that holds everything of one cluster."""
        return self._folder / cluster_id

    def save(self, cluster: Cluster) -> None:
        """Write *cluster*; a reader, or a restart, sees the old record or the new one."""
        folder = self.folder_of(cluster.id)
        folder.mkdir(exist_ok=True)
        draft = folder / f"cluster.json.{os.getpid()}"
        draft.write_bytes(_CLUSTER.dump_json(cluster))
        draft.replace(folder / "cluster.json")

    def load(self) -> list[Cluster]:
        """Return every cluster that was ever saved, oldest first."""
        files = self._folder.glob("*/cluster.json")
        clusters = [_CLUSTER.validate_json(file.read_bytes()) for file in files]
        return sorted(clusters, key=lambda cluster: (cluster.created_at, cluster.id))
