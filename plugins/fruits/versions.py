"""PCA model versions: which are retired, and which images have no components of the newest one."""

from __future__ import annotations

import json

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from fruits.lake import RETIRED_VERSIONS, equals, newest_version, open_table
from fruits.manifests import load_manifest
from fruits.scans import stream_rows
from fruits.scratch import Scratch, scratch


def retired_versions(components: Table) -> list[str]:
    """Return the versions whose rows a commit took out: nobody can read their components."""
    found: list[str] = json.loads(components.properties.get(RETIRED_VERSIONS, "[]"))
    return found


def load_images(
    space: Scratch,
    name: str,
    table: Table,
    row_filter: BooleanExpression,
    snapshot_id: int | None = None,
) -> None:
    """Make the table *name* (image_key, etag) of the rows of an Iceberg table."""
    space.run(f"CREATE TABLE {name} (image_key VARCHAR, etag VARCHAR)")
    columns = ("image_key", "etag")
    scan = table.scan(row_filter, selected_fields=columns, snapshot_id=snapshot_id)
    select = "SELECT image_key, etag FROM incoming"
    space.insert_all(name, select, stream_rows(scan))


def load_featurized_and_projected(
    space: Scratch,
    features: Table,
    components: Table,
    feature_model: str,
    version: str,
    *,
    snapshots: tuple[int | None, int | None] = (None, None),
) -> None:
    """Make the tables `featurized` and `projected` (image_key, etag) of a version, and `missing`.

    *snapshots* are those of features and components that are looked at; None is the current one.
    """
    load_images(space, "featurized", features, equals("feature_model", feature_model), snapshots[0])
    load_images(space, "projected", components, equals("model_version", version), snapshots[1])
    space.run("CREATE TABLE missing AS FROM featurized ANTI JOIN projected USING (image_key, etag)")


def least_images(components: Table, feature_model: str) -> int:
    """Return how many images have to have features for a PCA step: a first fit takes two."""
    return 1 if newest_version(components, feature_model) else 2


def components_are_behind(
    catalog: Catalog, feature_model: str, manifest_uri: str | None = None
) -> bool:
    """Say whether an image with features of *feature_model* has no components by its newest model.

    That is so after new features, and after a run that failed between its two commits. Deleted
    images leave nothing behind: their components went with them, and those that a manifest lists as
    removed are about to go. One image alone waits for a second: there is nothing to fit yet.
    """
    features, components = open_table("features", catalog), open_table("components", catalog)
    version = newest_version(components, feature_model) or ""
    with scratch() as space:
        load_featurized_and_projected(space, features, components, feature_model, version)
        if manifest_uri:
            load_manifest(space, manifest_uri)
            for images in ("featurized", "missing"):
                gone = f"{images}.image_key = removed.image_key AND {images}.etag = removed.etag"
                space.run(f"DELETE FROM {images} USING removed WHERE {gone}")
        enough = space.value("SELECT count(*) FROM featurized") >= least_images(
            components, feature_model
        )
        return enough and bool(space.value("SELECT EXISTS (FROM missing)"))
