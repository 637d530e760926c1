"""The lake's Iceberg tables: their schemas, how they are opened, and how a notebook reads them.

    from fruits.lake import read
    features = read("features").to_pandas()

The catalog is PyIceberg's own configuration of the name `fruits` (its environment variables
PYICEBERG_CATALOG__FRUITS__*): SQLite or PostgreSQL locally, Glue on AWS, nothing of it in code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    BooleanExpression,
    EqualTo,
    Reference,
    StartsWith,
)
from pyiceberg.expressions.literals import literal
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import DataScan, Table
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestamptzType,
)
from pyiceberg.utils.config import Config

from fruits.errors import LostTableError, NoCatalogError, UnreadableTableError
from fruits.objects import list_uris

NAMESPACE = "fruits"
# Property of features: the current feature model. It alone says what is current: the current PCA
# model version is the newest of this feature model.
FEATURE_MODEL = "fruits.feature-model"
# Property of features: the one that was current before the last switch.
PREVIOUS_FEATURE_MODEL = "fruits.previous-feature-model"
IMAGES_BUCKET = "fruits.images-bucket"  # property of features: the bucket its image_keys are of
# Property of components: JSON list of [model_version, feature_model], the newest last.
MODEL_VERSIONS = "fruits.model-versions"
# Property of components: JSON list of versions whose rows were taken out, the last one last.
RETIRED_VERSIONS = "fruits.retired-model-versions"


def _schema(**columns: PrimitiveType | ListType) -> Schema:
    # Step files carry names, not field ids; required=False because Spark writes every column as
    # nullable. That nothing is null is checked before a commit.
    schema = Schema(
        *(
            NestedField(number, name, kind, required=False)
            for number, (name, kind) in enumerate(columns.items(), start=1)
        )
    )
    # The ids that a catalog gives when it creates the table. The name mapping has to hold the same
    # ones, or a list is read as null.
    return assign_fresh_schema_ids(schema)


TEXT, LONG, INT, DOUBLE = StringType(), LongType(), IntegerType(), DoubleType()
TIME, YES_NO = TimestamptzType(), BooleanType()
FLOATS = ListType(1000, FloatType(), element_required=False)

SCHEMAS = {
    "features": _schema(
        image_key=TEXT,
        image_uri=TEXT,
        label=TEXT,
        etag=TEXT,
        size_bytes=LONG,
        last_modified=TIME,
        width=INT,
        height=INT,
        features=FLOATS,
        feature_model=TEXT,
        batch=TEXT,
    ),
    "quarantine": _schema(
        image_key=TEXT,
        image_uri=TEXT,
        label=TEXT,
        etag=TEXT,
        size_bytes=LONG,
        last_modified=TIME,
        reason=TEXT,
        error_message=TEXT,
        batch=TEXT,
    ),
    "components": _schema(
        image_key=TEXT,
        label=TEXT,
        etag=TEXT,
        components=FLOATS,
        model_version=TEXT,
        batch=TEXT,
    ),
    "runs": _schema(
        batch=TEXT,
        run_id=TEXT,
        outcome=TEXT,
        failed_tasks=TEXT,
        images_uri=TEXT,
        run_after=TIME,
        reported_at=TIME,
        started_at=TIME,
        listed=LONG,
        unchanged=LONG,
        added=LONG,
        replaced=LONG,
        deleted=LONG,
        ignored=LONG,
        deferred=LONG,
        features=LONG,
        quarantined=LONG,
        quarantine_reasons=TEXT,  # JSON: reason -> count
        changed=LONG,
        features_removed=LONG,
        feature_model=TEXT,
        beside=YES_NO,  # the current feature model was another one
        model_version=TEXT,
        k=LONG,
        explained_variance_kept=DOUBLE,
        cluster_id=TEXT,
        cluster_seconds=DOUBLE,
        added_bytes=LONG,
        engine=TEXT,
        worker_instance_type=TEXT,
        workers=LONG,
        worker_vcpus=LONG,
        estimated_seconds=DOUBLE,  # of the featurize step, when its cluster was sized
        featurize_seconds=DOUBLE,
        estimated_cost=DOUBLE,
        worst_case=DOUBLE,
        actual_cost=DOUBLE,
        currency=TEXT,
    ),
}
VECTORS = ("features", "components")
PARTITION_COLUMN = {"features": "feature_model", "components": "model_version"}


@dataclass(frozen=True)
class LakeFile:
    """One data file, committed or to be: its URI, its rows and its size in bytes."""

    uri: str
    rows: int
    bytes: int


def open_catalog() -> Catalog:
    """Return the catalog that PyIceberg's configuration calls `fruits`; NoCatalogError without."""
    # By itself load_catalog uses the environment as it was when PyIceberg was imported, which may
    # be before a task's environment was complete.
    configured = Config().get_catalog_config("fruits")
    if not configured:
        raise NoCatalogError(
            "The environment does not say where the tables are (PYICEBERG_CATALOG__FRUITS__*).",
            "Type this in `make shell` or, on AWS, after `set -a; . docker/aws.env; set +a`.",
        )
    patient = {"py-io-impl": "fruits.file_io.PatientFileIO"}
    return load_catalog("fruits", **patient | configured)  # type: ignore[arg-type]


def ensure_tables(catalog: Catalog) -> None:
    """Create the namespace and the tables that are missing; safe when two processes do it.

    Raises LostTableError if the lake has a table that the catalog does not know.
    """
    with suppress(NamespaceAlreadyExistsError):  # another process was quicker
        catalog.create_namespace_if_not_exists(NAMESPACE)
    for name in SCHEMAS:
        if not catalog.table_exists((NAMESPACE, name)):
            _create(catalog, name)


def open_table(name: str, catalog: Catalog | None = None) -> Table:
    """Return the table *name* (features, quarantine, components, runs) as it is now."""
    return (catalog or open_catalog()).load_table((NAMESPACE, name))


def read(name: str, catalog: Catalog | None = None) -> DataScan:
    """Return what a data scientist means by *name*: the current feature model or model version.

    `.to_pandas()`, `.to_arrow()` and `.to_duckdb()` read it. `quarantine` is read whole. For other
    versions use `open_table(name).scan(...)`.
    """
    catalog = catalog or open_catalog()
    table = open_table(name, catalog)
    if name not in PARTITION_COLUMN:
        return table.scan()
    current = current_feature_model(catalog) if name == "features" else current_version(catalog)
    nothing = AlwaysFalse()  # a table that no commit has reached yet
    return table.scan(equals(PARTITION_COLUMN[name], current) if current else nothing)


def current_feature_model(catalog: Catalog | None = None) -> str | None:
    """Return the feature model that readers read and ordinary runs compute; None in a new lake."""
    return open_table("features", catalog).properties.get(FEATURE_MODEL)


def current_version(catalog: Catalog | None = None) -> str | None:
    """Return the newest PCA model version of the current feature model; None if it has none."""
    catalog = catalog or open_catalog()
    feature_model = current_feature_model(catalog)
    components = open_table("components", catalog)
    return newest_version(components, feature_model) if feature_model else None


def versions(components: Table) -> list[list[str]]:
    """Return [model_version, feature_model] of every version with components, the newest last."""
    found: list[list[str]] = json.loads(components.properties.get(MODEL_VERSIONS, "[]"))
    return found


def newest_version(components: Table, feature_model: str) -> str | None:
    """Return the newest version of *feature_model*, None if it has none."""
    mine = [version for version, model in versions(components) if model == feature_model]
    return mine[-1] if mine else None


def scan_files(table: Table, row_filter: BooleanExpression | None = None) -> Iterator[DataFile]:
    """Yield the data files that may hold rows matching *row_filter*, with their statistics.

    Reading them as plain Parquet is right only because nothing here writes delete files; a table
    that has some (another engine wrote them) is refused with UnreadableTableError.
    """
    for task in table.scan(row_filter or AlwaysTrue()).plan_files():
        if task.delete_files:
            raise UnreadableTableError(
                f"{task.file.file_path} of {table.name()[-1]} has rows that a delete file hides.",
                "Only copy-on-write is supported: rewrite the table without delete files.",
                table=table.name()[-1],
                uri=task.file.file_path,
            )
        yield task.file


def data_files(table: Table, row_filter: BooleanExpression | None = None) -> list[LakeFile]:
    """Return the same files by URI, rows and bytes, sorted by URI."""
    found = [
        LakeFile(file.file_path, file.record_count, file.file_size_in_bytes)
        for file in scan_files(table, row_filter)
    ]
    return sorted(found, key=lambda file: file.uri)


def equals(column: str, value: str) -> BooleanExpression:
    """Return the filter `column = value`; no quoting is involved, so any text is a fine value."""
    return EqualTo(term=Reference(name=column), value=literal(value))


def starts_with(column: str, prefix: str) -> BooleanExpression:
    """Return the filter `column begins with prefix`; the empty prefix matches every row."""
    if not prefix:
        return AlwaysTrue()
    return StartsWith(term=Reference(name=column), value=literal(prefix))


def _create(catalog: Catalog, name: str) -> None:
    schema, location = SCHEMAS[name], _location(catalog, name)
    if location and location.startswith("s3://"):
        _refuse_history(catalog, name, location)
    with suppress(TableAlreadyExistsError):  # another process was quicker
        catalog.create_table(
            (NAMESPACE, name),
            schema,
            location=location,
            partition_spec=_partition_spec(schema, PARTITION_COLUMN.get(name)),
            sort_order=_sort_order(name, schema),
            properties=_properties(schema),
        )


def _refuse_history(catalog: Catalog, name: str, location: str) -> None:
    """Raise LostTableError if something was committed there to a table that the catalog has not.

    An empty table in its place would featurize everything again, and retention would take all files
    of the other for rubbish.
    """
    committed = list_uris(f"{location}/metadata/snap-")
    # Looked for again afterwards: another process may have made it and committed to it meanwhile.
    if committed and not catalog.table_exists((NAMESPACE, name)):
        raise LostTableError(
            f"The catalog has no table {name}, but there is one at {location}.",
            "Nothing was changed. If the environment names another catalog than the lake's "
            "(PYICEBERG_CATALOG__FRUITS__*), mend that; if the catalog was lost, register the "
            'tables again: docs/operations.md, "A lost catalog".',
            table=name,
            location=location,
        )


def _location(catalog: Catalog, name: str) -> str | None:
    # The default would put the namespace's folder in between; the layout names tables/<table>/.
    warehouse = catalog.properties.get("warehouse")
    return f"{warehouse.rstrip('/')}/{name}" if warehouse else None


def _partition_spec(schema: Schema, column: str | None) -> PartitionSpec:
    if column is None:
        return PartitionSpec()
    source = schema.find_field(column).field_id
    return PartitionSpec(PartitionField(source, 1000, IdentityTransform(), column))


def _sort_order(name: str, schema: Schema) -> SortOrder:
    sorted_by = ("run_after",) if name == "runs" else ("label", "image_key")
    columns = (schema.find_field(column).field_id for column in sorted_by)
    return SortOrder(*(SortField(source_id=column) for column in columns))


def _properties(schema: Schema) -> dict[str, str]:
    return {
        # Step files have no Iceberg field ids: their columns are found by name.
        "schema.name-mapping.default": schema.name_mapping.model_dump_json(),
        # Bounds cut to 16 characters, the default, would not tell the images of a label apart.
        "write.metadata.metrics.column.image_key": "full",
        # Nobody looks for vectors between bounds: the steps write none, and none are missed.
        **{f"write.metadata.metrics.column.{name}.element": "none" for name in VECTORS},
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "50",
        "write.parquet.compression-codec": "zstd",
    }
