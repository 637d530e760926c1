"""Where the local cloud listens: this machine alone, unless somebody asks for more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from local_cloud.addresses import HeldPort
from local_cloud.cloud import LocalCloud
from local_cloud.s3 import answers

# Asks S3 and EMR as the clients of a step and of a task do.
ASKS = """
import os, urllib.error, urllib.request
import boto3, httpx
print(len(boto3.client("s3").list_buckets()["Buckets"]))
print(boto3.client("emr").list_clusters()["Clusters"])
print(httpx.get(os.environ["AWS_ENDPOINT_URL_S3"], timeout=60).status_code)
try:
    urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL_S3"])
except urllib.error.HTTPError as error:
    print(error.code)
"""
ROOT = Path(__file__).resolve().parents[2]
# Linux answers for all of 127.0.0.0/8: an address that is not the loopback's usual one.
ANOTHER = "127.0.0.2"


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses on which a process and its children listen."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {
        (one.laddr.ip, one.laddr.port)
        for process in family
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }


def test_cloud_is_reached_from_this_machine_alone(tmp_path: Path, wait_for: Any) -> None:
    """By itself a cloud, whose keys everybody knows, listens on 127.0.0.1."""
    with LocalCloud(tmp_path) as cloud:
        urls = (cloud.storage.endpoint_url, cloud.emr.endpoint_url)

        wait_for(lambda: all(answers(url) for url in urls))
        assert not any(answers(url.replace("127.0.0.1", ANOTHER)) for url in urls)


def test_serve_listens_where_it_is_told(tmp_path: Path, wait_for: Any) -> None:
    """`serve --bind --s3-port --emr-port` is what a container needs: known ports for others."""
    held = HeldPort(), HeldPort()
    s3, emr = (port.number for port in held)
    places = ["--bind", "0.0.0.0", "--s3-port", str(s3), "--emr-port", str(emr)]
    command = [sys.executable, "-m", "local_cloud", "serve", "--folder", str(tmp_path), *places]
    serving = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for((tmp_path / "environment.json").exists)

        assert {("0.0.0.0", s3), ("0.0.0.0", emr)} <= {
            (ip.removeprefix("::") or "0.0.0.0", port) for ip, port in listening(serving.pid)
        }
        wait_for(lambda: answers(f"http://{ANOTHER}:{s3}"))
        wait_for(lambda: answers(f"http://{ANOTHER}:{emr}"))
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(timeout=30)


def test_clients_are_told_an_address_that_answers(tmp_path: Path) -> None:
    """A cloud on one address of the machine tells clients that one, and they get there."""
    with LocalCloud(tmp_path, bind=ANOTHER) as cloud:
        told = cloud.environment()
        keys = {"aws_access_key_id": "localkey", "aws_secret_access_key": "localsecret"}
        s3 = boto3.client(
            "s3", endpoint_url=told["AWS_ENDPOINT_URL_S3"], region_name="eu-west-3", **keys
        )

        assert told["AWS_ENDPOINT_URL_EMR"].startswith(f"http://{ANOTHER}:")
        assert len(s3.list_buckets()["Buckets"]) == 2


@pytest.mark.parametrize("spelling", ["NO_PROXY", "no_proxy"])
def test_nothing_goes_by_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """Behind a proxy clients find the cloud, whichever spelling excepts hosts of one's own."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(spelling, "intranet.example, .internal")
    nobody = HeldPort()
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.number}")

    with LocalCloud(tmp_path, bind=ANOTHER) as cloud:
        told = os.environ | cloud.environment()
        command = [sys.executable, "-c", ASKS]
        asked = subprocess.run(command, env=told, capture_output=True, text=True, check=False)

    assert asked.stdout.split() == ["2", "[]", "400", "400"], asked.stderr
    direct = ".internal,127.0.0.1,127.0.0.2,intranet.example,localhost"
    assert (told["NO_PROXY"], told["no_proxy"]) == (direct, direct)


@pytest.mark.parametrize("service", ["s3", "emr"])
def test_port_that_was_asked_for_is_had_or_refused(tmp_path: Path, service: str) -> None:
    """Whoever named a port has told others about it: another one would be worse than none."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]

        with pytest.raises(RuntimeError, match=f"cannot have port {taken}"):
            LocalCloud(tmp_path, **{f"{service}_port": taken}).start()
