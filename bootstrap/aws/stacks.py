"""The stack in an account: what a change would do, doing it, and removing all of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

import boto3
from botocore.exceptions import ClientError, WaiterError

from bootstrap.aws.errors import StackError
from bootstrap.aws.template import load_template

# A stack that nobody confirmed is only a plan.
PLANNED = "REVIEW_IN_PROGRESS"
# CloudFormation changes none of these: they can only be removed.
FAILED = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
BEGUN = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
# CloudFormation looks every few seconds by itself; an instance takes minutes.
WAIT = {"Delay": 5, "MaxAttempts": 360}


@dataclass(frozen=True)
class Change:
    """One resource that a change set adds, modifies or removes; *replaced*: made anew."""

    action: str
    resource: str
    kind: str
    replaced: bool


@dataclass(frozen=True)
class Plan:
    """A change set that waits for a decision: its id, whether the stack is new, the changes."""

    id: str
    is_new: bool
    changes: tuple[Change, ...]


class Stack:
    """CloudFormation's stack *name* in *region*, whether it is there or not."""

    def __init__(self, name: str, region: str) -> None:
        self.name, self.region = name, region
        self._client: Any = boto3.client("cloudformation", region_name=region)

    def status(self) -> str | None:
        """Return CloudFormation's word for its state, or None if there is no such stack."""
        status: str = (self._describe() or {}).get("StackStatus", PLANNED)
        return None if status == PLANNED else status

    def refuse_failed(self) -> None:
        """Raise StackError if it is what a failed deployment or removal left."""
        status = self.status()
        if status in FAILED:
            events = self._failures(self.name)
            raise StackError(
                f"The stack {self.name} is what was left of a failure ({status}): "
                f"{'; '.join(events) or 'its events say of which'}.",
                "Correct what failed, then make aws-remove and make aws-deploy again.",
                stack=self.name,
                events=events,
            )

    def outputs(self) -> dict[str, str] | None:
        """Return the outputs, or None if there is no such stack."""
        if self.status() is None:
            return None
        found = (self._describe() or {}).get("Outputs", [])
        return {one["OutputKey"]: one["OutputValue"] for one in found}

    def parameters(self) -> dict[str, str]:
        """Return the parameters that the stack was made with; none if it is not there."""
        found = (self._describe() or {}).get("Parameters", [])
        return {one["ParameterKey"]: one.get("ParameterValue", "") for one in found}

    def plan(self, template: str, parameters: Mapping[str, str]) -> Plan:
        """Let CloudFormation work out what *parameters* would change; nothing is made yet.

        Parameters that are not given stay as they are, or have the template's defaults. A plan that
        is refused or interrupted is dropped.
        """
        is_new = self.outputs() is None
        # Of another version of the template it may have been made with others.
        known = self.parameters().keys() & load_template()["Parameters"].keys()
        kept = known - parameters.keys() if not is_new else set()
        given = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
        before = [{"ParameterKey": k, "UsePreviousValue": True} for k in sorted(kept)]
        made = self._client.create_change_set(
            StackName=self.name,
            ChangeSetName=f"plan-{datetime.now(UTC):%Y%m%dT%H%M%S%f}",
            ChangeSetType="CREATE" if is_new else "UPDATE",
            TemplateBody=template,
            Parameters=[*given, *before],
            Capabilities=["CAPABILITY_IAM"],
        )
        try:
            return Plan(made["Id"], is_new, self._changes(made["Id"]))
        except BaseException:
            # What was wrong says more than that it cannot be dropped.
            with suppress(ClientError):
                self.drop(Plan(made["Id"], is_new, ()))
            raise

    def drop(self, plan: Plan) -> None:
        """Forget the plan; of a new stack nothing is left."""
        self._client.delete_change_set(ChangeSetName=plan.id, StackName=self.name)
        if plan.is_new:
            self._client.delete_stack(StackName=self.name)

    def execute(self, plan: Plan) -> dict[str, str]:
        """Do it, wait, and return the outputs; StackError with what failed."""
        self._client.execute_change_set(ChangeSetName=plan.id, StackName=self.name)
        waiter = "stack_create_complete" if plan.is_new else "stack_update_complete"
        self._wait(waiter, self.name, "CloudFormation has taken back what it had done.")
        return self.outputs() or {}

    def delete(self) -> None:
        """Delete the stack and wait; StackError with what kept it from going."""
        described = self._describe()
        if described is None:
            return
        self._client.delete_stack(StackName=self.name)
        # By its id a stack is found when it is gone, too.
        self._wait("stack_delete_complete", described["StackId"], "What it names is still there.")

    def resources(self) -> dict[str, str]:
        """Return the physical id of each resource that is there, by its logical id."""
        found = self._client.describe_stack_resources(StackName=self.name)["StackResources"]
        return {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
            for one in found
            if one["ResourceStatus"] != "DELETE_COMPLETE"
        }

    def _describe(self) -> Any:
        try:
            return self._client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":  # there is none
                return None
            raise

    def _changes(self, plan: str) -> tuple[Change, ...]:
        try:
            self._client.get_waiter("change_set_create_complete").wait(
                ChangeSetName=plan, StackName=self.name, WaiterConfig={"Delay": 2}
            )
        except WaiterError as error:
            # It has no other way of saying that nothing would change.
            reason = str(error.last_response.get("StatusReason", ""))
            if "didn't contain changes" in reason or "No updates" in reason:
                return ()
            raise StackError(
                f"CloudFormation refuses the plan for {self.name}: {reason}.",
                "Correct what it names and try again: nothing was made.",
                stack=self.name,
                events=(reason,),
            ) from error
        pages = self._client.get_paginator("describe_change_set").paginate(
            ChangeSetName=plan, StackName=self.name
        )
        found = [one["ResourceChange"] for page in pages for one in page["Changes"]]
        return tuple(
            Change(
                one["Action"],
                one["LogicalResourceId"],
                one["ResourceType"],
                one.get("Replacement") == "True",
            )
            for one in found
        )

    def _wait(self, waiter: Any, stack: str, way_out: str) -> None:
        try:
            self._client.get_waiter(waiter).wait(StackName=stack, WaiterConfig=WAIT)
        except WaiterError as error:
            events = self._failures(stack)
            raise StackError(
                f"The stack {self.name} failed: {'; '.join(events) or error}.",
                f"{way_out} Its events in the console say more.",
                stack=self.name,
                events=events,
            ) from error

    def _failures(self, stack: str) -> tuple[str, ...]:
        """Return what failed since the stack's last operation began, the newest first."""
        events = self._client.describe_stack_events(StackName=stack)["StackEvents"]
        return tuple(
            f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason', '?')}"
            for one in takewhile(lambda one: not _begins(one), events)
            if one.get("ResourceStatus", "").endswith("_FAILED")
        )


def _begins(event: Mapping[str, str]) -> bool:
    is_of_the_stack = event.get("PhysicalResourceId") == event["StackId"]
    return is_of_the_stack and event.get("ResourceStatus") in BEGUN
