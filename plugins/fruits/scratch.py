"""A temporary DuckDB on disk: lists of millions of keys are compared there, not in Python."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from fruits.gathering import grouped

MEMORY_LIMIT = "1GB"
EXAMPLES = 10
ROWS_PER_INSERT = 200_000  # a smaller insert costs more than its rows


@dataclass(frozen=True)
class Scratch:
    """A folder that goes when the work is done, and a database in it that spills to disk."""

    folder: Path
    database: Any  # duckdb.DuckDBPyConnection, which ships no types

    def run(self, statement: str, *parameters: object) -> None:
        """Execute one statement that returns nothing of interest."""
        self.database.execute(statement, list(parameters))

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return a small result as tuples."""
        return list(self.database.execute(query, list(parameters)).fetchall())

    def value(self, query: str, *parameters: object) -> Any:
        """Return the single value of a query."""
        return self.rows(query, *parameters)[0][0]

    def stream(self, query: str, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the result as Arrow batches of at most *rows* rows."""
        yield from self.database.sql(query).to_arrow_reader(rows)

    def insert(
        self, table: str, select: str, batch: pa.RecordBatch | pa.Table, *parameters: object
    ) -> None:
        """Insert into *table* what *select* makes of *batch*, which it calls `incoming`."""
        self.database.register("incoming", batch)
        try:
            self.run(f"INSERT INTO {table} {select}", *parameters)
        finally:
            self.database.unregister("incoming")

    def insert_all(
        self, table: str, select: str, batches: Iterable[pa.RecordBatch], *parameters: object
    ) -> None:
        """Insert all *batches*, some at a time, so that they are never all in memory."""
        for rows in grouped(batches, ROWS_PER_INSERT):
            self.insert(table, select, rows, *parameters)

    def examples(self, relation: str) -> tuple[int, tuple[str, ...]]:
        """Return how many rows a relation with an image_key has, and up to 10 of its keys."""
        count = self.value(f"SELECT count(*) FROM {relation}")
        keys = self.rows(f"SELECT image_key FROM {relation} ORDER BY image_key LIMIT {EXAMPLES}")
        return count, tuple(key for (key,) in keys)


@contextmanager
def scratch(memory_limit: str = MEMORY_LIMIT) -> Iterator[Scratch]:
    """Open a scratch database that holds at most *memory_limit* in memory and spills the rest."""
    with tempfile.TemporaryDirectory(prefix="fruits-") as name:
        folder = Path(name)
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": str(folder / "spill"),
            # Order is asked for where it matters; keeping the insertion order costs memory.
            "preserve_insertion_order": "false",
        }
        with duckdb.connect(str(folder / "scratch.duckdb"), config=config) as database:
            yield Scratch(folder, database)
