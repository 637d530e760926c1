"""Logs on their way to LogUri: gzipped, under EMR's names, also while a step still runs."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from local_cloud.emr.journal import Journal
from local_cloud.emr.model import Cluster
from local_cloud.emr.objects import Objects

FILES = ("controller", "stdout", "stderr")
INTERVAL = 5.0  # seconds between two looks at a running step's logs; EMR takes about 5 minutes


def bootstrap_uri(cluster: Cluster, ec2_id: str, number: int) -> str | None:
    """Return the folder URI of a bootstrap action's logs on a node (numbers begin at 1)."""
    root = cluster.log_uri and f"{cluster.log_uri}{cluster.id}/node/{ec2_id}/"
    return root and f"{root}bootstrap-actions/{number}/"


class LogFolder:
    """A folder with controller, stdout and stderr, and the URI where they are to be seen."""

    def __init__(self, folder: Path, uri: str | None, objects: Objects, journal: Journal) -> None:
        self.folder = folder
        self._uri = uri
        self._objects = objects
        self._journal = journal
        self._shipped: dict[str, bytes] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def tell(self, line: str) -> None:
        """Add a line to the controller's log, with the time (UTC)."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with (self.folder / "controller").open("a", encoding="utf-8") as file:
            file.write(f"{now} {line}\n")

    def ship(self) -> None:
        """Bring what changed since the last time to S3.

        A place that cannot be written is told to the journal and holds nothing else up, as on EMR.
        """
        if self._uri is None:
            return
        for name in FILES:
            file = self.folder / name
            content = file.read_bytes() if file.exists() else b""
            if self._shipped.get(name) == content:
                continue
            try:
                self._objects.put(f"{self._uri}{name}.gz", gzip.compress(content, mtime=0))
            except (BotoCoreError, ClientError) as error:
                self._journal.write("note", problem="logs", uri=self._uri, message=str(error))
                return
            self._shipped[name] = content
