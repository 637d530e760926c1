"""A DAG whose sensors fail in every way: `test_retry_policy` runs it and counts the tries."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseSensorOperator
from botocore.exceptions import ClientError, NoCredentialsError

from fruits.costs import CostCapError
from fruits.errors import ListingError
from fruits.retries import TransientFailures
from fruits.step_runs import StepFailedError

FAILURES: dict[str, Exception] = {
    "deterministic": CostCapError("It would cost too much."),
    "transient": ListingError("S3 did not answer."),
    "foreign": ConnectionError("EMR did not answer."),
    "no_credentials": NoCredentialsError(),
    "once_more": StepFailedError("The step failed.", transient=True),
    "no_more": StepFailedError("The step failed.", transient=False),
}


def answer(code: str) -> ClientError:
    """Return AWS's error of that *code*."""
    return ClientError({"Error": {"Code": code, "Message": "No."}}, "RunJobFlow")


FAILURES["refused"] = answer("AccessDeniedException")
FAILURES["forbidden"] = answer("403")  # of a HEAD
FAILURES["throttled"] = answer("ThrottlingException")


class Failing(BaseSensorOperator):
    """Fails with an error: at once, or, where it is rescheduled, at the second look."""

    def __init__(self, error: Exception, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def poke(self, context: Any) -> bool:
        if self.reschedule and not context.get("task_reschedule_count"):
            return False
        raise self.error


with DAG(
    "retrying",
    schedule=None,
    default_args={
        "retries": 1,
        "retry_delay": timedelta(0),
        "retry_policy": TransientFailures(),
    },
) as dag:
    for mode in ("poke", "reschedule"):
        for name, error in FAILURES.items():
            Failing(task_id=f"{name}-{mode}", error=error, mode=mode, poke_interval=0)

if __name__ == "__main__":
    from airflow.utils.db import initdb

    initdb()
    run = dag.test()
    tries = {one.task_id: one.try_number for one in run.get_task_instances()}
    print(json.dumps(tries))  # noqa: T201  (its one answer)
