"""How data files form sets whose sums are worth keeping: the same sets whatever else comes or goes.

Summing thousands of daily entries every day would take longer than the day's work. So runs of about
FANOUT files have an entry of their own, runs of about FANOUT runs as well, and so on. Where a run
ends is decided by a hash of the file's name alone: a file that is added, rewritten or removed
changes the runs that hold it and no other, and files sorted by URI are sorted by batch, so that new
ones are at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from fruits_jobs.data_files import DataFile

FANOUT = 8
LEVELS = 8


@dataclass(frozen=True)
class FileSet:
    """Some *files* in the order of their URIs; *parts* are the smaller sets that it is made of.

    A set of one file has no parts.
    """

    files: tuple[DataFile, ...]
    parts: tuple[FileSet, ...] = ()

    def __str__(self) -> str:
        first, last = self.files[0].uri, self.files[-1].uri
        return first if first == last else f"{len(self.files)} files from {first} to {last}"

    @property
    def rows(self) -> int:
        """The number of rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def name(self) -> str:
        """The name of its entry: a hash of the URIs, that is, of which files, not of what is in."""
        uris = "\n".join(file.uri for file in self.files)
        return f"{hashlib.sha256(uris.encode()).hexdigest()[:40]}.npz"

    def walk(self) -> Iterator[FileSet]:
        """Yield this set and all that it is made of."""
        yield self
        for part in self.parts:
            yield from part.walk()


def file_sets(files: list[DataFile]) -> list[FileSet]:
    """Return the largest sets, which together hold every file once."""
    sets = [FileSet((file,)) for file in sorted(files, key=lambda file: file.uri)]
    for level in range(1, LEVELS + 1):
        sets = list(_joined(sets, FANOUT**level))
    return sets


def terms(sets: list[FileSet], known: set[str]) -> list[FileSet]:
    """Return the fewest sets that have an entry or are a single file, and hold every file once."""
    found = []
    for top in sets:
        if not top.parts or top.name in known:
            found.append(top)
        else:
            found += terms(list(top.parts), known)
    return found


def _joined(sets: list[FileSet], divisor: int) -> Iterator[FileSet]:
    """Join runs of *sets* whose last file's hash is divisible; the last run stays open."""
    run: list[FileSet] = []
    for part in sets:
        run.append(part)
        if _number(part.files[-1]) % divisor == 0:
            yield _set_of(run)
            run = []
    yield from run


def _set_of(parts: list[FileSet]) -> FileSet:
    if len(parts) == 1:
        return parts[0]
    return FileSet(tuple(file for part in parts for file in part.files), tuple(parts))


def _number(file: DataFile) -> int:
    return int.from_bytes(hashlib.sha256(file.uri.encode()).digest()[:8])
