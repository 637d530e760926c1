"""The stack in an empty account, and the environment of the heavy checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws.stacks import ROOT, Stack, empty_account, make_stack


@pytest.fixture
def tools() -> Path:
    """Return the environment of the checks that `make aws-check` installs before it runs them."""
    tools = ROOT / ".venv-aws"
    assert (tools / ".ready").exists(), "make aws-tools installs what this test needs"
    return tools


@pytest.fixture
def moto_account() -> Iterator[None]:
    """Stand in for an empty account."""
    with empty_account():
        yield


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Return what the stack with an Airflow machine comes to in an empty account."""
    with empty_account():
        return make_stack(AirflowCode="code/0123.tar.gz")
