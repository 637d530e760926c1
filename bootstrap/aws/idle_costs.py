"""What the stack costs a month while nothing runs: a line for each resource that costs by standing.

Prices are in USD and upper bounds over the allowed regions, as of March 2025: an interface endpoint
is 0.011 to 0.012 an hour there, a public IPv4 address 0.005 everywhere. What is used costs besides:
clusters (docs/costs.md), requests and storage of S3 (about 0.024 a GB and month), KMS requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HOURS = 730  # AWS's month
KEY = 1.0
ENDPOINT_HOUR = 0.012
ADDRESS_HOUR = 0.005
GP3_GB = 0.0952
DETAILED_MONITORING = 2.1  # seven metrics
INSTANCE_HOURS = {
    "t3.medium": 0.048,
    "t3.large": 0.096,
    "t3.xlarge": 0.192,
}
# Resources that cost nothing by themselves.
FREE = frozenset(
    {
        *("AWS::Budgets::Budget", "AWS::EMR::SecurityConfiguration", "AWS::Glue::Database"),
        *("AWS::IAM::InstanceProfile", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"),
        *("AWS::EC2::InternetGateway", "AWS::EC2::Route", "AWS::EC2::RouteTable"),
        *("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::Subnet"),
        *("AWS::EC2::SubnetRouteTableAssociation", "AWS::EC2::VPC"),
        *("AWS::EC2::VPCGatewayAttachment", "AWS::KMS::Alias"),
        *("AWS::S3::Bucket", "AWS::S3::BucketPolicy"),  # empty ones; storage is by use
        *("AWS::SNS::Topic", "AWS::SNS::TopicPolicy"),  # mails are by use, a thousand a month free
    }
)


@dataclass(frozen=True)
class IdleCost:
    """What one resource costs a month, in USD, and how that comes about."""

    resource: str
    monthly: float
    reason: str


def idle_costs(
    resources: Mapping[str, Mapping[str, Any]], instance_type: str = "t3.large"
) -> list[IdleCost]:
    """Return the costs of *resources* (the stack's, by logical id) that cost by standing.

    Raises KeyError for a kind of resource that nobody said the price of, or *instance_type*.
    """
    found = []
    for name, resource in resources.items():
        if resource["Type"] in FREE:
            continue
        monthly, reason = PRICED[resource["Type"]](resource["Properties"], instance_type)
        if monthly:
            found.append(IdleCost(name, round(monthly, 2), reason))
    return found


def _key(_: Mapping[str, Any], __: str) -> tuple[float, str]:
    return KEY, "a key of one's own"


def _endpoint(properties: Mapping[str, Any], _: str) -> tuple[float, str]:
    if properties["VpcEndpointType"] == "Gateway":
        return 0, "S3's own is free"
    subnets = len(properties["SubnetIds"])
    return subnets * ENDPOINT_HOUR * HOURS, f"{subnets} x {ENDPOINT_HOUR} USD an hour"


def _instance(properties: Mapping[str, Any], instance_type: str) -> tuple[float, str]:
    disk = sum(one["Ebs"]["VolumeSize"] for one in properties["BlockDeviceMappings"])
    hourly = INSTANCE_HOURS[instance_type] + ADDRESS_HOUR
    monitored = DETAILED_MONITORING if properties["Monitoring"] else 0
    reason = f"{instance_type} and its address: {hourly:g} USD an hour; {disk} GB; metrics"
    return hourly * HOURS + disk * GP3_GB + monitored, reason


PRICED: dict[str, Callable[[Mapping[str, Any], str], tuple[float, str]]] = {
    "AWS::KMS::Key": _key,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::Instance": _instance,
}
