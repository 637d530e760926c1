"""The whole featurize step on a local Spark: every image once, in the contract's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from featurize import OutcomesDoNotAddUp, featurize
from fruits_jobs.arguments import featurize_parser
from fruits_jobs.engines import LiteRtEngine
from fruits_jobs.images import decode
from fruits_jobs.schemas import CHANGED, FEATURES, QUARANTINE
from tests.fruits.lake_search import Image as KnownBy
from tests.fruits.lake_search import search
from tests.spark_jobs.batches import photo
from tests.spark_jobs.flaky_s3 import flaky_s3

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mixed() -> dict[str, bytes]:
    """Forty good images in two labels, and one of each kind of bad bytes."""
    good = {f"run/Été 100%={i % 2}/a+{i:02d} 'x'.jpg": photo(i) for i in range(40)}
    whole = photo(99)
    bad = {"zero.jpg": b"", "cut.jpg": whole[: len(whole) // 2], "text.jpg": b"hello, fruit" * 9}
    return good | {f"run/bad/{name}": data for name, data in bad.items()}


def test_every_image_becomes_exactly_one_row(spark, make_batch, mixed):
    """Good images are features, undecodable bytes quarantine with a reason, none is lost."""
    batch = make_batch(mixed)

    result = featurize(batch.arguments(), spark)

    features, quarantine = (batch.table(result[kind]) for kind in ("features", "quarantine"))
    assert sorted(features["image_key"].to_pylist() + quarantine["image_key"].to_pylist()) == (
        sorted(mixed)
    )
    assert result["quarantine"]["reasons"] == {"empty": 1, "truncated": 1, "not_an_image": 1}
    assert result["changed"]["rows"] == 0
    written = json.loads(
        (batch.folder / "fruits-lake/attempts/b/featurize-1/result.json").read_text()
    )
    assert written == result


def test_files_have_the_contracts_schema_and_order(spark, make_batch, mixed):
    """Columns, types and nullability are the contract's; rows are sorted by label and key."""
    batch = make_batch(mixed)

    result = featurize(batch.arguments(), spark)

    features, quarantine = (batch.table(result[kind]) for kind in ("features", "quarantine"))
    assert features.schema.equals(FEATURES)
    assert quarantine.schema.equals(QUARANTINE)
    keys = list(zip(features["label"].to_pylist(), features["image_key"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    listed = result["features"]["files"][0]
    path = batch.folder / listed["uri"].removeprefix("s3://")
    assert (listed["rows"], listed["bytes"]) == (40, path.stat().st_size)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).statistics.has_min_max


def test_features_are_the_networks_own(spark, make_batch, mixed, network):
    """A row's features are those of its own image's pixels, not of a neighbour's."""
    batch = make_batch(mixed)

    rows = batch.table(featurize(batch.arguments(), spark)["features"]).to_pylist()

    engine = LiteRtEngine(network.network.read_bytes())
    for row in rows[::7]:
        pixels = decode(mixed[row["image_key"]]).pixels
        np.testing.assert_array_equal(row["features"], engine.features(pixels[None])[0])


def test_the_engines_agree(spark, make_batch):
    """The tensorflow engine gives the features of litert within 1e-4."""
    batch = make_batch({f"run/a/{i}.jpg": photo(i) for i in range(6)})

    litert = batch.table(featurize(batch.arguments(attempt="1"), spark)["features"])
    keras = batch.table(
        featurize(batch.arguments(attempt="2", engine="tensorflow"), spark)["features"]
    )

    assert litert["image_key"] == keras["image_key"]
    difference = np.abs(np.array(litert["features"].to_pylist()) - keras["features"].to_pylist())
    assert difference.max() < 1e-4


def test_the_step_replaces_committed_files(spark, make_batch):
    """Rows listed for rewriting leave their file, but for those of images that changed again."""
    batch = make_batch({f"run/a/{i}.jpg": photo(i) for i in range(6)})
    first = featurize(batch.arguments(), spark)
    (old,) = first["features"]["files"]
    before = batch.table(first["features"])
    (batch.folder / "fruits-images/run/a/4.jpg").write_bytes(photo(77))
    doomed = {"uri": [old["uri"]] * 2, "position": [1, 4]}
    keys = {"image_key": ["run/a/1.jpg", "run/a/4.jpg"]}
    pq.write_table(pa.table(doomed | keys), batch.folder / "fruits-lake/rewrites.parquet")
    words = [*batch.words(attempt="2"), "--rewrites", "s3://fruits-lake/rewrites.parquet"]

    result = featurize(featurize_parser().parse_args(words), spark)

    (copy,) = result["rewritten"]
    assert (copy["old"], copy["rows"]) == (old["uri"], 5)
    assert copy["uri"].startswith("s3://fruits-lake/tables/features/data/b/2/rewritten-00000-")
    assert batch.table({"files": [copy]}).equals(before.take([0, 2, 3, 4, 5]))
    assert result["changed"]["rows"] == 1


def test_where_and_with_what_a_photo_was_taken_stays_in_it(spark, make_batch):
    """EXIF's place and device reach no output, be the image whole or broken."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "SECRET-CAMERA"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = b"SECRET-PLACE"
    taken = photo(1, exif=exif.tobytes())
    batch = make_batch({"run/a/whole.jpg": taken, "run/a/cut.jpg": taken[: len(taken) // 2]})
    secret = KnownBy(("SECRET-CAMERA", "SECRET-PLACE"), ())
    assert all(word.encode() in taken for word in secret.words)

    result = featurize(batch.arguments(), spark)

    assert (result["features"]["rows"], result["quarantine"]["rows"]) == (1, 1)
    assert search(batch.folder / "fruits-lake", secret) == set()


def test_an_image_that_changed_since_the_listing_is_counted_as_such(spark, make_batch):
    """Replaced and deleted images are neither features nor quarantine."""
    batch = make_batch({f"run/a/{i}.jpg": photo(i) for i in range(4)})
    (batch.folder / "fruits-images/run/a/1.jpg").write_bytes(photo(77))
    (batch.folder / "fruits-images/run/a/2.jpg").unlink()

    result = featurize(batch.arguments(), spark)

    changed = batch.table(result["changed"])
    assert changed.schema.equals(CHANGED)
    found = dict(zip(changed["image_key"].to_pylist(), changed["reason"].to_pylist(), strict=True))
    assert found == {"run/a/1.jpg": "changed", "run/a/2.jpg": "vanished"}
    assert (result["features"]["rows"], result["quarantine"]["rows"]) == (2, 0)


def test_an_s3_that_fails_a_third_of_the_gets_loses_nothing(
    spark, make_batch, mixed, storage, monkeypatch
):
    """Failed reads are read again: no image is lost, and none is blamed for it."""
    batch = make_batch(mixed)

    with flaky_s3(storage.endpoint_url, "fruits-images", share=1 / 3) as proxy:
        address = f"http://127.0.0.1:{proxy.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        spark.sparkContext.environment["AWS_ENDPOINT_URL_S3"] = address
        result = featurize(batch.arguments(), spark)

    assert proxy.failed > len(mixed) / 5
    assert result["features"]["rows"] == 40
    assert result["quarantine"]["reasons"] == {"empty": 1, "truncated": 1, "not_an_image": 1}
    assert result["changed"]["rows"] == 0


def test_an_empty_manifest_is_a_result_of_nothing(spark, make_batch):
    """No image is no error: the result lists no files."""
    batch = make_batch({})

    result = featurize(batch.arguments(), spark)

    assert result["images"] == 0
    assert all(result[kind]["files"] == [] for kind in ("features", "quarantine", "changed"))


def test_a_killed_worker_costs_a_retry_and_no_image(spark, make_batch, tmp_path, monkeypatch):
    """After a Python worker dies in the middle of a task, each image is there exactly once."""
    images = {f"run/a/{i:03d}.jpg": photo(i) for i in range(150)}
    batch = make_batch(images)
    marker = tmp_path / "died"
    monkeypatch.setattr("fruits_jobs.featurizing_plan.featurize_range", dying(marker))

    result = featurize(batch.arguments(), spark)

    assert marker.exists()
    assert sorted(batch.table(result["features"])["image_key"].to_pylist()) == sorted(images)


def dying(marker: Path):
    """Return a featurize_range whose second batch kills its process, the first time only."""

    def featurize_range(*arguments):
        import os
        import signal

        from fruits_jobs.featurizing import featurize_range as real

        for count, rows in enumerate(real(*arguments)):
            yield rows.slice(0, 10)
            if count == 0 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield rows.slice(10)

    return featurize_range


def test_rows_that_do_not_add_up_fail_the_step(spark, make_batch, monkeypatch):
    """A result is written only when every image of the manifest has an outcome."""
    batch = make_batch({f"run/a/{i}.jpg": photo(i) for i in range(3)})

    def forgetful(*arguments):
        from fruits_jobs.featurizing import featurize_range as real

        for rows in real(*arguments):
            yield rows.slice(1)

    monkeypatch.setattr("fruits_jobs.featurizing_plan.featurize_range", forgetful)

    with pytest.raises(OutcomesDoNotAddUp, match="lists 3 images, but 2"):
        featurize(batch.arguments(), spark)
    assert not (batch.folder / "fruits-lake/attempts/b/featurize-1/result.json").exists()


def test_a_network_of_another_name_is_refused(spark, make_batch, network):
    """Features must never be stored under the name of weights that did not make them."""
    batch = make_batch({"run/a/1.jpg": photo(1)})
    arguments = Namespace(**vars(batch.arguments()) | {"feature_model": "MobileNetV2-other"})

    with pytest.raises(ValueError, match=f"makes features of {network.feature_model}, not"):
        featurize(arguments, spark)


def submit(job_zip: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run featurize.py through spark-submit as EMR does, with the zip as --py-files."""
    command = [Path(sys.executable).with_name("spark-submit"), "--master", "local[2,4]"]
    command += ["--py-files", job_zip, ROOT / "spark_jobs" / "featurize.py", *words]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYSPARK_GATEWAY")}
    return subprocess.run(
        list(map(str, command)),
        env=environment | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_spark_submit_runs_the_entry_point_from_the_zip(make_batch, job_zip):
    """The command that Airflow builds is all that a cluster needs; stdout ends in a summary."""
    batch = make_batch({f"run/a/{i}.jpg": photo(i) for i in range(5)})

    done = submit(job_zip, batch.words())

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith("featurize: 5 features, 0 quarantined")
    progress = batch.folder / "fruits-lake/attempts/b/featurize-1/progress.json"
    assert json.loads(progress.read_text())["done"] == 5


def test_a_failure_ends_with_its_cause_on_one_line(make_batch, job_zip):
    """Whoever opens stderr at night finds what is wrong in one line, and the exit code says so."""
    batch = make_batch({"run/a/1.jpg": photo(1)})
    (batch.folder / "fruits-lake/manifests/added.parquet").unlink()

    done = submit(job_zip, batch.words())

    assert done.returncode != 0
    causes = [line for line in done.stderr.splitlines() if line.startswith("featurize failed: ")]
    assert len(causes) == 1
    assert "s3://fruits-lake/manifests/added.parquet" in causes[0]
