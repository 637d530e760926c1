"""Service-linked roles, which AWS's own services make for themselves where somebody may let them.

A run's role may not: so the first cluster of a new account would be refused, and the first on the
Spot market with it. Whoever deploys makes them, once for the account. They cost nothing, and no
stack can own them: a second one could not be made, and with the first the roles would go.

https://docs.aws.amazon.com/emr/latest/ManagementGuide/using-service-linked-roles.html
"""

from __future__ import annotations

import boto3

# EMR's, by which it clears up; those of EC2, by which fleets buy, on the Spot market and elsewhere.
SERVICES = ("elasticmapreduce.amazonaws.com", "spot.amazonaws.com", "ec2fleet.amazonaws.com")


def make_linked_roles() -> None:
    """Make the roles that the account does not have."""
    iam = boto3.client("iam")
    missing = tuple(
        service
        for service in SERVICES
        if not iam.list_roles(PathPrefix=f"/aws-service-role/{service}/")["Roles"]
    )
    for service in missing:
        iam.create_service_linked_role(AWSServiceName=service)
