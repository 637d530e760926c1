"""What a recorded run asked of AWS, as questions to IAM about the stack's roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.aws.calls import BY_EC2, BY_EMR, BY_S3
from tests.aws.stacks import ACCOUNT, REGION, Call, Stack
from tests.end_to_end.recorded_cloud import RecordedCloud, Seen, emr_calls, s3_calls

CLUSTERS = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster"
Tags = Mapping[str, str]


def airflow_calls(
    stack: Stack, cloud: RecordedCloud, tags_of: Callable[[str], Tags]
) -> Iterator[Call]:
    """Yield what Airflow's side asked for; *tags_of* tells the tags of a cluster."""
    yield from _s3(stack, cloud.s3.seen, BY_S3)
    for operation, given in emr_calls(cloud.requests.seen):
        if operation == "RunJobFlow":
            yield from _creation(stack, given)
            continue
        ids = [given.get("JobFlowId") or given.get("ClusterId"), *given.get("JobFlowIds", [])]
        for cluster in filter(None, ids):
            context = {f"elasticmapreduce:ResourceTag/{k}": v for k, v in tags_of(cluster).items()}
            yield Call(f"elasticmapreduce:{operation}", f"{CLUSTERS}/{cluster}", context)
        if not any(ids):
            yield Call(f"elasticmapreduce:{operation}", "*")


def node_calls(stack: Stack, cloud: RecordedCloud) -> Iterator[Call]:
    """Yield what the steps asked for; what Hadoop writes goes past the recorder."""
    return _s3(stack, cloud.nodes.seen, {})


def _s3(stack: Stack, seen: set[Seen], by: Tags) -> Iterator[Call]:
    buckets = {"fruits-images": stack.images, "fruits-lake": stack.lake}
    for action, bucket, key in s3_calls(seen):
        whole = buckets[bucket]
        if action == "s3:DeleteObject" and not key:
            key = "tables/features/data/x.parquet"  # noqa: PLW2901  (named in the request's body)
        yield Call(action, f"{whole}/{key}" if key else whole)
    yield Call("kms:Decrypt", stack.key, dict(by))
    yield Call("kms:GenerateDataKey", stack.key, dict(by))


def _creation(stack: Stack, given: dict[str, Any]) -> Iterator[Call]:
    tags = {f"elasticmapreduce:RequestTag/{tag['Key']}": tag["Value"] for tag in given["Tags"]}
    yield Call("elasticmapreduce:RunJobFlow", "*", tags)
    yield Call("elasticmapreduce:AddTags", f"{CLUSTERS}/j-1", tags)
    yield Call("elasticmapreduce:PutAutoTerminationPolicy", f"{CLUSTERS}/j-1")
    # On AWS the settings name the stack's roles.
    assert {"ServiceRole", "JobFlowRole"} <= given.keys()
    yield Call("iam:PassRole", stack.role_arns["ServiceRole"], BY_EMR)
    yield Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2)
