"""What each role has to be allowed, and what it must not be."""

from __future__ import annotations

from tests.aws.stacks import ACCOUNT, Call, Stack

EMR = f"arn:aws:elasticmapreduce:eu-west-3:{ACCOUNT}:cluster/j-1"
# What AWS names where a creation is refused.
NEW = f"arn:aws:elasticmapreduce:eu-west-3:{ACCOUNT}:cluster/*"
GLUE = f"arn:aws:glue:eu-west-3:{ACCOUNT}"
TOKEN = "20261121T030000-1a2b3c4d"
OURS = {"elasticmapreduce:ResourceTag/fruits:token": TOKEN}
REQUESTED = {
    "elasticmapreduce:RequestTag/fruits:token": TOKEN,
    "elasticmapreduce:RequestTag/for-use-with-amazon-emr-managed-policies": "true",
}
BY_EMR = {"iam:PassedToService": "elasticmapreduce.amazonaws.com"}
BY_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
BY_S3 = {"kms:ViaService": "s3.eu-west-3.amazonaws.com"}
BY_SNS = {"kms:ViaService": "sns.eu-west-3.amazonaws.com"}
Calls = dict[str, list[Call]]


def allowed(stack: Stack) -> Calls:
    """Return by role what it does, or what EMR does in its name."""
    return {
        "AirflowRole": _airflow_does(stack),
        "NodeRole": _nodes_do(stack),
        "ServiceRole": [Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2)],
    }


def denied(stack: Stack) -> Calls:
    """Return by role what somebody might do who has got hold of it."""
    return {
        "AirflowRole": _airflow_must_not(stack),
        "NodeRole": _nodes_must_not(stack),
        "ServiceRole": [
            Call("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", BY_EC2),
            Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EMR),
            Call("kms:CreateGrant", stack.key),
            Call("sns:Publish", stack.topic),
        ],
    }


def undecided() -> Calls:
    """Return by role what no run does, and what IAM cannot tell from what one does."""
    return {
        "AirflowRole": [
            Call("elasticmapreduce:AddTags", EMR, REQUESTED),
            Call("elasticmapreduce:AddTags", EMR, REQUESTED | _other_tag()),
        ],
        "NodeRole": [],
        "ServiceRole": [],
    }


def _airflow_does(stack: Stack) -> list[Call]:
    written = (
        *("manifests/b/added.parquet", "leases/t.1.json", "ledger/2026-11/t.1.json"),
        "ledger/last_look.json",
    )
    tables = ("tables/features/metadata/1.json", "tables/features/data/x.parquet")
    return [
        Call("s3:ListBucket", stack.images),
        Call("s3:ListBucket", stack.lake),
        *(
            Call(f"s3:{verb}Object", f"{stack.lake}/{key}")
            for verb in ("Get", "Put", "Delete")
            for key in (*written, *tables)
        ),
        Call("s3:PutObject", f"{stack.lake}/jobs/1/pca.py"),
        Call("kms:Decrypt", stack.key, BY_S3),
        Call("kms:GenerateDataKey", stack.key, BY_S3),
        Call("sns:Publish", stack.topic),
        Call("kms:Decrypt", stack.key, BY_SNS),
        Call("kms:GenerateDataKey", stack.key, BY_SNS),
        Call("kms:GenerateDataKeyWithoutPlaintext", stack.key, BY_SNS),
        Call("glue:CreateDatabase", f"{GLUE}:database/fruits"),
        Call("glue:CreateTable", f"{GLUE}:table/fruits/features"),
        Call("glue:GetTable", f"{GLUE}:table/fruits/features"),
        Call("glue:UpdateTable", f"{GLUE}:table/fruits/features"),
        Call("elasticmapreduce:ListClusters", "*"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED),
        Call("elasticmapreduce:AddTags", NEW, REQUESTED),
        Call("elasticmapreduce:PutAutoTerminationPolicy", EMR),
        *(
            Call(f"elasticmapreduce:{action}", EMR)
            for action in ("DescribeCluster", "DescribeStep", "ListSteps", "ListInstances")
        ),
        *(Call(f"elasticmapreduce:{action}", EMR, OURS) for action in DRIVING),
        Call("iam:PassRole", stack.role_arns["ServiceRole"], BY_EMR),
        Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2),
    ]


DRIVING = (
    "AddJobFlowSteps",
    "CancelSteps",
    "SetKeepJobFlowAliveWhenNoSteps",
    "SetTerminationProtection",
    "TerminateJobFlows",
)


def _airflow_must_not(stack: Stack) -> list[Call]:
    elsewhere = {"region": "us-east-1"}
    admin = f"arn:aws:iam::{ACCOUNT}:role/admin"
    return [
        Call("s3:GetObject", "arn:aws:s3:::somebody-elses/x"),
        Call("s3:ListBucket", "arn:aws:s3:::somebody-elses"),
        Call("s3:PutObject", "arn:aws:s3:::somebody-elses/x"),
        Call("s3:PutObject", f"{stack.images}/x.jpg"),
        Call("s3:DeleteObject", f"{stack.images}/x.jpg"),
        Call("s3:GetObject", f"{stack.lake}/security/certificates.zip"),
        Call("s3:DeleteBucket", stack.lake),
        Call("s3:GetObject", f"{stack.lake}/jobs/x", **elsewhere),
        Call("s3:GetObject", f"{stack.lake}/jobs/x", {"aws:SecureTransport": "false"}),
        Call("kms:Decrypt", stack.key, {"kms:ViaService": "ec2.eu-west-3.x"}),
        Call("kms:Decrypt", f"arn:aws:kms:eu-west-3:{ACCOUNT}:key/other", BY_S3),
        Call("kms:ScheduleKeyDeletion", stack.key),
        Call("sns:Publish", f"{stack.topic}-of-others"),
        Call("sns:Publish", stack.topic, {"aws:SecureTransport": "false"}),
        Call("sns:Publish", stack.topic, **elsewhere),
        Call("sns:Subscribe", stack.topic),
        Call("sns:DeleteTopic", stack.topic),
        Call("glue:GetTable", f"{GLUE}:table/other/features"),
        Call("glue:DeleteTable", f"{GLUE}:table/fruits/features"),
        Call("elasticmapreduce:RunJobFlow", "*"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED | _without_token()),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED, "eu-west-2"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED, "us-east-1"),
        Call("elasticmapreduce:ListClusters", "*", **elsewhere),
        *(Call(f"elasticmapreduce:{action}", EMR) for action in DRIVING),
        *(Call(f"elasticmapreduce:{action}", EMR, _other_tag()) for action in DRIVING),
        Call("elasticmapreduce:AddTags", EMR),
        Call("elasticmapreduce:AddTags", EMR, OURS),
        Call("elasticmapreduce:AddTags", EMR, REQUESTED | _without_token()),
        Call("elasticmapreduce:RemoveTags", EMR, OURS),
        Call("elasticmapreduce:ModifyInstanceFleet", EMR, OURS),
        Call("iam:PassRole", admin, BY_EMR),
        Call("iam:PassRole", admin, BY_EC2),
        Call("iam:PassRole", stack.role_arns["NodeRole"], {"iam:PassedToService": "lambda.x"}),
        Call("iam:PassRole", stack.role_arns["ServiceRole"], BY_EC2),
        Call("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/x"),
        Call("ec2:RunInstances", f"arn:aws:ec2:eu-west-3:{ACCOUNT}:instance/*"),
        Call("sts:AssumeRole", admin),
    ]


def _nodes_do(stack: Stack) -> list[Call]:
    read = (
        *("jobs/1/pca.py", "wheelhouses/1/pip.whl", "bootstrap/1/limit_lifetime.sh"),
        *("weights/1/w.h5", "networks/m.parts.tflite", "security/certificates.zip"),
        *("manifests/b/added.parquet", "tables/features/data/b/1/x.parquet"),
    )
    written = (
        *("tables/features/data/b/1/x.parquet", "tables/quarantine/data/b/1/x.parquet"),
        *("attempts/b/pca-1/result.json", "models/pca/1/pca.npz", "models_$folder$"),
        *("statistics/m/1.npz", "logs/j-1/steps/s-1/stderr.gz"),
    )
    return [
        Call("s3:GetObject", f"{stack.images}/Apple/1.jpg"),
        Call("s3:ListBucket", stack.images),
        Call("s3:ListBucket", stack.lake),
        *(Call("s3:GetObject", f"{stack.lake}/{key}") for key in read),
        *(Call("s3:PutObject", f"{stack.lake}/{key}") for key in written),
        Call("s3:DeleteObject", f"{stack.lake}/models/pca/1/PCAModel/_temporary/0"),
        # Statistics of data files that are gone.
        Call("s3:DeleteObject", f"{stack.lake}/statistics/m/1.npz"),
        Call("kms:Decrypt", stack.key),
        Call("kms:GenerateDataKey", stack.key),
    ]


def _nodes_must_not(stack: Stack) -> list[Call]:
    kept = (
        *("jobs/1/pca.py", "wheelhouses/1/pip.whl", "bootstrap/1/limit_lifetime.sh"),
        *("tables/features/metadata/1.json", "leases/t.1.json", "ledger/2026-11/t.1.json"),
        *("erasures/1.json", "security/x", "ledger/last_look.json"),
    )
    return [
        Call("s3:PutObject", f"{stack.images}/x.jpg"),
        Call("s3:DeleteObject", f"{stack.images}/x.jpg"),
        *(Call("s3:PutObject", f"{stack.lake}/{key}") for key in kept),
        Call("s3:DeleteObject", f"{stack.lake}/tables/features/data/b/1/x.parquet"),
        Call("s3:GetObject", "arn:aws:s3:::somebody-elses/x"),
        Call("kms:Decrypt", f"arn:aws:kms:eu-west-3:{ACCOUNT}:key/other"),
        Call("glue:GetTable", f"{GLUE}:table/fruits/features"),
        Call("elasticmapreduce:RunJobFlow", "*", REQUESTED),
        Call("elasticmapreduce:TerminateJobFlows", EMR, OURS),
        Call("sns:Publish", stack.topic),
        Call("iam:PassRole", stack.role_arns["NodeRole"], BY_EC2),
    ]


def _without_token() -> dict[str, str]:
    return {"elasticmapreduce:RequestTag/fruits:token": ""}


def _other_tag() -> dict[str, str]:
    return {"elasticmapreduce:ResourceTag/team": "somebody else's"}
