"""Which data files of features a batch will have to replace: written down for the featurize step.

A replaced image's old row leaves with the commit that brings the new one, copy on write. A few
files are written anew where the commit is made; when they are many, a cluster that is there anyway
does it faster than one Airflow worker that it would wait for. The commit proves what it gets, and
makes itself what does not hold.
"""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog

from fruits.commits import features_rewriter
from fruits.lake import open_table
from fruits.manifests import load_manifest, read_manifest
from fruits.objects import upload
from fruits.scratch import scratch
from fruits.swaps import Mark

log = logging.getLogger(__name__)

# One row for each row that goes: the data file, the row's position in it, and whose it is.
DOOMED = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("image_key", pa.string(), nullable=False),
    ]
)


def plan_rewrites(catalog: Catalog, manifest_uri: str, uri: str, least_bytes: int) -> int:
    """Write to *uri* which rows of features the batch's commit will take out, if that is much.

    That is, if the data files with such a row have together at least *least_bytes*. Returns their
    number; 0 if nothing was written. Only key columns are read.
    """
    manifest = read_manifest(manifest_uri)
    features = open_table("features", catalog)
    committed = Mark(manifest.batch, "features", manifest.made_from).find(features)
    if committed or not manifest.counts.replaced:
        return 0
    with scratch() as space:
        load_manifest(space, manifest_uri)
        space.run("CREATE TABLE claimed AS SELECT image_key FROM expected")
        space.run(
            "CREATE TABLE doomed AS SELECT image_key, etag FROM removed SEMI JOIN claimed"
            " USING (image_key) WHERE reason = 'replaced'"
        )
        found = features_rewriter(space, manifest, {}).doomed_rows(features)
        size = sum(file.file_size_in_bytes for file, _ in found)
        if not found or size < least_bytes:
            return 0
        path = space.folder / "rewrites.parquet"
        with pq.ParquetWriter(path, DOOMED) as writer:
            for file, rows in found:
                named = rows.append_column("uri", pa.repeat(file.file_path, rows.num_rows))
                writer.write_table(named.select(DOOMED.names).cast(DOOMED))
        upload(path, uri)
    log.info("The step replaces %d data files of %.0f MB in all", len(found), size / 1e6)
    return len(found)
