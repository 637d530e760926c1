"""Catalogs and file systems with bad luck, put in through PyIceberg's own configuration."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

from fruits.commits import commit_features, commit_removals
from fruits.component_commits import commit_components
from fruits.lake import open_catalog

if TYPE_CHECKING:  # a process that is killed needs no pytest
    import pytest

CATALOG = "PYICEBERG_CATALOG__FRUITS__"
KILLED = 137
_steps = itertools.count(1)
_killed_at = 0


def _step() -> None:
    if next(_steps) == _killed_at:
        os._exit(KILLED)  # as SIGKILL does: no handler, no finally, no flush


class KilledIO(PyArrowFileIO):
    """A file system under which the process ends before the n-th write."""

    def new_output(self, location: str) -> OutputFile:
        output = super().new_output(location)
        create = output.create

        def create_unless_killed(overwrite: bool = False) -> Any:
            _step()
            return create(overwrite)

        output.create = create_unless_killed
        return output


class KilledCatalog(SqlCatalog):
    """A catalog under which the process ends before or after a commit."""

    def commit_table(self, *arguments: Any) -> Any:
        _step()
        response = super().commit_table(*arguments)
        _step()
        return response


def commit_until_killed(environment: dict[str, str], at: int, task: str, uris: list[str]) -> None:
    """Make the commits of *task* in this fresh process, and be killed at the write number *at*."""
    global _killed_at  # noqa: PLW0603  (one process, one death)
    for name in [name for name in os.environ if name.startswith("PYICEBERG_")]:
        del os.environ[name]  # inherited from the test that started the fork server
    os.environ.update(environment)
    _killed_at = at
    commit(open_catalog(), task, uris)


def commit(catalog: Catalog, task: str, uris: list[str]) -> None:
    """Make the commits of *task*: features (with the removals before it), or components."""
    if task == "features":
        commit_removals(catalog, uris[0], confirmed=True)
        commit_features(catalog, *uris, max_quarantine_share=0.5)
    else:
        commit_components(catalog, uris[0])


def unlucky(monkeypatch: pytest.MonkeyPatch, name: str) -> Catalog:
    """Open the catalog as the class *name* of this module."""
    monkeypatch.delenv(f"{CATALOG}TYPE")
    monkeypatch.setenv(f"{CATALOG}PY_CATALOG_IMPL", f"{__name__}.{name}")
    return open_catalog()


class LosingCatalog(SqlCatalog):
    """A catalog that takes each table's first commit, and whose answer is lost."""

    error: ClassVar[Exception]

    def commit_table(self, table: Any, *arguments: Any) -> Any:
        answered = self.__dict__.setdefault("answered", set())
        response = super().commit_table(table, *arguments)
        if table.name() not in answered:
            answered.add(table.name())
            raise self.error
        return response


class UnreachableCatalog(SqlCatalog):
    """A catalog that takes no commit."""

    error: ClassVar[Exception]

    def commit_table(self, *_: Any) -> Any:
        raise self.error


class OvertakenCatalog(SqlCatalog):
    """A catalog in which another writer commits just before the first commit made through it."""

    other: ClassVar[Callable[[], object] | None] = None

    def commit_table(self, *arguments: Any) -> Any:
        other, type(self).other = type(self).other, None
        if other:
            other()
        return super().commit_table(*arguments)
