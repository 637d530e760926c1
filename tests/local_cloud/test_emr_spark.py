"""Steps are real Spark: s3:// scripts and packages, the cluster's settings, a tree that dies."""

from __future__ import annotations

import io
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from local_cloud.cloud import LocalCloud
from local_cloud.emr import spark
from local_cloud.emr.model import Cluster
from local_cloud.emr.programs import step_mark
from tests.local_cloud.living import with_marker

JOB = """
import sys
from pyspark.sql import SparkSession
import helper

spark = SparkSession.builder.getOrCreate()
spark.range(10).repartition(2).mapInPandas(helper.double, "id long").write.parquet(sys.argv[1])
print("sum", spark.read.parquet(sys.argv[1]).groupBy().sum("id").first()[0])
print("said", spark.conf.get("spark.fruits.said"), spark.sparkContext.master)
if sys.argv[2:] == ["stay"]:
    print("staying", flush=True)
    spark.range(2).repartition(2).foreach(lambda row: __import__("time").sleep(1000))
"""
HELPER = """
def double(frames):
    for frame in frames:
        yield frame * 2
"""


def put_job(s3: Any) -> None:
    """Put the job and its zipped package into the bucket fruits-lake."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("helper.py", HELPER)
    s3.put_object(Bucket="fruits-lake", Key="jobs/main.py", Body=JOB.encode())
    s3.put_object(Bucket="fruits-lake", Key="jobs/package.zip", Body=packed.getvalue())


def spark_step(*arguments: str) -> dict[str, Any]:
    """Return a step as it is written for EMR: YARN, cluster mode, files in S3."""
    command = ["spark-submit", "--master", "yarn", "--deploy-mode", "cluster", "--py-files"]
    files = ["s3://fruits-lake/jobs/package.zip", "s3://fruits-lake/jobs/main.py"]
    args = [*command, *files, *arguments]
    jar = {"Jar": "command-runner.jar", "Args": args}
    return {"Name": "spark", "ActionOnFailure": "CONTINUE", "HadoopJarStep": jar}


def test_spark_step_runs_and_dies_whole(
    *,
    emr: Any,
    s3: Any,
    cloud: LocalCloud,
    job_flow: Any,
    step_in: Any,
    wait_for: Any,
    read_log: Any,
) -> None:
    """A job from s3:// reads and writes s3://, obeys the cluster, and cancelling leaves nothing."""
    put_job(s3)
    said = {"Classification": "spark-defaults", "Properties": {"spark.fruits.said": "a b=c"}}
    request = job_flow(Configurations=[said], Steps=[spark_step("s3://fruits-lake/out/", "stay")])
    cluster_id = emr.run_job_flow(**request)["JobFlowId"]
    step_id = emr.list_steps(ClusterId=cluster_id)["Steps"][0]["Id"]
    stdout = cloud.folder / "emr/clusters" / cluster_id / "steps" / step_id / "stdout"
    wait_for(lambda: "staying" in (stdout.read_text() if stdout.exists() else ""), seconds=300)
    commands = {p.name() for p in with_marker(step_mark(step_id))}
    began = emr.cancel_steps(ClusterId=cluster_id, StepIds=[step_id])["CancelStepsInfoList"]
    step_in(cluster_id, step_id, "CANCELLED")

    assert began[0]["Status"] == "SUBMITTED"
    assert "java" in commands
    controller = read_log(f"logs/{cluster_id}/steps/{step_id}/controller.gz")
    assert "--deploy-mode cluster is not applied" in controller
    assert not with_marker(step_mark(step_id))
    assert stdout.read_text().splitlines()[:2] == ["sum 90", f"said a b=c local[{spark.cores()},4]"]
    listed = s3.list_objects_v2(Bucket="fruits-lake", Prefix="out/")["Contents"]
    names = [Path(found["Key"]).name for found in listed]
    assert "_SUCCESS" in names
    assert not [name for name in names if name.endswith(".crc")]


@dataclass(frozen=True)
class Asked:
    """As much of a cluster as the Spark configuration reads."""

    request: dict[str, Any]


def asked(*configurations: dict[str, Any]) -> Cluster:
    """Return a cluster with these Configurations."""
    return cast("Cluster", Asked({"Configurations": list(configurations)}))


def test_request_overrides_the_base_but_not_the_machine(tmp_path: Path) -> None:
    """A request's spark-defaults win, except for what names the machine: master and mounts."""
    buckets = tmp_path / "a folder" / "s3"
    (buckets / "fruits-lake").mkdir(parents=True)
    properties = {
        "spark.driver.memory": "6g",
        "spark.master": "yarn",
        "spark.hadoop.fs.s3.impl": "com.amazon.ws.emr.hadoop.fs.EmrFileSystem",
        "spark.hadoop.fs.viewfs.mounttable.fruits-lake.linkFallback": "file:///elsewhere",
    }
    cluster = asked({"Classification": "spark-defaults", "Properties": properties})
    settings = spark.defaults(cluster, tmp_path, buckets)

    assert settings["spark.driver.memory"] == "6g"
    assert settings["spark.master"] == f"local[{spark.cores()},4]"
    assert settings["spark.hadoop.fs.s3.impl"].endswith("ViewFileSystemOverloadScheme")
    mount = settings["spark.hadoop.fs.viewfs.mounttable.fruits-lake.linkFallback"]
    assert mount == f"s3://{tmp_path}/a%20folder/s3/fruits-lake"


def test_shells_own_session_reads_the_buckets(tmp_path: Path) -> None:
    """A shell's Spark is told the file system and the mounts, whatever its folder is called."""
    buckets = tmp_path / "a folder" / "s3"
    (buckets / "fruits-lake").mkdir(parents=True)

    *settings, last = shlex.split(spark.submit_arguments(buckets))

    mount = f"s3://{tmp_path}/a%20folder/s3/fruits-lake"
    assert f"spark.hadoop.fs.viewfs.mounttable.fruits-lake.linkFallback={mount}" in settings
    view = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
    assert f"spark.hadoop.fs.s3.impl={view}" in settings
    assert set(settings[::2]) == {"--conf"}
    assert last == "pyspark-shell"


def test_exports_of_spark_env() -> None:
    """spark-env's nested export is the job's environment; other classifications are not."""
    export = {"Classification": "export", "Properties": {"A": "1"}}
    other = {"Classification": "hadoop-env", "Configurations": [export]}
    cluster = asked({"Classification": "spark-env", "Configurations": [export]}, other)

    assert spark.exports(cluster) == {"A": "1"}
    assert spark.exports(asked(other)) == {}


def test_python_that_is_not_here_is_not_asked_for(tmp_path: Path) -> None:
    """A node's own Python is used where it exists, else the endpoint's."""
    absent, present = "/opt/absent/python", "/bin/sh"
    names = ("spark.pyspark.python", "spark.pyspark.driver.python")
    properties = {names[0]: absent, names[1]: present}
    export = {"Classification": "export", "Properties": {"PYSPARK_PYTHON": absent, "A": "1"}}
    cluster = asked(
        {"Classification": "spark-defaults", "Properties": properties},
        {"Classification": "spark-env", "Configurations": [export]},
    )
    settings = spark.defaults(cluster, tmp_path, tmp_path)

    assert [settings.get(name) for name in names] == [None, present]
    assert spark.exports(cluster) == {"A": "1"}


def test_arguments_lose_only_the_resource_manager() -> None:
    """Options that name YARN go; all others, and all of the job's own arguments, stay."""
    arguments = [
        "--master", "yarn", "--deploy-mode=cluster", "--conf", "spark.master=yarn", "--verbose",
        "--conf", "spark.x=1", "--conf=spark.pyspark.python=/opt/absent/python", "--name", "n",
        "main.py", "--master", "mine",
    ]  # fmt: skip
    kept = ["--verbose", "--conf", "spark.x=1", "--name", "n", "main.py", "--master", "mine"]

    assert spark.local_arguments(arguments) == kept


def test_settings_survive_a_properties_file() -> None:
    """Java's properties format treats backslashes, newlines and separators specially."""
    assert spark.render({"a b": "c\\d\ne=f"}) == "a\\ b c\\\\d\\ne=f\n"
