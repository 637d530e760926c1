"""What the roles may do: what a run does, and nothing beside it."""

from __future__ import annotations

import pytest

from tests.aws.calls import allowed, denied, undecided
from tests.aws.evaluator import Request, evaluate
from tests.aws.stacks import Stack

ROLES = ["AirflowRole", "NodeRole", "ServiceRole"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_its_work(stack: Stack, role: str) -> None:
    """Sensing, staging, leases, tables and the cluster's life; reading images, writing output."""
    refused = [call for call in allowed(stack)[role] if stack.answer(role, call) != "Allowed"]

    assert refused == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_nothing_else(stack: Stack, role: str) -> None:
    """Other buckets, regions, roles, keys and tables, images, clusters without our tag: denied.

    The last is worth as much as the tag, which the role can put there: see the next test.
    """
    granted = [call for call in denied(stack)[role] if stack.answer(role, call) == "Allowed"]

    assert granted == []


def test_what_iam_cannot_tell_apart_is_granted(stack: Stack) -> None:
    """Airflow's role may put our tag onto any cluster of the account, and then drive or end it.

    EMR asks for AddTags when it makes a cluster with tags, which then has none that a condition
    could look at. What might help is in docs/aws.md, "What only AWS can tell": nobody has tried it.
    """
    role = "AirflowRole"
    refused = [call for call in undecided()[role] if stack.answer(role, call) != "Allowed"]

    assert refused == []


@pytest.mark.parametrize("role", ROLES)
def test_each_statement_names_its_resources(stack: Stack, role: str) -> None:
    """`*` stands only where there is nothing to name, or in a denial."""
    statements = [s for policy in stack.policies[role] for s in policy["Statement"]]

    unnamed = [s["Sid"] for s in statements if s["Effect"] == "Allow" and s["Resource"] == "*"]

    # IAM knows no resource for these two.
    creating = ["CreateTaggedClusters", "ListClusters"]
    assert unnamed == (creating if role == "AirflowRole" else [])


def policy(**statement: object) -> dict[str, object]:
    """Return a policy of one statement, which allows reading the bucket's objects."""
    read = {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b/*"}
    return {"Statement": [read | statement]}


READ = Request("arn:aws:iam::123456789012:role/r", "s3:GetObject", "arn:aws:s3:::b/k", {"a:b": "c"})
UNLIKE = {"StringNotEquals": {"a:b": "c"}}


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ({}, "Allowed"),
        ({"Action": ["s3:PutObject", "S3:GETOBJECT"]}, "Allowed"),
        ({"Action": "s3:Get"}, "ImplicitlyDenied"),
        ({"Resource": "arn:aws:s3:::B/*"}, "ImplicitlyDenied"),
        ({"Resource": "arn:aws:s3:::b"}, "ImplicitlyDenied"),
        ({"Effect": "Deny"}, "ExplicitlyDenied"),
        ({"Condition": {"StringEquals": {"A:B": ["x", "c"]}}}, "Allowed"),
        ({"Condition": {"StringEquals": {"a:b": "C"}}}, "ImplicitlyDenied"),
        ({"Condition": {"StringEquals": {"a:b": "c", "a:x": "y"}}}, "ImplicitlyDenied"),
        ({"Condition": {"StringLike": {"a:b": "?*"}}}, "Allowed"),
        ({"Condition": {"Bool": {"a:x": "false"}}}, "ImplicitlyDenied"),
        ({"Condition": UNLIKE}, "ImplicitlyDenied"),
        ({"Condition": {"StringNotEquals": {"a:x": "y"}}}, "Allowed"),
    ],
)
def test_policies_are_read_as_iam_reads_them(statement: dict[str, object], answer: str) -> None:
    """Actions without regard to case, resources with; a key that is absent is unlike anything."""
    assert evaluate(READ, [policy(**statement)]) == answer


def test_other_policies_limit_a_role() -> None:
    """A denial anywhere wins; an endpoint and a key have to allow, a bucket need not."""
    nothing, other = {"Statement": []}, policy(Effect="Deny")

    assert evaluate(READ, [policy()], resource=nothing) == "Allowed"
    assert evaluate(READ, [policy()], endpoint=nothing) == "ImplicitlyDenied"
    assert evaluate(READ, [policy()], resource=nothing, resource_must_allow=True) != "Allowed"
    assert evaluate(READ, [policy()], resource=other) == "ExplicitlyDenied"


def test_what_is_not_known_is_refused() -> None:
    """A kind of condition or statement that nobody taught it fails instead of passing."""
    with pytest.raises(KeyError, match="NumericLessThan"):
        evaluate(READ, [policy(Condition={"NumericLessThan": {"a:b": "1"}})])
    with pytest.raises(NotImplementedError, match="NotResource"):
        evaluate(READ, [policy(NotResource="x")])
