"""The stack's template as data: which resources it makes with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).with_name("stack.yaml")
# libyaml's, where PyYAML has it, reads the template six times as fast.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]  # which has no types
    """Reads CloudFormation's short forms (!Ref, !Sub, ...) as the long ones that they stand for."""


def _long_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    else:
        value = loader.construct_sequence(node, deep=True)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


def load_template() -> dict[str, Any]:
    """Return the template, its short forms written out."""
    content: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)  # noqa: S506  (a safe one)
    return content


def made_resources(parameters: Mapping[str, str], region: str) -> dict[str, dict[str, Any]]:
    """Return the resources by logical id that the stack has with these *parameters* there.

    Parameters that are not given have their defaults.
    """
    content = load_template()
    defaults = {name: one.get("Default", "") for name, one in content["Parameters"].items()}
    known = {**defaults, **parameters, "AWS::Region": region}
    holds = {name: _holds(rule, known) for name, rule in content["Conditions"].items()}
    return {
        name: resource
        for name, resource in content["Resources"].items()
        if holds.get(resource.get("Condition", ""), True)
    }


def _holds(rule: Any, known: Mapping[str, Any]) -> bool:
    ((function, arguments),) = rule.items()
    match function:
        case "Fn::Not":
            return not _holds(arguments[0], known)
        case "Fn::Or":
            return any(_holds(one, known) for one in arguments)
        case "Fn::Equals":
            left, right = (known[a["Ref"]] if isinstance(a, dict) else a for a in arguments)
            return str(left) == str(right)
    raise NotImplementedError(f"This does not know the condition {function}")
