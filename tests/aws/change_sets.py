"""CloudFormation's change sets, of which moto has half: it compares templates, never parameters.

Our stack changes by its parameters. Here a change set is worked out from both, a new stack is made
as moto's own create_stack makes one, and what has changed is to be seen in the outputs.
"""

from __future__ import annotations

from typing import Any

import pytest
from moto.cloudformation.models import Change, ChangeSet, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.cloudformation.responses import CloudFormationResponse


def repair(patch: pytest.MonkeyPatch) -> None:
    """Let moto's change sets look at parameters, too."""
    patch.setattr(ChangeSet, "diff", _changes)
    patch.setattr(ChangeSet, "apply", _apply)
    # AWS makes such a change set, which then says that it has nothing in it.
    patch.setattr(CloudFormationResponse, "_validate_different_update", lambda *_: None)
    patch.setattr(ResourceMap, "parse_ssm_parameter", _parameter)
    # What it does not know (budget, bucket policies, Glue's database) it lists without names.
    patch.setattr(
        Stack,
        "stack_resources",
        property(lambda self: [one for one in self.resource_map.values() if one]),
    )


def _parameter(
    resources: ResourceMap, value: str, kind: str, parse: Any = ResourceMap.parse_ssm_parameter
) -> str:
    """Return the image that the parameter *value* names; kept from before, it is one already."""
    return value if value.startswith("ami-") else str(parse(resources, value, kind))


def _changes(change_set: ChangeSet) -> list[Change]:
    types = {name: one["Type"] for name, one in change_set.template_dict["Resources"].items()}
    before, after = _before(change_set), _after(change_set)
    actions = {
        **dict.fromkeys(after - before, "Add"),
        **dict.fromkeys(before - after, "Remove"),
        **dict.fromkeys(before & after & _modified(change_set), "Modify"),
    }
    return [Change(actions[name], name, types[name]) for name in types if name in actions]


def _apply(change_set: ChangeSet) -> None:
    stack: Any = change_set.stack
    before, after = _before(change_set), _after(change_set)
    if change_set.change_set_type == "CREATE":
        stack.template, stack.parameters = change_set.template, change_set.parameters
        stack._parse_template()
        stack.resource_map = stack._create_resource_map()
        stack.output_map = stack._create_output_map()
        stack.create_resources()
        return
    there = stack.resource_map._parsed_resources
    for name in before - after:
        definition = change_set.template_dict["Resources"][name]
        stack.resource_map._delete_resource(there.pop(name), definition)
    kept = {name: there[name] for name in before & after if there.get(name)}
    stack.update(change_set.template, parameters=change_set.parameters)
    # What it cannot update it loses.
    there |= {name: one for name, one in kept.items() if there.get(name) is None}
    for name in after - before:
        if there.get(name, ...) is None:  # it was said to be none
            del there[name]
    for name in after - before:
        stack.resource_map[name]  # makes it, and what it needs
    stack.output_map = stack._create_output_map()


def _modified(change_set: ChangeSet) -> set[str]:
    known = change_set.stack.resource_map
    found = known.build_resource_diff(change_set.template_dict, change_set.parameters)
    return set(found["Modify"])


def _before(change_set: ChangeSet) -> set[str]:
    if change_set.change_set_type == "CREATE":
        return set()
    return _standing(change_set, change_set.stack.template_dict, change_set.stack.parameters)


def _after(change_set: ChangeSet) -> set[str]:
    return _standing(change_set, change_set.template_dict, change_set.parameters)


def _standing(
    change_set: ChangeSet, template: dict[str, Any], parameters: dict[str, str]
) -> set[str]:
    """Return the resources whose conditions hold with these parameters."""
    stack = change_set.stack
    place = stack.region_name, stack.account_id
    resources = ResourceMap(stack.stack_id, stack.name, parameters, {}, *place, template, {})
    resources.load()
    conditions = resources.lazy_condition_map
    return {
        name
        for name, one in template["Resources"].items()
        if "Condition" not in one or conditions[one["Condition"]]
    }
