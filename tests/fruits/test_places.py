"""Buckets elsewhere, tables elsewhere, and a catalog that was lost: refused before any change."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from moto import mock_aws
from pyiceberg.catalog import Catalog, load_catalog

from fruits.erasures import erase
from fruits.errors import LostTableError
from fruits.lake import ensure_tables, open_table
from fruits.objects import list_uris
from fruits.places import (
    ForeignBucketError,
    MisplacedTableError,
    require_region,
    require_tables,
)
from fruits.settings import Settings
from fruits.sweeps import sweep
from tests.fruits.lake_support import LAKE, ingest, put

KEY = "Apple/1.jpg"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let S3's clients find moto's AWS, which says where its buckets are."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("images", "lake", "bucket", "way_out"),
    [
        ("us-east-1", "eu-west-3", "images", "name a bucket that is there"),
        ("eu-west-3", "us-west-2", "lake", "name a bucket that is there"),
        ("eu-central-1", "eu-west-3", "images", "Set FRUITS_REGION=eu-central-1"),
    ],
)
@pytest.mark.usefixtures("aws")
def test_a_bucket_elsewhere_is_refused(images: str, lake: str, bucket: str, way_out: str) -> None:
    """S3's clients would follow it there, and features would be written out of the union."""
    with mock_aws():
        make_bucket("images", images)
        make_bucket("lake", lake)

        with pytest.raises(ForeignBucketError, match=way_out) as refused:
            require_region(Settings(images_uri="s3://images/", lake_uri="s3://lake/a folder"))

    assert refused.value.bucket == bucket


@pytest.mark.usefixtures("aws")
def test_buckets_in_the_region_are_taken() -> None:
    """Both are where the settings say."""
    with mock_aws():
        make_bucket("images", "eu-west-3")
        make_bucket("lake", "eu-west-3")

        require_region(Settings(images_uri="s3://images/", lake_uri="s3://lake"))


def make_bucket(name: str, region: str) -> None:
    """Make a bucket in the region."""
    where = {} if region == "us-east-1" else {"LocationConstraint": region}
    options = {"CreateBucketConfiguration": where} if where else {}
    boto3.client("s3", region_name=region).create_bucket(Bucket=name, **options)  # type: ignore[arg-type]


def test_a_lost_catalog_costs_no_file(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention would take the files of the tables that nobody knows for rubbish."""
    put(KEY)
    ingest(catalog, "b1")
    before = list_uris(f"{LAKE}/")
    monkeypatch.setenv("PYICEBERG_CATALOG__FRUITS__URI", f"sqlite:///{tmp_path / 'another.db'}")

    with pytest.raises(LostTableError, match="A lost catalog") as lost:
        sweep(Settings(retention_days=2))

    assert lost.value.table == "features"
    assert list_uris(f"{LAKE}/") == before


def test_an_empty_table_of_a_lost_catalog_is_in_nobodys_way(
    catalog: Catalog, tmp_path: Path
) -> None:
    """A lake in which nothing was committed yet has nothing to lose."""
    another = load_catalog(
        "fruits", **catalog.properties | {"uri": f"sqlite:///{tmp_path / 'another.db'}"}
    )

    ensure_tables(another)

    assert open_table("features", another).current_snapshot() is None


def test_tables_of_another_lake_are_left_alone(catalog: Catalog) -> None:
    """What is rubbish there would be deleted here, and the receipt would say that it is gone."""
    boto3.client("s3").create_bucket(
        Bucket="another-lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
    )
    settings = Settings(lake_uri="s3://another-lake")
    require_tables(catalog, LAKE)

    with pytest.raises(MisplacedTableError, match="name the same lake"):
        sweep(settings)
    with pytest.raises(MisplacedTableError):
        erase(settings, [KEY])
