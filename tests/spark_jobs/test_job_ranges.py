"""How manifests and tables are cut: everything once, nothing twice, no giant task."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits_jobs.ranges import (
    BYTES_PER_INFERENCE,
    LARGEST_TASK,
    SMALLEST_TASK,
    rows_per_file,
    task_ranges,
)
from fruits_jobs.read_ahead import read_ahead
from fruits_jobs.shares import file_parts

SIZES = st.lists(st.integers(0, 50_000_000), max_size=3000).map(np.array)


@given(sizes=SIZES, cores=st.integers(1, 64))
def test_ranges_cover_every_row_once_in_order(sizes, cores):
    """No image is forgotten and none is done twice, whatever the sizes."""
    ranges = task_ranges(sizes, cores)

    assert [row for r in ranges for row in range(r.start, r.stop)] == list(range(len(sizes)))
    assert all(len(r) for r in ranges)


@given(sizes=SIZES, cores=st.integers(1, 64))
def test_no_range_is_much_more_work_than_a_task_should_be(sizes, cores):
    """Progress moves and a retry is cheap: a task is bounded, but for one giant image."""
    work = sizes + BYTES_PER_INFERENCE

    for r in task_ranges(sizes, cores):
        limit = LARGEST_TASK * BYTES_PER_INFERENCE + work[r.start : r.stop].max()
        assert work[r.start : r.stop].sum() <= limit


def test_a_small_batch_still_uses_every_core():
    """The first tasks of 1,000 thumbnails on four cores leave work for the other three."""
    assert [len(r) for r in task_ranges(np.full(1000, 6000), cores=4)][:2] == [125, 109]


@given(cores=st.integers(1, 64), count=st.integers(200, 5000))
def test_the_last_tasks_are_small(cores, count):
    """At the end no core waits long for another: a last task is a fraction of a second."""
    ranges = task_ranges(np.full(count, 6000), cores)

    assert all(len(r) <= SMALLEST_TASK + 1 for r in ranges[-2:])


def test_large_photos_are_more_work_than_thumbnails():
    """Sixteen photos of 10 MB make several tasks where sixteen thumbnails make one."""
    assert len(task_ranges(np.full(16, 10_000_000), cores=4)) > 6
    assert len(task_ranges(np.full(16, 6000), cores=4)) == 1


@given(rows=st.integers(0, 10**7), floats=st.integers(1, 5000))
def test_files_are_of_equal_size_and_not_too_large(rows, floats):
    """Files have at most about 128 MB, and the last one is not a crumb."""
    size = rows_per_file(rows, floats)

    assert size >= 1
    assert size == 1 or size * (4 * floats + 200) <= 128 * 1024 * 1024
    files = -(-rows // size)
    assert rows - (files - 1) * size > size - files - 1 or files <= 1


@given(
    rows=st.lists(st.integers(1, 100_000), min_size=1, max_size=60), share=st.integers(500, 50_000)
)
def test_file_parts_are_each_in_exactly_one_share(rows, share):
    """Every part of every file is read by exactly one task."""
    files = [(f"s3://b/{index}", count) for index, count in enumerate(rows)]

    shares = file_parts(files, share)

    parts = [part for mine in shares for part in mine]
    assert len(set(parts)) == len(parts)
    for uri, _ in files:
        mine = [part for part in parts if part.uri == uri]
        assert [part.part for part in mine] == list(range(mine[0].parts))
    assert all(shares)


def test_small_files_are_grouped():
    """A year of daily batches of 100 images is a few tasks, not 365."""
    assert len(file_parts([(f"s3://b/{day}", 100) for day in range(365)], 8192)) <= 6


def test_reading_ahead_keeps_the_order():
    """A slow image does not swap places with its quicker neighbours."""

    def load(item: int) -> int:
        time.sleep(0.002 if item % 5 == 0 else 0)
        return item * 10

    assert list(read_ahead(load, range(50), lambda _: 1, 4, 10)) == [i * 10 for i in range(50)]


@given(
    sizes=st.lists(st.integers(1, 30), max_size=40),
    limit=st.integers(1, 60),
    readers=st.integers(1, 4),
)
def test_reading_ahead_never_holds_more_bytes_than_its_limit(sizes, limit, readers):
    """Large photos are read alone rather than together, so that memory is bounded."""
    held: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def load(size: int) -> int:
        with lock:
            held.append(size)
            most.append(sum(held))
        return size

    for size in read_ahead(load, sizes, lambda size: size, readers, limit):
        with lock:
            held.remove(size)

    assert all(peak <= max(limit, *sizes) for peak in most)


def test_the_first_error_ends_the_reading():
    """A task that cannot go on stops at once and does not read what nobody wants."""
    seen: list[int] = []

    def load(item: int) -> int:
        seen.append(item)
        if item == 3:
            raise ValueError("broken")
        return item

    with pytest.raises(ValueError, match="broken"):
        list(read_ahead(load, range(1000), lambda _: 1, 2, 10))
    assert len(seen) < 50
