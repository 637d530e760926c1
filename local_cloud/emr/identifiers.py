"""Identifiers that look like EMR's and EC2's."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_uppercase + string.digits


def new(prefix: str) -> str:
    """Return e.g. `j-2AXXXXXXGAPLF` for the prefix `j` (s, ig, if and ci likewise)."""
    return f"{prefix}-{''.join(secrets.choice(_ALPHABET) for _ in range(13))}"


def new_ec2() -> str:
    """Return an instance id such as `i-0f1e2d3c4b5a69788`."""
    return f"i-0{secrets.token_hex(8)}"
