"""The environment in which clients on this machine find a local S3, and PyIceberg its catalog."""

from __future__ import annotations

from pathlib import Path

from local_cloud.s3 import ACCESS_KEY, SECRET_KEY

REGION = "eu-west-3"


def s3_variables(endpoint_url: str) -> dict[str, str]:
    """Return the variables by which S3 clients (boto3, obstore, Arrow) use *endpoint_url*."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def catalog_variables(endpoint_url: str, folder: Path) -> dict[str, str]:
    """Return the variables of PyIceberg's catalog: *folder*/catalog.db, its files in that S3."""
    known = {
        "TYPE": "sql",
        "URI": f"sqlite:///{folder / 'catalog.db'}",
        "WAREHOUSE": "s3://fruits-lake/tables",
        "S3__ENDPOINT": endpoint_url,
        "S3__ACCESS_KEY_ID": ACCESS_KEY,
        "S3__SECRET_ACCESS_KEY": SECRET_KEY,
        "S3__REGION": REGION,
    }
    return {f"PYICEBERG_CATALOG__FRUITS__{name}": value for name, value in known.items()}
