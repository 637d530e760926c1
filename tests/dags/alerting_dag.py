"""A DAG of failing tasks: `test_alerts` runs it, with moto for SNS, and reads what was told."""

from __future__ import annotations

import json
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from fruits.alerts import on_failure
from fruits.settings import Settings

REGION = "eu-west-3"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:fruits-alerts"
TOLD = on_failure(Settings(region=REGION, alert_topic=TOPIC))
# Nobody made it: the alert fails.
UNTOLD = on_failure(Settings(region=REGION, alert_topic=f"{TOPIC}-of-nobody"))


@task(on_failure_callback=TOLD)
def watcher() -> None:
    """Fail as that of the ingestion does."""
    raise AirflowFailException("Look at the logs of what failed: featurize, pca.")


@task(on_failure_callback=TOLD)
def retention() -> None:
    """Fail with an error that names an image."""
    raise ValueError("photos/Apple/secret.jpg cannot be deleted with key AKIA123")


@task(on_failure_callback=UNTOLD)
def unheard() -> None:
    """Fail, and let the alert fail as well."""
    raise AirflowFailException("No.")


@task(on_failure_callback=TOLD)
def succeed() -> None:
    """Be no news."""


with DAG("alerting", schedule=None) as dag:
    watcher()
    retention()
    unheard()
    succeed()


def received(sqs: Any, queue: str) -> list[dict[str, str]]:
    """Return what a subscriber of the topic got."""
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [json.loads(one["Body"]) for one in answer.get("Messages", [])]


if __name__ == "__main__":
    import boto3
    from airflow.utils.db import initdb
    from moto import mock_aws

    initdb()
    with mock_aws():
        sns, sqs = boto3.client("sns", REGION), boto3.client("sqs", REGION)
        sns.create_topic(Name="fruits-alerts")
        queue = sqs.create_queue(QueueName="mail")["QueueUrl"]
        sns.subscribe(
            TopicArn=TOPIC, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:123456789012:mail"
        )
        run = dag.test()
        states = {one.task_id: str(one.state) for one in run.get_task_instances()}
        told = received(sqs, queue)
        print(json.dumps({"run": run.run_id, "states": states, "told": told}))  # noqa: T201
