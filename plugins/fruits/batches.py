"""A batch's id and its places in the lake, so that every retry of a run finds the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime


def batch_id(run_after: datetime, run_id: str, lake: str) -> str:
    """Return the id of the batch that a run ingests, the same on every retry of that run.

    *run_after* has a time zone; *run_id* tells runs of the same second apart, and *lake* those of
    another Airflow in the same account, which have the same schedule. The id sorts by time and is
    safe in file names, tags and URIs: ``20261121T030000-1a2b3c4d``.
    """
    digest = hashlib.sha256(f"{lake} {run_id}".encode()).hexdigest()[:8]
    return f"{run_after.astimezone(UTC):%Y%m%dT%H%M%S}-{digest}"


@dataclass(frozen=True)
class Batch:
    """Where one batch keeps things; *lake* is a URI without a slash at its end."""

    lake: str
    id: str

    @property
    def manifest(self) -> str:
        """Folder of ``added.parquet``, ``removed.parquet`` and ``manifest.json``."""
        return f"{self.lake}/manifests/{self.id}"

    @property
    def models(self) -> str:
        """Folder of all PCA model versions, of this batch and of others."""
        return f"{self.lake}/models/pca"

    @property
    def statistics(self) -> str:
        """Folder of the statistics of features' data files: a cache that all batches share."""
        return f"{self.lake}/statistics"

    def attempt(self, name: str) -> Attempt:
        """Return the places of the attempt *name*: letters, digits, dots."""
        return Attempt(self, name)

    def numbered(self, generation: int, number: int) -> Attempt:
        """Return the places of a step's try *number*, from 1, on the cluster of *generation*."""
        return self.attempt(f"{generation}.{number}")


@dataclass(frozen=True)
class Attempt:
    """Where one attempt at a batch's steps writes: no other attempt ever writes there."""

    batch: Batch
    name: str

    def work(self, step: str) -> str:
        """Folder of the *step*'s progress and result: ``result.json`` is its last object."""
        return f"{self.batch.lake}/attempts/{self.batch.id}/{step}-{self.name}"

    def data(self, table: str) -> str:
        """Folder in which a step leaves data files for *table*."""
        return f"{self.batch.lake}/tables/{table}/data/{self.batch.id}/{self.name}"

    @property
    def model_version(self) -> str:
        """Version of the PCA model that this attempt fits."""
        return f"{self.batch.id}-{self.name}"

    @property
    def model(self) -> str:
        """Folder of that model."""
        return f"{self.batch.models}/{self.model_version}"


def generations_written(batch: Batch) -> Iterator[int]:
    """Yield the generation of every data file and model that an attempt of *batch* wrote."""
    from fruits.objects import list_uris

    tables = ("features", "quarantine", "components")
    prefixes = [f"{batch.lake}/tables/{table}/data/{batch.id}/" for table in tables]
    for prefix in (*prefixes, f"{batch.models}/{batch.id}-"):
        for uri in list_uris(prefix):
            generation = uri.removeprefix(prefix).partition(".")[0]
            if generation.isdecimal():
                yield int(generation)
