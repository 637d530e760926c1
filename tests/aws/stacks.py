"""The stack as moto makes it: its outputs, and the policies that came of it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from moto.cloudformation.utils import yaml_tag_constructor
from moto.ec2.models.route_tables import RouteTable

from bootstrap.aws.template import TEMPLATE, load_template
from tests.aws import change_sets, evaluator

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-west-3"
ACCOUNT = "123456789012"
# moto knows Amazon's images by this kind of name, not Canonical's.
_UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
_AMAZON = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-x86_64"

Policy = dict[str, Any]


CONTENT = load_template()


class _Loader(getattr(yaml, "CLoader", yaml.Loader)):
    """Reads short forms as moto's loader does, by libyaml where PyYAML has it."""


_Loader.add_multi_constructor("", yaml_tag_constructor)


@dataclass(frozen=True)
class Call:
    """One request: IAM's *action* on *resource*, with what its conditions look at."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)
    region: str = REGION

    @property
    def keys(self) -> dict[str, str]:
        """Return all condition keys of the request: TLS, unless something else is said."""
        return {
            "aws:RequestedRegion": self.region,
            "aws:SecureTransport": "true",
            **self.context,
        }


@dataclass(frozen=True)
class Stack:
    """What a stack came to: outputs, and the policies of its roles by their logical ids."""

    outputs: dict[str, str]
    policies: dict[str, list[Policy]]
    key_policy: Policy
    endpoint_policy: Policy
    bucket_policies: dict[str, Policy]
    topic_policy: Policy
    role_arns: dict[str, str]

    @property
    def images(self) -> str:
        """ARN of the images bucket."""
        return f"arn:aws:s3:::{self.outputs['ImagesUri'].split('/')[2]}"

    @property
    def lake(self) -> str:
        """ARN of the lake bucket."""
        return f"arn:aws:s3:::{self.outputs['LakeUri'].split('/')[2]}"

    @property
    def key(self) -> str:
        """ARN of the key."""
        return self.outputs["LogKey"]

    @property
    def topic(self) -> str:
        """ARN of the topic of the alerts."""
        return self.outputs["AlertTopic"]

    def endpoint(self, role: str, call: Call) -> Policy | None:
        """Return the policy of the VPC endpoint that the call goes through, if it does."""
        return self.endpoint_policy if (role, call.action[:3]) == ("NodeRole", "s3:") else None

    def resource_policy(self, call: Call) -> Policy | None:
        """Return the policy of the resource that is asked for, if it is ours and has one."""
        if call.resource == self.key:
            return self.key_policy
        if call.resource == self.topic:
            return self.topic_policy
        return self.bucket_policies.get(call.resource.partition("/")[0])

    def answer(self, role: str, call: Call) -> str:
        """Return what IAM says to the *call* by *role*."""
        request = evaluator.Request(self.role_arns[role], call.action, call.resource, call.keys)
        return evaluator.evaluate(
            request,
            self.policies[role],
            endpoint=self.endpoint(role, call),
            resource=self.resource_policy(call),
            resource_must_allow=call.action.startswith("kms:"),
        )


@contextmanager
def empty_account() -> Iterator[None]:
    """Stand in for an empty account, whatever this process knows of endpoints."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_EMR"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "none")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        # moto makes route tables for CloudFormation and forgets to delete them.
        patch.setattr(
            RouteTable,
            "delete",
            lambda self, *_: self.ec2_backend.delete_route_table(self.id),
            raising=False,
        )
        # It reads the template several times for each stack.
        patch.setattr(yaml, "Loader", _Loader)
        change_sets.repair(patch)
        yield


def make_stack(**parameters: str) -> Stack:
    """Make the stack in the account of today and return what became of it."""
    cloudformation = boto3.client("cloudformation", REGION)
    given = {"NotificationAddress": "somebody@example.org", **parameters}
    cloudformation.create_stack(
        StackName="fruits",
        TemplateBody=for_moto(TEMPLATE.read_text()),
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
    buckets = {name: physical[name] for name in ("ImagesBucket", "LakeBucket")}
    return Stack(
        outputs=outputs,
        policies=policies,
        key_policy=_key_policy(outputs["LogKey"]),
        endpoint_policy=_endpoint_policy(physical["S3Endpoint"]),
        bucket_policies={
            f"arn:aws:s3:::{bucket}": _bucket_policy(name, bucket)
            for name, bucket in buckets.items()
        },
        topic_policy=_topic_policy(outputs["AlertTopic"]),
        role_arns={role: f"arn:aws:iam::{ACCOUNT}:role/{physical[role]}" for role in roles},
    )


def for_moto(template: str) -> str:
    """Return the template with an image that moto knows."""
    return template.replace(_UBUNTU, _AMAZON)


def _inline_policies(role: str) -> list[Policy]:
    iam = boto3.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [
        _parsed(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
        for name in names
    ]


def _managed_policy(arn: str) -> Policy:
    iam = boto3.client("iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
    return _parsed(document["Document"])


def _key_policy(arn: str) -> Policy:
    kms = boto3.client("kms", REGION)
    return _parsed(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])


def _bucket_policy(name: str, bucket: str) -> Policy:
    # moto makes no bucket policies of a stack: what the template says, with the bucket's ARN.
    (statement,) = CONTENT["Resources"][f"{name}Policy"]["Properties"]["PolicyDocument"][
        "Statement"
    ]
    arn = f"arn:aws:s3:::{bucket}"
    whole, objects = statement["Resource"]
    assert (whole, objects) == ({"Fn::GetAtt": f"{name}.Arn"}, {"Fn::Sub": f"${{{name}.Arn}}/*"})
    return {"Statement": [statement | {"Resource": [arn, f"{arn}/*"]}]}


def _topic_policy(arn: str) -> Policy:
    # Nor does it make those of topics.
    (statement,) = CONTENT["Resources"]["AlertsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Resource"] == {"Ref": "Alerts"}
    return {"Statement": [statement | {"Resource": arn}]}


def _endpoint_policy(endpoint: str) -> Policy:
    ec2 = boto3.client("ec2", REGION)
    described = ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"][0]
    return _parsed(described["PolicyDocument"])


def _parsed(document: Any) -> Policy:
    if not isinstance(document, str):
        return dict(document)
    try:
        return dict(json.loads(document))
    except ValueError:
        # moto keeps some of what came through CloudFormation as Python writes it.
        return dict(ast.literal_eval(document))
