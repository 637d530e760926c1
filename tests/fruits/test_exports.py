"""Exported files: exactly what the tables hold, whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from fruits import exports
from fruits.component_commits import commit_components
from fruits.exports import ExportError, export_table, main, whole_file, widened
from fruits.lake import read
from tests.fruits.conftest import serving_tables
from tests.fruits.lake_support import LENGTH, ingest, put, reduced

KEYS = [f"Apple/{number}.jpg" for number in range(7)] + ['q, "odd"/é\n1.jpg']


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a lake with two PCA versions, and one undecodable image."""
    folder = tmp_path_factory.mktemp("filled")
    with serving_tables(folder) as catalog:
        for number, batch in enumerate(("b1", "b2")):
            for key in KEYS[number * 4 : number * 4 + 4]:
                put(key)
            ingest(catalog, batch, broken=[KEYS[0]])
            commit_components(catalog, reduced(catalog, batch), keep_model_versions=2)
    return folder


@pytest.fixture
def table(filled: Path, catalog: Catalog) -> Catalog:
    """Return the catalog of what was filled."""
    return catalog


@pytest.fixture
def folder(table: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder of a command that finds those tables."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_key(rows: pa.Table) -> list[dict]:
    return sorted(rows.to_pylist(), key=lambda row: row["image_key"])


@pytest.mark.parametrize("name", ["components", "features", "quarantine"])
def test_parquet_is_what_is_read(table: Catalog, tmp_path: Path, name: str) -> None:
    """A file has the rows and columns that `read` gives."""
    target = tmp_path / "new" / f"{name}.parquet"

    rows = export_table(table, name, target)

    found, expected = pq.read_table(target), read(name, table).to_arrow()
    assert rows == found.num_rows == expected.num_rows > 0
    assert by_key(found) == by_key(expected)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_wide_columns_hold_every_number(
    table: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Each number has a column, in its order and exact to the last bit; odd names survive."""
    monkeypatch.setattr(exports, "ROWS", 3)  # more than one write
    target = tmp_path / f"features.{suffix}"

    export_table(table, "features", target, wide=True)

    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    found = (
        pq.read_table(target)
        if suffix == "parquet"
        else pyarrow.csv.read_csv(target, parse_options=options)
    )
    expected = by_key(read("features", table).to_arrow())
    names = [f"features_{i}" for i in range(LENGTH)]
    assert [name for name in found.column_names if name.startswith("features")] == names
    rows = by_key(found)
    assert [row["image_key"] for row in rows] == [row["image_key"] for row in expected]
    vectors = np.array([[row[name] for name in names] for row in rows], np.float32)
    np.testing.assert_array_equal(vectors, [row["features"] for row in expected])


def test_an_older_version_can_be_exported(table: Catalog, tmp_path: Path) -> None:
    """As long as it is kept; else the message lists what there is."""
    target = tmp_path / "old.parquet"

    assert export_table(table, "components", target, version="b1-1") == 3
    assert set(pq.read_table(target)["model_version"].to_pylist()) == {"b1-1"}
    with pytest.raises(ExportError, match=r"no version b0-1\. There are b1-1, b2-1"):
        export_table(table, "components", target, version="b0-1")
    with pytest.raises(ExportError, match="features have none"):
        export_table(table, "features", target, version="b1-1")


def test_nothing_to_export_is_said(catalog: Catalog, tmp_path: Path) -> None:
    """An empty file would look like a result."""
    folder = tmp_path / "export"

    with pytest.raises(ExportError, match="There are no components yet"):
        export_table(catalog, "components", folder / "components.csv")
    assert not list(folder.glob("*"))


def test_a_failed_export_leaves_the_file_of_before(tmp_path: Path) -> None:
    """Whoever reads the file meanwhile finds a whole one."""
    target = tmp_path / "a.csv"
    target.write_text("before")

    with suppress(OSError), whole_file(target) as partial:
        partial.write_text("half")
        raise OSError("disk full")

    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_vectors_of_two_lengths_have_no_columns() -> None:
    """Columns of one length would cut or shift the others."""
    table = pa.table({"features": [[1.0, 2.0], [1.0]]})

    with pytest.raises(ExportError, match=r"different lengths: \[1, 2\]"):
        widened(table, "features")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["components", "--output", "x.txt"], "Let its name end in .parquet"),
        (["components", "--model-version", "b9"], "There is no version b9"),
        (["onnx"], "There is no object s3://fruits-lake/networks/"),
    ],
)
def test_the_command_says_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """Exit code 1, and one line with the way out."""
    assert main(words) == 1
    assert message in capsys.readouterr().out


def test_the_command_writes_under_var(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name for the file, it is var/export/WHAT.FORMAT, and the command says so."""
    assert main(["components", "--format", "csv"]) == 0
    assert "var/export/components.csv: 7 rows" in capsys.readouterr().out
    assert (folder / "var/export/components.csv").exists()
