"""The stack in an empty account, and the environment of the heavy checks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.aws import commands
from bootstrap.aws.__main__ import main
from bootstrap.aws.template import TEMPLATE
from tests.aws.accounts import Command
from tests.aws.stacks import REGION, ROOT, Stack, empty_account, for_moto, make_stack


@pytest.fixture(autouse=True)
def own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other tests of this process have their region again: `main` sets it for good."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, REGION)


@pytest.fixture
def tools() -> Path:
    """Return the environment of the checks that `make aws-check` installs before it runs them."""
    tools = ROOT / ".venv-aws"
    assert (tools / ".ready").exists(), "make aws-lint or make aws-check runs this test"
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


@pytest.fixture
def command(
    moto_account: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Return what runs a command with somebody's *answer*; it returns exit code and output."""
    template = tmp_path / "stack.yaml"
    template.write_text(for_moto(TEMPLATE.read_text()))
    monkeypatch.setattr(commands, "TEMPLATE", template)

    def run(*words: str, answer: str = "no") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code = main([*words, "--environment", str(tmp_path / "aws.env")])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def deployed(command: Command) -> Command:
    """Return the commands of an account in which the stack is."""
    code, told = command("deploy", "--mail", "me@example.org", answer="deploy")
    assert code == 0, told
    return command
