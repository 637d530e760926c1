"""From a bucket of images to committed tables: sense, featurize (cold), commit; new tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.contenders.cold import submit
from benchmarks.jobs import LAKE, Job, contend

CATALOG = "PYICEBERG_CATALOG__FRUITS__"


@contextmanager
def end_to_end(job: Job) -> Iterator[Callable[[str], int]]:
    """Give the batch as a function."""
    database = os.environ[f"{CATALOG}URI"].removesuffix("catalog.db")

    def run(attempt: str) -> int:
        from fruits.commits import commit_features
        from fruits.discovery import sense
        from fruits.lake import ensure_tables, open_catalog

        home = f"{LAKE}/end-to-end/{attempt}"
        os.environ[f"{CATALOG}URI"] = f"{database}{attempt}.db"
        os.environ[f"{CATALOG}WAREHOUSE"] = f"{home}/tables"
        catalog = open_catalog()
        ensure_tables(catalog)
        sense(
            catalog,
            images_uri=job.prefix,
            manifest_uri=f"{home}/manifest",
            batch="benchmark",
            feature_model=job.feature_model,
        )
        submit(
            replace(job, manifest=f"{home}/manifest/added.parquet", output=f"{home}/tables"),
            attempt,
        )
        done = commit_features(
            catalog, f"{home}/manifest", f"{LAKE}/attempts/{attempt}/result.json"
        )
        return done.features + done.quarantined

    yield run


if __name__ == "__main__":
    contend(end_to_end, counted=False)  # Spark ends with its Python workers not waited for
