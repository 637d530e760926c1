"""What the fork server does once, so that each process forked from it need not: slow first uses."""

from __future__ import annotations

import boto3
import obstore
import pyarrow.dataset
from pyiceberg.catalog.sql import SqlCatalog

SqlCatalog("warm", uri="sqlite:///:memory:", warehouse="file:///nowhere")
boto3.client("s3", region_name="eu-west-3", aws_access_key_id="x", aws_secret_access_key="x")
__all__ = ["obstore", "pyarrow"]
