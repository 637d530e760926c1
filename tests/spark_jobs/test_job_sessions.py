"""What a step says: its progress while it runs, and its cause when it fails."""

from __future__ import annotations

import socket
import time

from obstore.exceptions import BaseError

from fruits_jobs.fetching import AccessDenied, Archived
from fruits_jobs.networks import UnknownBackbone, WeightsDoNotFit
from fruits_jobs.objects import read_json
from fruits_jobs.progress import Progress, line, snapshot
from fruits_jobs.sessions import LASTING, cause, run_step

SPARK_ERROR = """
  An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "/mnt/fruits_jobs.zip/fruits_jobs/fetching.py", line 90, in fetch
    raise ReadFailed(bucket, key, str(error), attempt) from error
fruits_jobs.fetching.ReadFailed: cannot read s3://b/'k' after 6 attempts; the last was 503

	at org.apache.spark.api.python.BasePythonRunner.handle(PythonRunner.scala:581)
Caused by: java.lang.IllegalStateException: nothing to do with it
"""


def test_the_cause_of_a_spark_error_is_the_workers_exception():
    """Between a hundred lines of Java is the one that matters."""
    found = cause(RuntimeError(SPARK_ERROR))

    assert found == "ReadFailed: cannot read s3://b/'k' after 6 attempts; the last was 503"


def test_of_chained_exceptions_the_workers_last_one_is_the_cause():
    """What the library said says nothing of the image; what we raised upon it does."""
    behind = (
        "Traceback (most recent call last):\n"
        "obstore.exceptions.GenericError: Generic S3 error\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
    )

    found = cause(RuntimeError(f": org.apache.spark.SparkException: {behind}{SPARK_ERROR}"))

    assert found == "ReadFailed: cannot read s3://b/'k' after 6 attempts; the last was 503"


def test_javas_stack_may_come_first():
    """Some of Spark's texts begin with the job that failed, and where in Java."""
    found = cause(RuntimeError(f"Job aborted.\n\tat org.apache.spark.Some: 1\n{SPARK_ERROR}"))

    assert found == "ReadFailed: cannot read s3://b/'k' after 6 attempts; the last was 503"


def test_any_other_cause_is_one_line_with_its_type():
    """A message of several lines does not hide behind its last one."""
    assert cause(ValueError("first\n  second")) == "ValueError: first second"


def test_a_failed_step_is_exit_code_1_and_ends_with_its_cause(capsys):
    """The exit code is what EMR looks at; the last line is what a person looks at."""

    def step() -> None:
        raise ValueError("no such thing")

    assert run_step("pca", step) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "pca failed: ValueError: no such thing"
    assert run_step("pca", lambda: None) == 0


def test_a_jvm_that_died_does_not_keep_the_cause_to_itself(storage, monkeypatch):
    """The cause is in S3 even where nobody is left to print it."""
    monkeypatch.setattr("pyspark.SparkContext._jvm", object())

    def step() -> None:
        raise ValueError("no such thing")

    assert run_step("pca", step, "s3://fruits-lake/work/", "eu-west-3") == 1
    left = read_json("s3://fruits-lake/work/failure.json", "eu-west-3")
    assert left == {"step": "pca", "cause": "ValueError: no such thing", "lasting": False}


def test_what_a_second_try_would_meet_again_is_lasting(storage):
    """A refused image stays refused. The names are those of classes that there are."""

    def step() -> None:
        raise Archived("fruits-images", "a.jpg", "InvalidObjectState")

    assert run_step("featurize", step, "s3://fruits-lake/work/", "eu-west-3") == 1
    assert read_json("s3://fruits-lake/work/failure.json", "eu-west-3")["lasting"] is True
    classes = AccessDenied, Archived, UnknownBackbone, WeightsDoNotFit
    assert {one.__name__ for one in classes} == LASTING


def test_a_snapshot_tells_rate_and_time_to_go():
    """A quarter done in ten seconds is thirty to go."""
    now = snapshot("featurize", 250, 1000, 10.0)

    assert (now.images_per_second, now.eta_seconds) == (25.0, 30.0)
    assert line(now) == "featurize: 250 of 1,000 images (25%), 25.0 images/s, 30 s to go"


def test_repeated_tasks_do_not_make_more_than_everything():
    """Spark counts a task that ran twice twice; done never exceeds total."""
    assert snapshot("featurize", 1500, 1000, 10.0).done == 1000


def test_before_the_first_image_there_is_no_estimate():
    """Nothing done is no rate, rather than an infinite wait."""
    assert snapshot("featurize", 0, 1000, 5.0).eta_seconds is None


def test_progress_is_written_while_the_step_runs(storage, monkeypatch):
    """A sensor reads progress.json long before the step ends, and its end at the end."""
    monkeypatch.setattr("fruits_jobs.progress.WRITE_SECONDS", 0.02)
    monkeypatch.setattr("fruits_jobs.progress.PATIENCE", 100)
    uri, done = "s3://fruits-lake/work/progress.json", [3]

    with Progress("pca", 9, lambda: done[0], uri, "eu-west-3"):
        assert told(uri) == 3
        done[0] = 9

    assert told(uri) == 9


def told(uri: str) -> int:
    """Return how many images the object says are done, once there is one."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return read_json(uri, "eu-west-3")["done"]
        # Not there yet, empty or cut off: rclone does not replace an object at once, as S3 does.
        except (FileNotFoundError, ValueError, BaseError):
            assert time.monotonic() < deadline, "nobody wrote it"
            time.sleep(0.01)


def test_progress_keeps_no_step_waiting_for_an_s3_that_is_silent(monkeypatch, capsys):
    """The courtesy ends where a step would wait minutes for it."""
    monkeypatch.setattr("fruits_jobs.progress.PATIENCE", 0.3)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    started = time.monotonic()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with Progress("pca", 9, lambda: 9, "s3://bucket/progress.json", "eu-west-3"):
            pass

    assert time.monotonic() - started < 25  # the client's own patience is 30 s and more
    assert "progress could not be written" in capsys.readouterr().out


def test_progress_that_cannot_be_written_does_not_fail_the_step(monkeypatch, capsys):
    """Progress is a courtesy: hours of inference must not be lost for it."""

    def broken(*_: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("fruits_jobs.progress.write_json", broken)

    with Progress("pca", 9, lambda: 9, "s3://nowhere/progress.json", "eu-west-3"):
        pass

    assert "progress could not be written: no route" in capsys.readouterr().out
