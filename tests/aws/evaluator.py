"""What IAM answers to a request, worked out from policies: the part of IAM that the stack uses.

`make aws-check` compares each answer with that of a simulator which knows all of IAM. This one
needs nothing but Python, and refuses what it does not know instead of guessing.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ALLOWED, EXPLICITLY_DENIED, IMPLICITLY_DENIED = "Allowed", "ExplicitlyDenied", "ImplicitlyDenied"
Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """*principal* (ARN of a role) asks for *action* on *resource*; *context* has condition keys."""

    principal: str
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """Return the number of the principal's account."""
        return self.principal.split(":")[4]


def evaluate(
    request: Request,
    identity: Iterable[Policy],
    *,
    endpoint: Policy | None = None,
    resource: Policy | None = None,
    resource_must_allow: bool = False,
) -> str:
    """Return IAM's answer, given the role's policies, the VPC endpoint's and the resource's own.

    A denial anywhere wins. An endpoint's policy has to allow as well; so has that of a key
    (*resource_must_allow*), while a bucket of the same account leaves it to the role.
    """
    identity = list(identity)
    others = [policy for policy in (endpoint, resource) if policy is not None]
    if any("Deny" in _effects(policy, request) for policy in [*identity, *others]):
        return EXPLICITLY_DENIED
    needed = [any("Allow" in _effects(policy, request) for policy in identity)]
    if endpoint is not None:
        needed.append("Allow" in _effects(endpoint, request))
    if resource_must_allow:
        needed.append(resource is not None and "Allow" in _effects(resource, request))
    return ALLOWED if all(needed) else IMPLICITLY_DENIED


def _effects(policy: Policy, request: Request) -> set[str]:
    return {one["Effect"] for one in policy["Statement"] if _applies(one, request)}


def _applies(statement: Policy, request: Request) -> bool:
    known = {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"}
    if unknown := statement.keys() - known:
        raise NotImplementedError(f"This evaluator does not know {', '.join(sorted(unknown))}")
    action = request.action.lower()
    if "NotAction" in statement:
        asked = not _any_like(action, (one.lower() for one in _words(statement["NotAction"])))
    else:
        asked = _any_like(action, (one.lower() for one in _words(statement["Action"])))
    return (
        asked
        and _any_like(request.resource, _words(statement["Resource"]))
        and _is_principal(statement.get("Principal", "*"), request)
        and _holds(statement.get("Condition", {}), request.context)
    )


def _is_principal(principal: Any, request: Request) -> bool:
    if principal == "*":
        return True
    root = f"arn:aws:iam::{request.account}:root"
    # The account's root stands for everybody in it whom IAM lets.
    return any(one in ("*", root, request.principal) for one in _words(principal.get("AWS", [])))


def _holds(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    lowered = {key.lower(): value for key, value in context.items()}
    return all(
        OPERATORS[operator](lowered.get(key.lower()), _words(wanted))
        for operator, keys in condition.items()
        for key, wanted in keys.items()
    )


def _equals(value: str | None, wanted: list[str]) -> bool:
    return value in wanted


def _like(value: str | None, wanted: list[str]) -> bool:
    return value is not None and _any_like(value, wanted)


# A key that is absent meets no condition, except one that says what it must not be.
OPERATORS: dict[str, Callable[[str | None, list[str]], bool]] = {
    "StringEquals": _equals,
    "StringNotEquals": lambda value, wanted: not _equals(value, wanted),
    "StringLike": _like,
    "ArnLike": _like,
    "Bool": lambda value, wanted: value is not None and value.lower() in wanted,
}


def _any_like(value: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(_expression(pattern), value, re.DOTALL) for pattern in patterns)


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _words(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
