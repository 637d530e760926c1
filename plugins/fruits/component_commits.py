"""The commit of a PCA step: a new model version with components of every image, or more of one.

It is one transaction of the components table, made once however often it is called (see
`fruits.swaps`): the newest version changes in the same commit as its rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from fruits.errors import StaleManifestError, StaleVersionError
from fruits.lake import (
    FEATURE_MODEL,
    MODEL_VERSIONS,
    RETIRED_VERSIONS,
    equals,
    newest_version,
    open_table,
    scan_files,
    versions,
)
from fruits.reconciliation import reconcile_components
from fruits.results import PcaResult, read_pca_result
from fruits.rewrites import SAME, Rewriter
from fruits.scratch import Scratch, scratch
from fruits.swaps import Mark, Swap, commit_once, to_data_files
from fruits.versions import (
    load_featurized_and_projected,
    load_images,
    retired_versions,
)

REMEMBERED = 100  # retired versions; the folders of older ones were removed long ago


def commit_components(
    catalog: Catalog, result_uri: str, *, keep_model_versions: int = 1
) -> PcaResult:
    """Commit what a PCA attempt wrote: a new model version, or more rows of the one it kept.

    One transaction. A new version comes with components of every image; of each feature model the
    newest *keep_model_versions* stay. A kept version gets the components that it lacked, and loses
    those of images that are not in features any more; so do all other versions, but where the
    feature model is not the current one: what is made beside it touches its own rows only.

    The components must be those of the features snapshot that the step read, else
    ReconciliationError. The newest version of the current feature model is the current one: of
    another feature model, readers get neither features nor components.
    StaleVersionError if the version that was kept is gone meanwhile, StaleManifestError if another
    batch changed the images meanwhile so that the commit would bring back what is gone, lose what
    has components, or give an image components twice.
    """
    result = read_pca_result(result_uri)
    made_from = f"{result.features_snapshot_id} {result.model_version}"
    mark = Mark(result.batch, "components", made_from)
    features = open_table("features", catalog)
    components = open_table("components", catalog)
    if mark.find(components):
        return result
    with scratch() as space:
        _load_expected(space, features, components, result)
        reconcile_components(space, components.io, result)
        load_images(space, "remaining", features, equals("feature_model", result.feature_model))
        _refuse_gone(space)
        plan = (
            NewVersion(space, result, keep_model_versions)
            if result.fitted
            else KeptVersion(space, result, _outdated(space, features, components, result))
        )
        commit_once(components, mark, plan)
    return result


@dataclass(frozen=True)
class NewVersion:
    """The swap that brings a fitted version, and takes those out that are too old to *keep*."""

    space: Scratch
    result: PcaResult
    keep: int

    def __call__(self, table: Table) -> Swap:
        """Return the swap for *table* as it is now."""
        result = self.result
        self._refuse_overtaken(table)
        known = [*versions(table), [result.model_version, result.feature_model]]
        kept = _kept(known, self.keep)
        names = {version for version, _ in kept}
        retired = [version for version, _ in known if version not in names]
        dropped = [file for file in scan_files(table) if file.partition[0] not in names]
        return Swap(
            removed=tuple(dropped),
            added=to_data_files(table, result.components),
            properties={
                MODEL_VERSIONS: json.dumps(kept),
                RETIRED_VERSIONS: json.dumps([*retired_versions(table), *retired][-REMEMBERED:]),
            },
            rows_removed=sum(file.record_count for file in dropped),
            rows_added=sum(file.rows for file in result.components),
        )

    def _refuse_overtaken(self, table: Table) -> None:
        """Refuse a version that lacks images which the newest one has."""
        result = self.result
        if result.model_version in retired_versions(table):
            raise _replaced(result.model_version, "fitted")
        newest = newest_version(table, result.feature_model)
        if newest is None:
            return
        self.space.run("DROP TABLE IF EXISTS reduced")
        load_images(self.space, "reduced", table, equals("model_version", newest))
        lost = f"(FROM reduced SEMI JOIN remaining {SAME}) ANTI JOIN outcomes {SAME}"
        _refuse(self.space, lost, "have components that this step knew nothing of")


@dataclass(frozen=True)
class KeptVersion:
    """The swap that gives a version what it lacked; *rewriter* takes outdated rows out of it."""

    space: Scratch
    result: PcaResult
    rewriter: Rewriter

    def __call__(self, table: Table) -> Swap:
        """Return the swap for *table* as it is now."""
        result = self.result
        if result.model_version not in {version for version, _ in versions(table)}:
            raise _replaced(result.model_version, "kept")
        rewritten = self.rewriter.plan(table)
        return Swap(
            removed=tuple(file.old for file in rewritten),
            added=(
                *(file.new for file in rewritten if file.new),
                *to_data_files(table, result.components),
            ),
            rows_removed=sum(file.rows for file in rewritten),
            rows_added=sum(file.rows for file in result.components),
        )


def _kept(known: list[list[str]], keep: int) -> list[list[str]]:
    """Return of *known* [model_version, feature_model] the newest of each feature model."""
    newest = {
        version
        for model in {model for _, model in known}
        for version in [version for version, its_model in known if its_model == model][-keep:]
    }
    return [entry for entry in known if entry[0] in newest]


def _load_expected(space: Scratch, features: Table, components: Table, result: PcaResult) -> None:
    """Make the table `expected` of the images that the step had to give components."""
    snapshot = result.features_snapshot_id
    if result.fitted:
        read_by_step = equals("feature_model", result.feature_model)
        load_images(space, "expected", features, read_by_step, snapshot)
        return
    load_featurized_and_projected(
        space,
        features,
        components,
        result.feature_model,
        result.model_version,
        snapshots=(snapshot, result.components_snapshot_id),
    )
    space.run("ALTER TABLE missing RENAME TO expected")


def _outdated(space: Scratch, features: Table, components: Table, result: PcaResult) -> Rewriter:
    """Return what takes rows of images that features no longer has out of a kept version."""
    beside = result.feature_model != features.properties.get(FEATURE_MODEL)
    space.run("CREATE TABLE claimed AS SELECT image_key FROM outcomes")
    load_images(space, "reduced", components, equals("model_version", result.model_version))
    space.run(f"CREATE TABLE doomed AS FROM reduced ANTI JOIN remaining {SAME}")
    return Rewriter(space, result.batch, partition=result.model_version, confined=beside)


def _refuse_gone(space: Scratch) -> None:
    _refuse(space, f"outcomes ANTI JOIN remaining {SAME}", "are not in features any more")


def _refuse(space: Scratch, relation: str, what: str) -> None:
    count, examples = space.examples(relation)
    if count:
        raise StaleManifestError(
            f"{count} images ({', '.join(map(repr, examples))}) {what}: another batch committed"
            " while the pca step ran.",
            "Clear the pca task with its downstream tasks: it reads the tables as they are now.",
            table="components",
            count=count,
            examples=examples,
        )


def _replaced(version: str, done: str) -> StaleVersionError:
    return StaleVersionError(
        f"Version {version} was {done}, and another batch replaced it meanwhile.",
        "Clear the pca task with its downstream tasks: it looks at the new version.",
        model_version=version,
    )
