"""How PyIceberg's files reach S3: patiently, and with one call for a small one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyiceberg.catalog import Catalog

from fruits.file_io import PatientFileIO
from fruits.lake import ensure_tables, open_catalog, open_table
from fruits.objects import list_uris
from local_cloud.s3 import ObjectStorage
from tests.chaos.faults import FaultProxy, Rule, failing, throttling
from tests.conftest import forget_credentials

PLACE = "s3://fruits-lake/tables/file-io/"


@pytest.fixture
def proxy(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Put a proxy between this process and S3; it has no rules, and a fixed seed for them."""
    monkeypatch.setattr("microburst.rules.random", random.Random(1))
    with FaultProxy(storage.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        monkeypatch.setenv("PYICEBERG_CATALOG__FRUITS__S3__ENDPOINT", proxy.url)
        yield proxy


@pytest.fixture
def catalog(proxy: FaultProxy) -> Catalog:
    """Return the catalog of an empty lake behind the proxy."""
    opened = open_catalog()
    ensure_tables(opened)
    return opened


@pytest.mark.parametrize(("profile", "given"), [("role", True), ("keys", False)])
def test_arrow_gets_the_credentials_that_it_does_not_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, given: bool
) -> None:
    """An administrator's profile often assumes a role: Arrow would ask S3 without a signature."""
    file = tmp_path / "config"
    file.write_text(
        "[profile keys]\naws_access_key_id = A\naws_secret_access_key = B\nregion = eu-west-3\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/Administrator\n"
        "source_profile = keys\nregion = eu-west-3\n"
    )
    forget_credentials(monkeypatch, tmp_path / "nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", profile)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{host}:{port}")
    opened = PatientFileIO({"s3.region": "eu-west-3"})._initialize_s3_fs("bucket")
    server.stop()

    _, (options,) = opened.__reduce__()
    assert bool(options["access_key"]) == given
    assert bool(options["session_token"]) == given


@pytest.mark.parametrize("name", ["metadata.avro", "data.parquet"])
def test_a_small_file_is_one_call(catalog: Catalog, proxy: FaultProxy, name: str) -> None:
    """No multipart upload: S3 is asked for none, and would have refused."""
    proxy.set_rules([failing("s3", operation="CreateMultipartUpload")])
    files = open_table("features", catalog).io

    with files.new_output(f"{PLACE}{name}").create() as stream:
        stream.write(b"all of it")

    assert isinstance(files, PatientFileIO)
    assert files.new_input(f"{PLACE}{name}").open().read() == b"all of it"
    assert proxy.fired == 0


@pytest.mark.parametrize("name", ["metadata.avro", "data.parquet"])
def test_a_file_is_there_or_not(catalog: Catalog, name: str) -> None:
    """PyIceberg is told in its own words, and what exists is not overwritten by chance."""
    files = open_table("features", catalog).io
    file = files.new_output(f"{PLACE}{name}")

    with pytest.raises(FileNotFoundError):
        files.new_input(f"{PLACE}{name}").open()
    with file.create() as stream:
        stream.write(b"12345")

    assert file.exists()
    assert len(files.new_input(f"{PLACE}{name}")) == 5
    with pytest.raises(FileExistsError):
        file.create()


@pytest.mark.parametrize("name", ["metadata.avro", "data.parquet"])
def test_a_deleted_file_leaves_nothing(catalog: Catalog, storage: ObjectStorage, name: str) -> None:
    """Nor an object that stands for its folder, as Arrow would; twice is as good as once."""
    files = open_table("features", catalog).io
    files.new_output(f"{PLACE}{name}").create().close()

    files.delete(f"{PLACE}{name}")
    files.delete(files.new_input(f"{PLACE}{name}"))

    assert list_uris(PLACE) == []


@pytest.mark.parametrize("fault", [throttling, failing])
def test_commits_survive_a_bad_hour(
    catalog: Catalog, proxy: FaultProxy, fault: Callable[..., Rule]
) -> None:
    """Almost every third call fails, and of four commits and their scan none does."""
    proxy.set_rules([fault("s3", 0.3)])
    table = open_table("quarantine", catalog)

    for number in range(4):
        table.append(row(f"{number}.jpg", table.schema().as_arrow()))
    found = open_table("quarantine", open_catalog()).scan().to_arrow()

    assert sorted(found["image_key"].to_pylist()) == [f"{number}.jpg" for number in range(4)]
    assert proxy.fired > 3


def test_a_footer_is_read_with_patience(catalog: Catalog, proxy: FaultProxy) -> None:
    """A data file whose reads are throttled is read all the same."""
    files = open_table("features", catalog).io
    rows = pa.table({"image_key": [str(number) for number in range(10_000)]})
    with files.new_output(f"{PLACE}rows.parquet").create() as stream:
        pq.write_table(rows, stream)
    proxy.set_rules([throttling("s3", 0.3)])

    for _ in range(20):
        with files.new_input(f"{PLACE}rows.parquet").open() as stream:
            assert pq.read_table(stream).num_rows == 10_000
    assert proxy.fired


@pytest.mark.parametrize("fault", [throttling, failing])
def test_small_columns_are_read_with_patience(
    catalog: Catalog, proxy: FaultProxy, fault: Callable[..., Rule]
) -> None:
    """An error whose text is longer than the column that was asked for is one like any other."""
    table = open_table("quarantine", catalog)
    table.append(row("1.jpg", table.schema().as_arrow()))
    proxy.set_rules([fault("s3", 0.3)])

    for _ in range(8):
        found = open_table("quarantine", catalog).scan(selected_fields=("etag",)).to_arrow()
        assert found["etag"].to_pylist() == ["1.jpg"]
    assert proxy.fired


def row(key: str, schema: pa.Schema) -> pa.Table:
    """Return one row of the quarantine table."""
    texts = {name: key for name in schema.names if schema.field(name).type == pa.large_string()}
    other = {"size_bytes": 1, "last_modified": datetime(2026, 1, 1, tzinfo=UTC)}
    return pa.Table.from_pylist([texts | other], schema=schema)
