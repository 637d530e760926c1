"""What came in with a batch, by label, and what of it was quarantined: counts, and a few examples.

However large the batch, what is returned here is bounded: it goes into a report that people read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fruits.manifests import read_list
from fruits.objects import download
from fruits.results import FeaturizeResult

LABELS_SHOWN = 100
EXAMPLES_SHOWN = 100
COLUMNS = ["image_key", "label", "size_bytes", "reason", "error_message"]


@dataclass(frozen=True)
class LabelTally:
    """How many images of one label were new or replaced, and how many of these are quarantined."""

    label: str
    added: int
    quarantined: int


@dataclass(frozen=True)
class BrokenImage:
    """One image that cannot be decoded, and why."""

    image_key: str
    size_bytes: int
    reason: str
    error_message: str


@dataclass(frozen=True)
class Tally:
    """A batch's images: the largest *labels* of all *label_count*, and *broken* as examples.

    *unlisted* counts the images of the labels that are not listed. Of each reason there are some
    examples, 100 in all; *reasons* counts them all.
    """

    labels: tuple[LabelTally, ...]
    label_count: int
    unlisted: int
    reasons: dict[str, int]
    broken: tuple[BrokenImage, ...]

    @property
    def broken_count(self) -> int:
        """How many images are quarantined."""
        return sum(self.reasons.values())


def tally(manifest_uri: str, result: FeaturizeResult | None) -> Tally:
    """Count what the batch's manifest added, and what its featurize *result* quarantined."""
    with TemporaryDirectory(prefix="fruits-") as name:
        folder = Path(name)
        added: Counter[str] = Counter()
        for batch in read_list(manifest_uri, "added", folder):
            added.update(_counts(batch["label"]))
        reasons = dict(Counter(result.reasons).most_common()) if result else {}
        quarantined: Counter[str] = Counter()
        examples = _Examples(reasons)
        for batch in _quarantine(result, folder):
            quarantined.update(_counts(batch["label"]))
            examples.take(batch)
    largest = sorted(added, key=lambda label: (-added[label], label))
    listed = largest[:LABELS_SHOWN]
    return Tally(
        labels=tuple(LabelTally(one, added[one], quarantined[one]) for one in listed),
        label_count=len(added),
        unlisted=added.total() - sum(added[label] for label in listed),
        reasons=reasons,
        broken=examples.kept(),
    )


class _Examples:
    """The first broken images of each reason, as many of each as fit."""

    def __init__(self, reasons: dict[str, int]) -> None:
        self._each = -(-EXAMPLES_SHOWN // max(1, len(reasons)))
        self._found: dict[str, list[BrokenImage]] = {reason: [] for reason in reasons}

    def take(self, batch: pa.RecordBatch) -> None:
        """Take from these rows what is still missing."""
        for reason, found in self._found.items():
            wanted = self._each - len(found)
            if wanted > 0:
                rows: list[dict[str, Any]] = (
                    batch.filter(pc.equal(batch["reason"], pa.scalar(reason)))
                    .slice(0, wanted)
                    .drop_columns("label")
                    .to_pylist()
                )
                found.extend(BrokenImage(**row) for row in rows)

    def kept(self) -> tuple[BrokenImage, ...]:
        """Return at most EXAMPLES_SHOWN images, the most frequent reason first."""
        return tuple(image for found in self._found.values() for image in found)[:EXAMPLES_SHOWN]


def _quarantine(result: FeaturizeResult | None, folder: Path) -> Iterator[pa.RecordBatch]:
    for file in result.quarantine if result else ():
        path = download(file.uri, folder / "quarantine.parquet")
        with pq.ParquetFile(path) as rows:
            for batch in rows.iter_batches(columns=COLUMNS):
                yield batch.select(COLUMNS)


def _counts(column: pa.Array) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}
