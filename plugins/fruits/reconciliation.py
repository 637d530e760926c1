"""The check before a commit: what a step wrote is exactly what it was asked for, and is sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.types import (
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestamptzType,
)

from fruits.errors import ReconciliationError
from fruits.lake import SCHEMAS, LakeFile
from fruits.manifests import Manifest
from fruits.results import FeaturizeResult, PcaResult
from fruits.scratch import EXAMPLES, Scratch

BATCH_ROWS = 8192
CHANGED = Schema(*SCHEMAS["quarantine"].fields[:1], *SCHEMAS["quarantine"].fields[3:4])
ARROW_TYPES: dict[type[IcebergType], pa.DataType] = {
    StringType: pa.string(),
    LongType: pa.int64(),
    IntegerType: pa.int32(),
    FloatType: pa.float32(),
    TimestamptzType: pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class Difference:
    """One way in which a step's output is wrong, how often, and up to 10 of the keys or files."""

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(repr(example) for example in self.examples)
        return f"{self.count} {self.kind} ({shown}{', …' if self.count > EXAMPLES else ''})"


@dataclass(frozen=True)
class Content:
    """What every row of a kind of file has to hold: constants, and vectors of one length."""

    schema: Schema
    constants: dict[str, str] = field(default_factory=dict)
    vectors: str | None = None
    length: int | None = None


@dataclass
class Findings:
    """The differences found so far, by kind."""

    by_kind: dict[str, Difference] = field(default_factory=dict)

    def note(self, kind: str, count: int, examples: Iterable[object]) -> None:
        """Add *count* occurrences of *kind*; nothing happens when there are none."""
        if not count:
            return
        before = self.by_kind.get(kind, Difference(kind, 0, ()))
        shown = (*before.examples, *(str(example) for example in examples))[:EXAMPLES]
        self.by_kind[kind] = Difference(kind, before.count + count, shown)

    def note_rows(self, kind: str, batch: pa.RecordBatch, wrong: pa.Array) -> None:
        """Add the rows of *batch* where *wrong* is true."""
        keys = batch["image_key"].filter(wrong)
        self.note(kind, len(keys), keys[:EXAMPLES].to_pylist())

    def raise_if_any(self, step: str) -> None:
        """Raise ReconciliationError that names every difference."""
        if not self.by_kind:
            return
        differences = tuple(self.by_kind.values())
        raise ReconciliationError(
            f"What {step} wrote is not what it was asked for: {'; '.join(map(str, differences))}.",
            f"Nothing was committed. Clear the {step} step: a new attempt writes all of it again."
            " If it differs again, the job has a defect.",
            step=step,
            differences=differences,
        )


def reconcile_features(
    space: Scratch, io: FileIO, result: FeaturizeResult, manifest: Manifest, length: int | None
) -> None:
    """Check a featurize result against the table `expected` (image_key, etag) of *space*.

    Every expected image is in features, quarantine or changed exactly once, nothing else is; files
    have the listed rows and bytes; nothing is null, NaN or infinite; vectors have one length
    (*length* if it is known). Leaves the table `outcomes` (image_key, etag, outcome).
    ReconciliationError names what differs.
    """
    own = {"batch": manifest.batch}
    contents = {
        "features": Content(
            SCHEMAS["features"], own | {"feature_model": manifest.feature_model}, "features", length
        ),
        "quarantine": Content(SCHEMAS["quarantine"], own),
        "changed": Content(CHANGED),
    }
    files = {
        "features": result.features,
        "quarantine": result.quarantine,
        "changed": result.changed,
    }
    _reconcile(space, io, "featurize", files, contents)


def reconcile_components(space: Scratch, io: FileIO, result: PcaResult) -> None:
    """Check a PCA result against the table `expected` (image_key, etag) of *space*.

    Every expected image has components exactly once, nothing else has; vectors have length k and
    are finite; files have the listed rows and bytes. ReconciliationError names what differs.
    """
    constants = {"batch": result.batch, "model_version": result.model_version}
    content = Content(SCHEMAS["components"], constants, "components", result.k)
    files = {"components": result.components}
    _reconcile(space, io, "pca", files, {"components": content})


def _reconcile(
    space: Scratch,
    io: FileIO,
    step: str,
    files: dict[str, tuple[LakeFile, ...]],
    contents: dict[str, Content],
) -> None:
    findings = Findings()
    space.run("CREATE TABLE outcomes (image_key VARCHAR, etag VARCHAR, outcome VARCHAR)")
    select = "SELECT image_key, etag, ? FROM incoming"
    for outcome, content in contents.items():
        keys = _checked(io, files[outcome], content, findings)
        space.insert_all("outcomes", select, keys, outcome)
    _compare(space, findings)
    findings.raise_if_any(step)


def _compare(space: Scratch, findings: Findings) -> None:
    relations = {
        "images without an outcome": "expected ANTI JOIN outcomes USING (image_key, etag)",
        "outcomes of images that were not asked for": (
            "outcomes ANTI JOIN expected USING (image_key, etag)"
        ),
        "images with more than one outcome": (
            "(SELECT image_key FROM outcomes GROUP BY image_key, etag HAVING count(*) > 1)"
        ),
    }
    for kind, relation in relations.items():
        findings.note(kind, *space.examples(relation))


def _checked(
    io: FileIO, files: tuple[LakeFile, ...], content: Content, findings: Findings
) -> Iterator[pa.RecordBatch]:
    """Yield the keys of *files*, noting on the way whatever is wrong with them."""
    length = content.length
    for file in files:
        source = io.new_input(file.uri)
        if not source.exists():
            findings.note("listed files that do not exist", 1, [file.uri])
            continue
        if len(source) != file.bytes:
            findings.note("files of another size than listed", 1, [file.uri])
        with source.open() as stream, pq.ParquetFile(stream) as parquet:
            if parquet.metadata.num_rows != file.rows:
                findings.note("files with other rows than listed", 1, [file.uri])
            if wrong := _wrong_columns(parquet.schema_arrow, content.schema):
                findings.note(f"files with wrong columns: {wrong}", 1, [file.uri])
                continue
            for batch in parquet.iter_batches(BATCH_ROWS):
                length = _check_rows(batch, content, length, findings)
                yield batch.select(["image_key", "etag"])


def _wrong_columns(found: pa.Schema, schema: Schema) -> str:
    """Return what is wrong with a file's columns, '' if nothing is."""
    expected = [f"{column.name} {_arrow_type(column.field_type)}" for column in schema.columns]
    actual = [f"{column.name} {_plain(column.type)}" for column in found]
    if schema is CHANGED:  # further columns say why
        actual = actual[: len(expected)]
    return "" if actual == expected else f"{actual} instead of {expected}"


def _arrow_type(kind: IcebergType) -> str:
    if isinstance(kind, ListType):
        return f"list<{ARROW_TYPES[type(kind.element_type)]}>"
    return str(ARROW_TYPES[type(kind)])


def _plain(kind: pa.DataType) -> str:
    # How a list's element is called, and whether Arrow counts offsets in 64 bits, means nothing in
    # Parquet.
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{kind.value_type}>"
    return str(kind).removeprefix("large_")


def _check_rows(
    batch: pa.RecordBatch, content: Content, length: int | None, findings: Findings
) -> int | None:
    for name in batch.schema.names:
        if batch[name].null_count:
            findings.note_rows(f"rows without {name}", batch, pc.is_null(batch[name]))
    for name, value in content.constants.items():
        wrong = pc.fill_null(pc.not_equal(batch[name], pa.scalar(value)), fill_value=False)
        findings.note_rows(f"rows whose {name} is not {value}", batch, wrong)
    if content.vectors is None or not batch.num_rows:
        return length
    return _check_vectors(batch, content.vectors, length, findings)


def _check_vectors(
    batch: pa.RecordBatch, name: str, length: int | None, findings: Findings
) -> int | None:
    vectors = batch[name]
    lengths = pc.list_value_length(vectors)
    length = length or lengths[0].as_py()
    wrong = pc.fill_null(pc.not_equal(lengths, pa.scalar(length)), fill_value=False)
    findings.note_rows(f"{name} of another length than {length}", batch, wrong)
    finite = pc.fill_null(pc.is_finite(vectors.flatten()), fill_value=False)
    if not pc.all(finite).as_py():
        rows = pc.unique(pc.list_parent_indices(vectors).filter(pc.invert(finite)))
        bad = pc.is_in(pa.array(range(batch.num_rows)), rows.cast(pa.int64()))
        findings.note_rows(f"{name} with a null, NaN or infinite value", batch, bad)
    return length
