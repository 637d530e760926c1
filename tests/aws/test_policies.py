"""What the roles may do: what a run does, and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.conftest import ACCOUNT, Call, Stack, verdicts

EMR = f"arn:aws:elasticmapreduce:eu-west-3:{ACCOUNT}:cluster/j-1"
GLUE = f"arn:aws:glue:eu-west-3:{ACCOUNT}"
OURS = {"elasticmapreduce:ResourceTag/fruits:token": "20261121T030000-1a2b3c4d"}
REQUESTED = {
    "elasticmapreduce:RequestTag/fruits:token": "20261121T030000-1a2b3c4d",
    "elasticmapreduce:RequestTag/for-use-with-amazon-emr-managed-policies": "true",
}
BY_EMR = {"iam:PassedToService": "elasticmapreduce.amazonaws.com"}
BY_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
BY_S3 = {"kms:ViaService": "s3.eu-west-3.amazonaws.com"}


def all_are(expected: str, stack: Stack, role: str, calls: list[Call], tools: Path) -> None:
    """Assert that each call gets the answer *expected*: Allowed, or any kind of Denied."""
    found = zip(calls, verdicts(stack, role, calls, tools), strict=True)
    wrong = [(call.action, call.resource, call.context, is_) for call, is_ in found]
    assert [entry for entry in wrong if not entry[-1].endswith(expected)] == []


def test_airflow_may_do_what_a_run_does(stack: Stack, tools: Path) -> None:
    """Sensing, staging, leases, tables, the cluster's whole life."""
    calls = [
        Call("s3:ListBucket", stack.images),
        Call("s3:ListBucket", stack.lake),
        *(
            Call(f"s3:{verb}Object", f"{stack.lake}/{key}")
            for verb in ("Get", "Put")
            for key in ("manifests/b/added.parquet", "leases/t.json", "tables/features/metadata/1")
        ),
        Call("s3:PutObject", f"{stack.lake}/jobs/1/pca.py"),
        Call("s3:DeleteObject", f"{stack.lake}/tables/features/data/x.parquet"),
        Call("kms:Decrypt", stack.outputs["LogKey"], BY_S3),
        Call("kms:GenerateDataKey", stack.outputs["LogKey"], BY_S3),
        Call("glue:CreateDatabase", f"{GLUE}:database/fruits"),
        Call("glue:CreateTable", f"{GLUE}:table/fruits/features"),
        Call("glue:GetTable", f"{GLUE}:table/fruits/features"),
        Call("glue:UpdateTable", f"{GLUE}:table/fruits/features"),
        Call("elasticmapreduce:ListClusters", "*"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED),
        Call("elasticmapreduce:AddTags", EMR, REQUESTED),
        Call("elasticmapreduce:DescribeCluster", EMR),
        *(
            Call(f"elasticmapreduce:{action}", EMR, OURS)
            for action in ("AddJobFlowSteps", "ListSteps", "DescribeStep", "CancelSteps")
        ),
        Call("elasticmapreduce:SetTerminationProtection", EMR, OURS),
        Call("elasticmapreduce:TerminateJobFlows", EMR, OURS),
        Call("iam:PassRole", stack.role_arns["ServiceRole"], BY_EMR),
        Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2),
    ]

    all_are("Allowed", stack, "AirflowRole", calls, tools)


def test_airflow_may_do_nothing_else(stack: Stack, tools: Path) -> None:
    """Other buckets, regions, roles, keys and tables, untagged clusters: denied."""
    elsewhere = {"region": "us-east-1"}
    calls = [
        Call("s3:GetObject", "arn:aws:s3:::somebody-elses/x"),
        Call("s3:ListBucket", "arn:aws:s3:::somebody-elses"),
        Call("s3:PutObject", "arn:aws:s3:::somebody-elses/x"),
        Call("s3:PutObject", f"{stack.images}/x.jpg"),
        Call("s3:DeleteObject", f"{stack.images}/x.jpg"),
        Call("s3:GetObject", f"{stack.lake}/security/certificates.zip"),
        Call("s3:DeleteBucket", stack.lake),
        Call("s3:GetObject", f"{stack.lake}/jobs/x", **elsewhere),
        Call("kms:Decrypt", stack.outputs["LogKey"], {"kms:ViaService": "ec2.eu-west-3.x"}),
        Call("kms:Decrypt", f"arn:aws:kms:eu-west-3:{ACCOUNT}:key/other", BY_S3),
        Call("kms:ScheduleKeyDeletion", stack.outputs["LogKey"]),
        Call("glue:GetTable", f"{GLUE}:table/other/features"),
        Call("glue:DeleteTable", f"{GLUE}:table/fruits/features"),
        Call("elasticmapreduce:RunJobFlow", "*"),
        Call("elasticmapreduce:RunJobFlow", "*", {**REQUESTED, **_without_token()}),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED, "eu-west-2"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED, "us-east-1"),
        Call("elasticmapreduce:ListClusters", "*", **elsewhere),
        Call("elasticmapreduce:TerminateJobFlows", EMR),
        Call("elasticmapreduce:TerminateJobFlows", EMR, _other_tag()),
        Call("elasticmapreduce:AddJobFlowSteps", EMR),
        Call("elasticmapreduce:SetTerminationProtection", EMR),
        Call("elasticmapreduce:AddTags", EMR),
        Call("elasticmapreduce:RemoveTags", EMR, OURS),
        Call("elasticmapreduce:ModifyInstanceFleet", EMR, OURS),
        Call("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", BY_EMR),
        Call("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", BY_EC2),
        Call("iam:PassRole", stack.role_arns["NodeRole"], {"iam:PassedToService": "lambda.x"}),
        Call("iam:PassRole", stack.role_arns["ServiceRole"], BY_EC2),
        Call("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/x"),
        Call("ec2:RunInstances", f"arn:aws:ec2:eu-west-3:{ACCOUNT}:instance/*"),
        Call("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin"),
    ]

    all_are("Denied", stack, "AirflowRole", calls, tools)


def test_nodes_may_do_what_steps_do(stack: Stack, tools: Path) -> None:
    """Read images and the lake, write what an attempt writes, logs and the model."""
    calls = [
        Call("s3:GetObject", f"{stack.images}/Apple/1.jpg"),
        Call("s3:ListBucket", stack.images),
        Call("s3:ListBucket", stack.lake),
        *(
            Call("s3:GetObject", f"{stack.lake}/{key}")
            for key in (
                *("jobs/1/pca.py", "wheelhouses/1/pip.whl", "bootstrap/1/limit_lifetime.sh"),
                *("weights/1/w.h5", "networks/m.onnx", "security/certificates.zip"),
                *("manifests/b/added.parquet", "tables/features/data/b/1/x.parquet"),
            )
        ),
        *(
            Call("s3:PutObject", f"{stack.lake}/{key}")
            for key in (
                *("tables/features/data/b/1/x.parquet", "tables/quarantine/data/b/1/x.parquet"),
                *("attempts/b/pca-1/result.json", "models/pca/1/pca.npz", "models_$folder$"),
                *("logs/j-1/steps/s-1/stderr.gz",),
            )
        ),
        Call("s3:DeleteObject", f"{stack.lake}/models/pca/1/PCAModel/_temporary/0"),
        Call("kms:Decrypt", stack.outputs["LogKey"]),
        Call("kms:GenerateDataKey", stack.outputs["LogKey"]),
    ]

    all_are("Allowed", stack, "NodeRole", calls, tools)


def test_nodes_may_do_nothing_else(stack: Stack, tools: Path) -> None:
    """A step cannot change images, jobs, wheels or committed metadata, nor make machines."""
    calls = [
        Call("s3:PutObject", f"{stack.images}/x.jpg"),
        Call("s3:DeleteObject", f"{stack.images}/x.jpg"),
        *(
            Call("s3:PutObject", f"{stack.lake}/{key}")
            for key in (
                *("jobs/1/pca.py", "wheelhouses/1/pip.whl", "bootstrap/1/limit_lifetime.sh"),
                *("tables/features/metadata/1.json", "leases/t.json", "security/x"),
            )
        ),
        Call("s3:DeleteObject", f"{stack.lake}/tables/features/data/b/1/x.parquet"),
        Call("s3:GetObject", "arn:aws:s3:::somebody-elses/x"),
        Call("kms:Decrypt", f"arn:aws:kms:eu-west-3:{ACCOUNT}:key/other"),
        Call("glue:GetTable", f"{GLUE}:table/fruits/features"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED),
        Call("elasticmapreduce:TerminateJobFlows", EMR, OURS),
        Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2),
    ]

    all_are("Denied", stack, "NodeRole", calls, tools)


def test_emr_passes_the_nodes_role_alone(stack: Stack, tools: Path) -> None:
    """AWS's managed policy leaves PassRole to us."""
    passed = [Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2)]
    refused = [
        Call("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", BY_EC2),
        Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EMR),
        Call("kms:CreateGrant", stack.outputs["LogKey"]),
    ]

    all_are("Allowed", stack, "ServiceRole", passed, tools)
    all_are("Denied", stack, "ServiceRole", refused, tools)


@pytest.mark.parametrize("role", ["ServiceRole", "NodeRole", "AirflowRole"])
def test_each_statement_names_its_resources(stack: Stack, role: str) -> None:
    """`*` stands only where there is nothing to name, or in a denial."""
    statements = [s for policy in stack.policies[role] for s in policy["Statement"]]

    unnamed = [s["Sid"] for s in statements if s["Effect"] == "Allow" and s["Resource"] == "*"]

    # IAM knows no resource for these two.
    creating = ["CreateTaggedClusters", "ListClusters"]
    assert unnamed == (creating if role == "AirflowRole" else [])


def _without_token() -> dict[str, str]:
    return {"elasticmapreduce:RequestTag/fruits:token": ""}


def _other_tag() -> dict[str, str]:
    return {"elasticmapreduce:ResourceTag/team": "somebody else's"}
