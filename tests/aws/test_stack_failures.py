"""What is told of a stack's failure: that of its last operation, not of those before."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.stub import Stubber

from bootstrap.aws.errors import StackError
from bootstrap.aws.stacks import Stack
from tests.aws.stacks import REGION, empty_account

STACK_ID = f"arn:aws:cloudformation:{REGION}:123456789012:stack/fruits/1"
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def event(resource: str, status: str, reason: str = "", physical: str = "id") -> dict[str, object]:
    """Return an event as DescribeStackEvents answers it."""
    return {
        "StackId": STACK_ID,
        "EventId": f"{resource}-{status}-{reason}",
        "StackName": "fruits",
        "LogicalResourceId": resource,
        "PhysicalResourceId": physical,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": NOW,
    }


@pytest.mark.parametrize("began", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"])
def test_failures_of_earlier_deployments_are_not_told(began: str) -> None:
    """CloudFormation keeps their events, and what failed then has been repaired since."""
    with empty_account():
        stack = Stack("fruits", REGION)
    described = {
        "Stacks": [{"StackName": "fruits", "CreationTime": NOW, "StackStatus": "ROLLBACK_COMPLETE"}]
    }
    events = [
        event("fruits", "ROLLBACK_COMPLETE", physical=STACK_ID),
        event("LakeKey", "CREATE_FAILED", "the limit of keys"),
        event("fruits", began, "by somebody", physical=STACK_ID),
        event("Subnet", "UPDATE_FAILED", "a conflict of last month"),
    ]
    with Stubber(stack._client) as stubber:
        stubber.add_response("describe_stacks", described)
        stubber.add_response("describe_stack_events", {"StackEvents": events})

        with pytest.raises(StackError) as failure:
            stack.refuse_failed()

    assert failure.value.events == ("LakeKey: the limit of keys",)
