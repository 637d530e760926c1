"""The commits of a batch's images: what is gone, and what was featurized.

PyIceberg's transactions are per table, so the order is fixed: quarantine before features. A crash
in between leaves work that the retry repeats; every commit is made once however often it is called
(see `fruits.swaps`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from fruits.discovery import require_bucket
from fruits.errors import TooManyQuarantinedError, TooManyRemovedError
from fruits.lake import FEATURE_MODEL, IMAGES_BUCKET, LakeFile, equals, open_table, scan_files
from fruits.manifests import Manifest, load_manifest, read_manifest
from fruits.reconciliation import reconcile_features
from fruits.results import FeaturizeResult, read_featurize_result
from fruits.rewrites import Rewriter
from fruits.scratch import Scratch, scratch
from fruits.swaps import Committed, Mark, Swap, commit_once, committed, to_data_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removals:
    """The rows that were deleted from each table."""

    features: int
    quarantine: int
    components: int


@dataclass(frozen=True)
class Featurized:
    """What became of a batch's images; *replaced* rows of features went for newer ones.

    *seconds* is how long the step took that made them.
    """

    features: int
    quarantined: int
    changed: int
    replaced: int
    reasons: dict[str, int]
    seconds: float | None = None


def commit_removals(
    catalog: Catalog, manifest_uri: str, *, max_removed_share: float = 0.10, confirmed: bool = False
) -> Removals:
    """Delete the rows of image versions that are gone, of all feature models and model versions.

    These are the deleted ones, and replaced ones whose key is not in added: leftovers whose new
    version is known already. Other replaced versions keep their rows until `commit_features` swaps
    them. TooManyRemovedError if the deleted ones are more than *max_removed_share* of the rows
    under the prefix and nobody *confirmed*. Tables without a match get no snapshot.
    """
    manifest = read_manifest(manifest_uri)
    _refuse_mass_removal(manifest, max_removed_share, confirmed=confirmed)
    mark = Mark(manifest.batch, "removals", manifest.made_from)
    with scratch() as space:
        load_manifest(space, manifest_uri)
        space.run(
            "CREATE TABLE doomed AS SELECT image_key, etag FROM removed"
            " WHERE reason = 'deleted' OR image_key NOT IN (SELECT image_key FROM expected)"
        )
        space.run("CREATE TABLE claimed (image_key VARCHAR)")
        rows = {
            name: _commit_swap(open_table(name, catalog), mark, Rewriter(space, manifest.batch))
            for name in ("quarantine", "features", "components")
        }
    return Removals(**{name: committed.rows_removed for name, committed in rows.items()})


def commit_features(
    catalog: Catalog,
    manifest_uri: str,
    result_uri: str,
    *,
    max_quarantine_share: float = 0.05,
    quarantine_allowance: int = 0,
) -> Featurized:
    """Commit what a featurize attempt wrote: quarantine, then features, one snapshot each.

    Each snapshot also deletes the replaced versions of the images that it brings an outcome for; an
    image that changed since the listing keeps its old row. What is made beside the current feature
    model replaces rows of its own only. The first commit of a lake makes its feature model the
    current one; later it is `fruits.feature_models.switch` that does so.

    Before any of its features is committed: ReconciliationError if the output is not exactly what
    the manifest asked for; TooManyQuarantinedError if more than *max_quarantine_share* of it is
    broken, and more than *quarantine_allowance* images; StaleManifestError if another batch
    committed some of these images meanwhile.
    """
    manifest, result = read_manifest(manifest_uri), read_featurize_result(result_uri)
    mark = Mark(manifest.batch, "features", manifest.made_from)
    features = open_table("features", catalog)
    require_bucket(features, manifest.bucket)
    properties = _feature_properties(features, manifest)
    if made := mark.find(features):
        # Made before: its files may have been rewritten since, so they are not checked again.
        return _featurized(result, committed("features", made))
    with scratch() as space:
        load_manifest(space, manifest_uri)
        length = _vector_length(features, manifest.feature_model)
        reconcile_features(space, features.io, result, manifest, length)
        _refuse_mass_quarantine(space, result, max_quarantine_share, quarantine_allowance)
        _choose_replaced(space)
        quarantine = open_table("quarantine", catalog)
        _commit_swap(quarantine, mark, Rewriter(space, manifest.batch), result.quarantine)
        # The same version of an image may have features of another feature model, and keeps them.
        space.run("DELETE FROM doomed WHERE reason = 'retried'")
        rewriter = features_rewriter(space, manifest, result.rewritten)
        done = _commit_swap(features, mark, rewriter, result.features, properties)
    return _featurized(result, done)


def features_rewriter(
    space: Scratch, manifest: Manifest, prepared: Mapping[str, LakeFile | None]
) -> Rewriter:
    """Return what takes the replaced rows of *manifest* out of features: all, or its own."""
    return Rewriter(
        space,
        manifest.batch,
        partition=manifest.feature_model,
        prepared=prepared,
        confined=manifest.beside,
    )


def _commit_swap(
    table: Table,
    mark: Mark,
    rewriter: Rewriter,
    files: tuple[LakeFile, ...] = (),
    properties: dict[str, str] | None = None,
) -> Committed:
    def plan(table: Table) -> Swap:
        rewritten = rewriter.plan(table)
        return Swap(
            removed=tuple(file.old for file in rewritten),
            added=(*(file.new for file in rewritten if file.new), *to_data_files(table, files)),
            properties=properties or {},
            rows_removed=sum(file.rows for file in rewritten),
            rows_added=sum(file.rows for file in files),
        )

    done = commit_once(table, mark, plan)
    log.info("%s of %s: %s", mark.kind, mark.batch, done)
    return done


def _choose_replaced(space: Scratch) -> None:
    space.run("CREATE TABLE claimed AS SELECT image_key FROM outcomes WHERE outcome <> 'changed'")
    space.run(
        "CREATE TABLE doomed AS SELECT image_key, etag, reason FROM removed SEMI JOIN claimed"
        " USING (image_key) WHERE reason IN ('replaced', 'retried')"
    )


def _feature_properties(features: Table, manifest: Manifest) -> dict[str, str]:
    properties = {IMAGES_BUCKET: manifest.bucket}
    if FEATURE_MODEL not in features.properties:
        properties[FEATURE_MODEL] = manifest.feature_model
    return properties


def _vector_length(features: Table, feature_model: str) -> int | None:
    """Return the length of the committed vectors of *feature_model*, None if there are none."""
    for file in scan_files(features, equals("feature_model", feature_model)):
        with features.io.new_input(file.file_path).open() as stream, pq.ParquetFile(stream) as rows:
            first = next(rows.iter_batches(1, columns=["features"]))
            return len(first["features"][0])
    return None


def _featurized(result: FeaturizeResult, done: Committed) -> Featurized:
    features, quarantined, changed = (
        sum(file.rows for file in files)
        for files in (result.features, result.quarantine, result.changed)
    )
    facts = result.reasons, result.seconds
    return Featurized(features, quarantined, changed, done.rows_removed, *facts)


def _refuse_mass_removal(manifest: Manifest, limit: float, *, confirmed: bool) -> None:
    deleted, rows = manifest.counts.deleted, manifest.rows_under_prefix
    share = deleted / rows if rows else 0.0
    if share <= limit or confirmed:
        return
    raise TooManyRemovedError(
        f"{deleted} of the {rows} images that the tables hold under {manifest.images_uri} are no"
        f" longer there: {share:.1%}, and at most {limit:.0%} may go at once. Nothing was deleted.",
        "If the bucket or the prefix is wrong, correct it. If they are meant to go, run again with"
        " the removals confirmed: 'Confirm removals' in the trigger form, or the setting"
        " FRUITS_CONFIRM_REMOVALS=true.",
        deleted=deleted,
        rows=rows,
        share=share,
        limit=limit,
    )


def _refuse_mass_quarantine(
    space: Scratch, result: FeaturizeResult, limit: float, allowance: int
) -> None:
    # Those that were in quarantine were accepted there before.
    (quarantined, images), *_ = space.rows(
        "SELECT count(*) FILTER (outcome = 'quarantine'), count(*) FROM outcomes ANTI JOIN"
        " (FROM removed WHERE reason = 'retried') USING (image_key, etag)"
        " WHERE outcome <> 'changed'"
    )
    share = quarantined / images if images else 0.0
    if share <= limit or quarantined <= allowance:
        return
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(result.reasons.items()))
    raise TooManyQuarantinedError(
        f"{quarantined} of {images} images could not be decoded ({reasons}): {share:.1%}, and at"
        f" most {limit:.0%} may be quarantined. Nothing was committed.",
        "The batch's report has examples, the attempt's quarantine folder all of them. If these"
        " images really are broken, run again with a larger share allowed: 'Most broken' in the"
        " trigger form, or FRUITS_MAX_QUARANTINE_SHARE; else replace them first.",
        quarantined=quarantined,
        images=images,
        share=share,
        limit=limit,
        reasons=result.reasons,
    )
