"""The first photograph of a lake is broken: nobody's first night is to be a failure."""

from __future__ import annotations

from fruits.lake import open_catalog, open_table, read
from tests.end_to_end.cloud_batches import CloudBatches


def test_a_lake_may_begin_with_a_broken_photograph(batches: CloudBatches) -> None:
    """It becomes a row with its reason; PCA, which has nothing to reduce, is left out."""
    label = batches.images / "Apple"
    label.mkdir(parents=True)
    (label / "cut off.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")

    done = batches.run()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is nothing to reduce" in done.stdout
    assert batches.report()["outcome"] == "success"
    (row,) = batches.rows("quarantine").to_pylist()
    assert row["image_key"] == "fruits/Apple/cut off.jpg"
    assert open_table("features").current_snapshot() is None
    assert not read("components", open_catalog()).to_arrow().num_rows
