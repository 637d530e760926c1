"""Where buckets and tables are; a run begins only if that is where it and its steps expect them."""

from __future__ import annotations

from pyiceberg.catalog import Catalog

from fruits.errors import FruitsError
from fruits.lake import SCHEMAS, open_table
from fruits.objects import bucket_region
from fruits.settings import EU_REGIONS, Settings


class ForeignBucketError(FruitsError):
    """A bucket is in another region; fields: bucket, region, expected."""

    bucket: str
    region: str
    expected: str


class MisplacedTableError(FruitsError):
    """A table is not in this lake; fields: table, location, expected."""

    table: str
    location: str
    expected: str


def require_region(settings: Settings) -> None:
    """Raise ForeignBucketError unless both buckets are in the region of the settings.

    S3's clients follow a bucket to whatever continent it is on. A store that does not say where a
    bucket is, as that of the local cloud, is believed.
    """
    for uri in (settings.images_uri, settings.lake):
        bucket, region = bucket_region(uri)
        if region in (None, settings.region):
            continue
        raise ForeignBucketError(
            f"s3://{bucket} is in {region}, and FRUITS_REGION is {settings.region}.",
            "Nothing was read or written. "
            + (
                f"Set FRUITS_REGION={region} if both buckets are there."
                if region in EU_REGIONS
                else "Data is to stay in the EU: name a bucket that is there."
            ),
            bucket=bucket,
            region=region,
            expected=settings.region,
        )


def require_tables(catalog: Catalog, lake: str) -> None:
    """Raise MisplacedTableError unless every table is where the steps of *lake* write its files.

    Otherwise what is deleted would be looked for in one place and deleted in another.
    """
    for name in SCHEMAS:
        location = open_table(name, catalog).location().rstrip("/")
        expected = f"{lake}/tables/{name}"
        if location != expected:
            raise MisplacedTableError(
                f"The catalog has the table {name} at {location}, and the lake's is {expected}.",
                "Nothing was changed. Let FRUITS_LAKE_URI and PYICEBERG_CATALOG__FRUITS__WAREHOUSE "
                "(the lake's URI with /tables) name the same lake, and the catalog be that lake's.",
                table=name,
                location=location,
                expected=expected,
            )
