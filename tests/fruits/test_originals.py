"""An image goes with all its versions, where the bucket keeps versions."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from mypy_boto3_s3 import S3Client

from fruits.originals import delete_originals
from local_cloud.s3 import ObjectStorage
from tests.aws.stacks import REGION, empty_account


@pytest.fixture
def versioned() -> Iterator[S3Client]:
    """Return a client of an account whose bucket keeps old versions, as the stack's does."""
    with empty_account():
        s3 = boto3.client("s3", REGION)
        s3.create_bucket(Bucket="images", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket="images", VersioningConfiguration={"Status": "Enabled"})
        yield s3


def test_no_version_is_left(versioned: S3Client) -> None:
    """Replaced, deleted and put again: four versions and markers go, a longer key stays."""
    for body in (b"1", b"2"):
        versioned.put_object(Bucket="images", Key="Apple/1.jpg", Body=body)
    versioned.delete_object(Bucket="images", Key="Apple/1.jpg")
    versioned.put_object(Bucket="images", Key="Apple/1.jpg", Body=b"3")
    versioned.put_object(Bucket="images", Key="Apple/1.jpg.copy.jpg", Body=b"4")

    assert delete_originals("images", ["Apple/1.jpg"]) == 4

    left = versioned.list_object_versions(Bucket="images")
    assert [version["Key"] for version in left["Versions"]] == ["Apple/1.jpg.copy.jpg"]
    assert "DeleteMarkers" not in left


def test_a_store_without_versions_will_do(storage: ObjectStorage) -> None:
    """Where there is one object per key, it goes; where there is none, nothing does."""
    images = storage.folder / "fruits-images"
    (images / "1.jpg").write_bytes(b"1")

    assert delete_originals("fruits-images", ["1.jpg", "2.jpg"]) == 1
    assert not (images / "1.jpg").exists()
