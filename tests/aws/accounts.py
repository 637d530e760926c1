"""What is in the account that moto stands in for."""

from __future__ import annotations

from collections.abc import Callable

import boto3

from tests.aws.stacks import ACCOUNT, REGION

IMAGES = f"fruits-images-{ACCOUNT}-{REGION}"
LAKE = f"fruits-lake-{ACCOUNT}-{REGION}"
Command = Callable[..., tuple[int, str]]


def stacks() -> list[str]:
    """Return the names of the account's stacks that are not deleted."""
    cloudformation = boto3.client("cloudformation", REGION)
    return [one["StackName"] for one in cloudformation.describe_stacks()["Stacks"]]


def buckets() -> set[str]:
    """Return the names of the account's buckets."""
    return {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}
