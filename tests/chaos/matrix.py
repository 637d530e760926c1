"""What the cases found, a row each: printed, and written to var/chaos as Markdown and JSON.

python -m tests.chaos.matrix      print the cases that were run last
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

FOLDER = Path(__file__).resolve().parents[2] / "var" / "chaos"


@dataclass
class Record:
    """One case as it was seen; money in USD, times in seconds. *healthy* is the run that followed.

    *bound* is the longest that a cluster may live: its cap, one watchdog period, and the slack in
    which it shuts down.
    """

    module: str
    name: str
    expected: str = ""
    run: str = ""
    clusters: int = 0
    at_once: int = 0
    longest: float = 0.0
    bound: float = 0.0
    spent: float = 0.0
    promised: float = 0.0
    ended_by: list[str] = field(default_factory=list)
    faults: int = 0
    faults_before: int = 0
    data: str = ""
    healthy: bool | None = None
    seconds: float = 0.0
    finished: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def excess(self) -> float:
        """Money above what the ledger promised."""
        return round(max(self.spent - self.promised, 0.0), 4)

    @property
    def holds(self) -> bool:
        """Whether everything that must hold does."""
        return self.finished and not self.problems and self.healthy is not False

    def write(self) -> None:
        """Keep the record; a later one of the same case takes its place."""
        folder = FOLDER / "cases"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.module}.{self.name}.json").write_text(json.dumps(asdict(self), indent=1))


COLUMNS = (
    "case",
    "run",
    "clusters",
    "at once",
    "longest / bound (s)",
    "spent / promised (USD)",
    "excess",
    "ended by",
    "data",
    "healthy after",
    "holds",
)


def read_records() -> list[Record]:
    """Return the records of the last cases, by module and name."""
    files = sorted((FOLDER / "cases").glob("*.json"))
    return [Record(**json.loads(file.read_text())) for file in files]


def row(record: Record) -> tuple[str, ...]:
    """Return a record's cells, in the order of COLUMNS."""
    return (
        record.name.removeprefix("test_").replace("_", " "),
        record.run if record.run == record.expected else f"{record.run} ({record.expected})",
        str(record.clusters),
        str(record.at_once),
        f"{record.longest:.0f} / {record.bound:.0f}" if record.clusters else "-",
        f"{record.spent:.3f} / {record.promised:.3f}",
        f"{record.excess:.3f}",
        ", ".join(record.ended_by) or "-",
        record.data,
        {True: "yes", False: "NO", None: "?"}[record.healthy],
        "yes" if record.holds else "NO",
    )


def summary(records: list[Record]) -> str:
    """Return the one line below the matrix."""
    held = sum(record.holds for record in records)
    return (
        f"{held} of {len(records)} cases hold; "
        f"{sum(record.clusters for record in records)} clusters, the longest lived "
        f"{max((record.longest for record in records), default=0):.0f} s; "
        f"{sum(record.spent for record in records):.2f} USD spent of "
        f"{sum(record.promised for record in records):.2f} promised, "
        f"{sum(record.excess for record in records):.2f} above; "
        f"{sum(record.seconds for record in records) / 60:.0f} minutes of cases"
    )


def markdown(records: list[Record]) -> str:
    """Return the matrix as a Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(row, records)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n{summary(records)}\n"


def main() -> int:
    """Print and write the matrix; 0 if there are cases and every one holds."""
    records = read_records()
    if not records:
        print("There are no cases: make chaos runs them", file=sys.stderr)  # noqa: T201
        return 1
    table = Table(title="What was broken, and what held")
    for name in COLUMNS:
        table.add_column(name)
    for record in records:
        table.add_row(*map(escape, row(record)), style="" if record.holds else "bold red")
    # A pipe has no width: a matrix that is cut says nothing.
    console = Console(width=None if sys.stdout.isatty() else 220)
    console.print(table)
    for record in records:
        for problem in record.problems:
            console.print(f"{record.name}: {problem}", style="red", markup=False)
    console.print(summary(records))
    (FOLDER / "matrix.md").write_text(markdown(records))
    (FOLDER / "matrix.json").write_text(json.dumps([asdict(one) for one in records], indent=1))
    return 0 if all(record.holds for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
