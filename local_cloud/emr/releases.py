"""The EMR releases that the endpoint knows, with what each installs; others are refused."""

from __future__ import annotations

# https://docs.aws.amazon.com/emr/latest/ReleaseGuide/ (a release is added when it is used)
RELEASES: dict[str, dict[str, str]] = {
    "emr-7.13.0": {"Hadoop": "3.4.1", "Spark": "3.5.6"},
    "emr-spark-8.0.0": {"Hadoop": "3.4.1", "Spark": "4.0.2"},
    "emr-spark-8.1.0": {"Hadoop": "3.4.1", "Spark": "4.1.1"},
}
