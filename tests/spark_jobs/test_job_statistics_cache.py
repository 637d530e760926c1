"""Statistics of data files as a cache: right whatever happened to the table or to the entries."""

from __future__ import annotations

import itertools
import pickle
from contextlib import suppress
from functools import reduce
from operator import add

import numpy as np
import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fruits_jobs import statistics_cache
from fruits_jobs.data_files import DataFile, RowsDiffer, identified
from fruits_jobs.file_sets import FileSet, file_sets, terms
from fruits_jobs.objects import bucket_store, read_bytes, write_bytes
from fruits_jobs.statistics import Statistics, WidthsDiffer
from fruits_jobs.statistics_cache import (
    BadFeatures,
    StatisticsCache,
    Sum,
    cached_statistics,
    file_statistics,
)
from fruits_jobs.statistics_entries import BadEntry, entry_bytes, read_entry
from tests.spark_jobs.feature_days import DAYS, SEEDS, D, happen, vectors
from tests.spark_jobs.feature_tables import LAKE, REGION, FeatureTable

NUMBERS = itertools.count()  # each example of a property has a folder of its own


def opened(table: FeatureTable) -> StatisticsCache:
    return StatisticsCache.open(f"{LAKE}/{table.name}/statistics/m/", REGION)


def summed(table: FeatureTable) -> Sum:
    """Return the sum as the step makes it, less Spark."""
    cache, sets = opened(table), file_sets(table.data_files())
    found = reduce(add, map(cache.sum_of, terms(sets, set(cache.known))))
    for top in sets:
        opened(table).refresh(top)
    cache.remove_others(sets)
    return found


def assert_exact(found: Statistics, X: np.ndarray) -> None:
    """Hold statistics against NumPy's of the rows themselves, relative to each column's spread."""
    assert found.count == len(X)
    np.testing.assert_array_equal(found.low, X.min(0))
    np.testing.assert_array_equal(found.high, X.max(0))
    np.testing.assert_allclose(found.mean, X.mean(0), rtol=1e-12, atol=1e-12 * np.abs(X).max())
    if len(X) > 1:
        expected = np.atleast_2d(np.cov(X, rowvar=False))
        spread = np.sqrt(np.diag(expected))
        allowed = 1e-9 * np.outer(spread, spread) + 1e-15 * np.square(np.abs(X).max()) * 1e-9
        assert (np.abs(found.covariance() - expected) <= allowed).all()


@pytest.fixture
def table(storage) -> FeatureTable:
    return FeatureTable("table")


@given(days=st.lists(DAYS, min_size=1, max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_exact_after_any_sequence(storage, days):
    """Adds, removals and replacements, also ones that empty files, leave the exact covariance."""
    table = FeatureTable(f"table-{next(NUMBERS)}")
    for day in days:
        happen(table, day)
        if not table.images:
            continue

        found = summed(table)

        assert_exact(found.statistics, table.vectors)
        assert found.rejected == ()


@given(
    days=st.lists(DAYS, min_size=1, max_size=6),
    harm=st.sampled_from(["cut", "flipped", "emptied", "of another file", "gone"]),
    seed=SEEDS,
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_harmed_entries_change_no_sum(storage, days, harm, seed):
    """Whatever becomes of an entry, the sum is the same, and what was wrong is told and mended."""
    table = FeatureTable(f"table-{next(NUMBERS)}")
    table.add(vectors(30, seed))
    for day in days:
        happen(table, day)
    table.add(vectors(30, seed + 1))
    summed(table)
    # One that is read: those of parts are not, while their whole has one.
    known = set(opened(table).known)
    names = [one.name for one in terms(file_sets(table.data_files()), known) if one.name in known]
    victim = f"{LAKE}/{table.name}/statistics/m/{names[seed % len(names)]}"
    data = read_bytes(victim, REGION)
    if harm == "gone":
        key = victim.removeprefix(f"{LAKE}/")
        obstore.delete(bucket_store("fruits-lake", REGION), key)
    else:
        write_bytes(victim, harmed(data, harm, seed), REGION)

    found, again = summed(table), summed(table)

    assert_exact(found.statistics, table.vectors)
    assert_exact(again.statistics, table.vectors)
    # Not every bit of an entry says something.
    told = {"gone": {0}, "flipped": {0, 1}}.get(harm, {1})
    assert len(found.rejected) in told
    assert again.rejected == ()


def harmed(data: bytes, harm: str, seed: int) -> bytes:
    if harm == "cut":
        return data[: seed % len(data)]
    if harm == "flipped":
        position = seed % len(data)
        return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]
    if harm == "emptied":
        return b""
    other = Statistics.of(vectors(30, seed + 2))
    return entry_bytes(other, (DataFile("s3://fruits-lake/other.parquet", 30, 1, "x"),))


def test_no_flipped_bit_is_more_than_a_bad_entry():
    """Wherever it is: the archive's directory has fields that a reader refuses in its own ways."""
    files = (DataFile("s3://fruits-lake/one.parquet", 3, 1, "x"),)
    whole = entry_bytes(Statistics.of(np.arange(6.0).reshape(3, 2)), files)
    for position in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            with suppress(BadEntry):
                read = read_entry(bytes(flipped), files)
                found = [one.tolist() for one in (read.total, read.scatter, read.low, read.high)]
                assert found == [[6.0, 9.0], [[8.0, 8.0], [8.0, 8.0]], [0.0, 1.0], [4.0, 5.0]]


def test_an_entry_is_of_one_content_of_its_file(table):
    """A file that was overwritten, against all rules, is noticed by its length or etag."""
    table.add(vectors(40, 1))
    table.add(vectors(40, 2))
    summed(table)
    uri, (images, _) = next(iter(table.files.items()))
    other = FeatureTable(table.name, count=table.count)
    other.add(vectors(40, 3), [key for key, _ in images])
    (moved,) = other.files
    write_bytes(uri, read_bytes(moved, REGION), REGION)
    table.files[uri] = (images, vectors(40, 3))

    found = summed(table)

    assert_exact(found.statistics, table.vectors)
    assert found.rejected[0].startswith(uri)
    assert "of other content than the data files have now" in found.rejected[0]


def test_the_second_day_computes_only_its_own_rows(table):
    """What was summed is not read again; a removal recomputes the one rewritten file."""
    table.add(vectors(100, 1))
    table.add(vectors(50, 2))
    summed(table)

    table.add(vectors(20, 3))
    added = summed(table)
    table.remove(np.arange(170) != 120)
    removed = summed(table)

    assert (added.loaded, added.computed) == (150, 20)
    assert (removed.loaded, removed.computed) == (120, 49)


def test_no_entry_holds_fewer_rows_than_features(table):
    """An entry of one image would be its vector; small files are computed each time instead."""
    for seed in range(5):
        table.add(vectors(1, seed))
    table.add(vectors(D, 9))
    found = summed(table)
    table.add(vectors(D + 1, 10))
    summed(table)
    names = {FileSet((file,)).name for file in table.data_files()[:-1]}

    assert_exact(found.statistics, table.vectors[: 5 + D])
    assert not names & opened(table).known


def test_entries_of_files_that_are_gone_go_too(table):
    """Sums of rows that were removed are not kept."""
    table.add(vectors(40, 1))
    table.add(vectors(40, 2))
    summed(table)
    before = opened(table).known
    table.remove(np.arange(80) >= 40)

    summed(table)

    assert len(before) >= 2
    assert {FileSet((file,)).name for file in table.data_files()} == opened(table).known


@given(count=st.integers(1, 300), gone=st.integers(0, 299), seed=SEEDS)
def test_sets_hold_every_file_once_and_change_little(count, gone, seed):
    """Of the sums over many files, one more or less leaves all but a few as they were."""
    files = [DataFile(f"s3://l/{seed}/{index:05d}.parquet", 10, 1, "e") for index in range(count)]
    sets = file_sets(files)
    known = {part.name for top in sets for part in top.walk()}
    others = files[:gone] + files[gone + 1 :] + [DataFile("s3://l/~.parquet", 5, 1, "e")]

    needed = terms(file_sets(others), known)

    assert sorted(f.uri for top in sets for f in top.files) == [file.uri for file in files]
    assert sorted(f.uri for part in needed for f in part.files) == sorted(f.uri for f in others)
    fresh = [part for part in needed if part.name not in known]
    assert [part.files[0].uri for part in fresh] == ["s3://l/~.parquet"]


def test_years_of_daily_files_are_few_sums():
    """Ten years of daily files are summed from some dozens of entries, not from 3,650."""
    counts = []
    for lake in range(5):
        files = [DataFile(f"s3://{lake}/{day:05d}.parquet", 10, 1, "e") for day in range(3650)]
        counts.append(len(file_sets(files)))

    assert max(counts) < 100


def test_a_missing_data_file_is_named(table):
    """A committed file that somebody deleted is an error, not fewer rows."""
    with pytest.raises(FileNotFoundError, match=r"fruits-lake/x\.parquet is gone"):
        identified([(f"{LAKE}/x.parquet", 3)], REGION)


def test_nan_names_file_image_and_way_out(table):
    """Whoever must repair the table knows where to look and what to do."""
    X = vectors(40, 1)
    X[20, 3] = np.inf
    table.add(X)
    (file,) = table.data_files()

    with pytest.raises(BadFeatures, match=r"'run/2/001-00020.jpg'.*Delete that row") as caught:
        file_statistics(file, REGION)
    assert caught.value.uri == file.uri


def test_other_rows_than_listed_are_refused(table):
    """Statistics of half a file would look like those of the whole."""
    table.add(vectors(40, 1))
    (uri,) = table.files

    with pytest.raises(RowsDiffer, match="listed with 41 rows, but has 40"):
        file_statistics(DataFile(uri, 41, 1, "e"), REGION)


def test_features_of_two_lengths_are_refused():
    """Vectors of two networks cannot be summed, and the message says how long they are."""
    with pytest.raises(WidthsDiffer, match="length 6 and of length 4"):
        Statistics.of(vectors(5, 1)) + Statistics.of(vectors(5, 1)[:, :4])


def test_an_entry_with_numbers_that_are_not_finite_is_damaged():
    """Checksums do not know what a number means."""
    files = (DataFile("s3://l/a.parquet", 10, 1, "e"),)
    good = Statistics.of(vectors(10, 1))
    bad = Statistics(10, good.total * np.nan, good.scatter, good.low, good.high)

    with pytest.raises(BadEntry, match="damaged"):
        read_entry(entry_bytes(bad, files), files)
    assert read_entry(entry_bytes(good, files), files).count == 10


def test_half_of_a_symmetric_matrix_travels():
    """Pickled and read again statistics are the same to the last bit, in little over half."""
    X = np.random.default_rng(0).normal(size=(200, 128)).astype(np.float32)
    sent = Statistics.of(X)

    data = pickle.dumps(sent)
    found = pickle.loads(data)

    assert found.count == sent.count
    assert all(
        np.array_equal(getattr(found, name), getattr(sent, name))
        for name in ("total", "scatter", "low", "high")
    )
    assert len(data) < 0.6 * sent.scatter.nbytes


def test_spark_sums_what_a_loop_sums(spark, table):
    """The workers' tree gives the same sum, stores the entries, and reads them the next time."""
    for seed in range(20):
        table.add(vectors(30, seed))
    done = spark.sparkContext.accumulator(0)

    first = cached_statistics(spark.sparkContext, table.data_files(), opened(table), done)
    second = cached_statistics(spark.sparkContext, table.data_files(), opened(table), done)

    for found in (first, second):
        assert_exact(found.statistics, table.vectors)
    assert (first.loaded, first.computed) == (0, 600)
    assert (second.loaded, second.computed) == (600, 0)
    assert done.value == 1200


def test_the_driver_adds_up_a_handful_whatever_the_number_of_tasks(spark, table, monkeypatch):
    """A sum has 7 MB for real features: a thousand of them would end the driver."""
    for seed in range(40):
        table.add(vectors(30, seed))
    added = []

    def add_here(one: Sum, other: Sum) -> Sum:
        added.append(None)  # a worker has a list of its own
        return one + other

    monkeypatch.setattr(statistics_cache, "SMALLEST_SHARE", 1)
    monkeypatch.setattr(statistics_cache, "PARTITIONS_PER_CORE", 20)
    monkeypatch.setattr(statistics_cache, "add", add_here)
    done = spark.sparkContext.accumulator(0)

    found = cached_statistics(spark.sparkContext, table.data_files(), opened(table), done)

    assert_exact(found.statistics, table.vectors)
    assert len(added) < 5
