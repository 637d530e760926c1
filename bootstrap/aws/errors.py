"""What can go wrong with a stack, each with the way out."""

from __future__ import annotations

from fruits.errors import FruitsError


class StackError(FruitsError):
    """CloudFormation could not do it; fields: stack, events (what failed, and why)."""

    stack: str
    events: tuple[str, ...]


class InUseError(FruitsError):
    """Something still needs the stack; field: by."""

    by: tuple[str, ...]
