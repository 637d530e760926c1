"""The days of a small orchard, told in order: what arrives, changes and vanishes."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pyarrow.compute as pc
import pytest
from nbclient import NotebookClient

from local_cloud.samples import draw_samples
from tests.end_to_end.cloud_batches import ROOT, CloudBatches
from tests.fruits.lake_search import Image, search

FIRST = 60


@pytest.fixture(scope="module")
def orchard(batches: CloudBatches, tmp_path_factory: pytest.TempPathFactory) -> CloudBatches:
    """Fill the bucket with 60 images of 5 labels; some of their names need care."""
    drawn = tmp_path_factory.mktemp("drawn")
    draw_samples(drawn, labels=5, images=12)
    for number, image in enumerate(sorted(drawn.rglob("*.jpg"))):
        batches.add(image, f"{image.parent.name}/{NAMES[number % len(NAMES)]}{number}.jpg")
    (batches.images / "notes.txt").write_text("not an image, and not named like one")
    return batches


NAMES = ("plain", "with space ", "é", "a=b ", "50% ", "a+b ", 'it\'s "quoted" ', "% 20 %20 ")


class TestOrchard:
    """One story: each test begins where the one before it ended."""

    def test_day_1_every_image_becomes_features_and_components(self, orchard: CloudBatches) -> None:
        """A first batch processes everything that is an image by name, whatever it is called."""
        done = orchard.run()

        assert done.returncode == 0, done.stdout + done.stderr
        assert len(orchard.versions("features")) == FIRST
        assert orchard.versions("components") == orchard.versions("features")
        assert orchard.versions("quarantine") == set()
        assert "not images by name" in done.stdout
        report = orchard.report()
        assert (report["outcome"], report["run_id"]) == ("success", None)
        assert (report["added"], report["features"], report["ignored"]) == (FIRST, FIRST, 1)
        assert report["actual_cost"] <= report["worst_case"]

    def test_day_2_nothing_new_costs_nothing(self, orchard: CloudBatches) -> None:
        """Without a change there is no cluster."""
        before = orchard.clusters_created()

        done = orchard.run()

        assert done.returncode == 0, done.stdout + done.stderr
        assert orchard.clusters_created() == before

    def test_day_3_only_what_changed_is_computed(
        self, orchard: CloudBatches, tmp_path: Path
    ) -> None:
        """10 added, 3 replaced, 2 deleted: 13 featurized, 5 rows go, all others stay as is."""
        before = {row["image_key"]: row for row in orchard.rows("features").to_pylist()}
        draw_samples(tmp_path, labels=5, images=15)
        new = [path for number in (12, 13, 14) for path in tmp_path.rglob(f"{number}_*.jpg")]
        for number, image in enumerate(new[:10]):
            orchard.add(image, f"New Fruit/{number}.jpg")
        keys = sorted(before)
        for key, image in zip(keys[:3], new[10:13], strict=True):
            orchard.add(image, key.removeprefix("fruits/"))
        for key in keys[3:5]:
            (orchard.images / key.removeprefix("fruits/")).unlink()

        done = orchard.run()
        after = {row["image_key"]: row for row in orchard.rows("features").to_pylist()}

        assert done.returncode == 0, done.stdout + done.stderr
        assert orchard.result("featurize")["features"]["rows"] == 13
        assert len(after) == FIRST + 10 - 2
        assert all(after[key] == before[key] for key in keys[5:])
        assert all(after[key]["etag"] != before[key]["etag"] for key in keys[:3])
        assert orchard.versions("components") == orchard.versions("features")

    def test_day_4_deletions_need_no_cluster(self, orchard: CloudBatches) -> None:
        """Two images gone: two rows fewer in every table, and no cluster."""
        before, clusters = orchard.versions("features"), orchard.clusters_created()
        gone = sorted(before)[:2]
        for key, _ in gone:
            (orchard.images / key.removeprefix("fruits/")).unlink()

        done = orchard.run()

        assert done.returncode == 0, done.stdout + done.stderr
        assert orchard.versions("features") == before - set(gone)
        assert orchard.versions("components") == before - set(gone)
        assert orchard.clusters_created() == clusters

    def test_day_5_a_mistyped_prefix_removes_nothing(self, orchard: CloudBatches) -> None:
        """A prefix that matches some of the images touches none of the others."""
        before, clusters = orchard.versions("features"), orchard.clusters_created()

        done = orchard.run(images_uri="s3://fruits-images/fruits/New")
        nothing = orchard.run(images_uri="s3://fruits-images/no such folder/")

        assert (done.returncode, nothing.returncode) == (0, 0), done.stdout + nothing.stdout
        assert orchard.versions("features") == before
        assert orchard.clusters_created() == clusters

    def test_day_6_an_emptied_bucket_asks_before_it_empties_the_lake(
        self, orchard: CloudBatches, tmp_path: Path
    ) -> None:
        """Nothing is removed without confirmation; the error says how many and what to do."""
        before = orchard.versions("features")
        shutil.move(orchard.images, tmp_path / "aside")

        done = orchard.run()
        shutil.move(tmp_path / "aside", orchard.images)

        assert done.returncode == 1
        assert f"{len(before)} of the {len(before)} images" in done.stdout
        assert "confirmed" in done.stdout
        assert orchard.versions("features") == before

    def test_day_7_confirmed_removals_happen(self, orchard: CloudBatches) -> None:
        """Half the images gone, and confirmed: half the rows go, without a cluster."""
        before, clusters = orchard.versions("features"), orchard.clusters_created()
        gone = sorted(before)[::2]
        for key, _ in gone:
            (orchard.images / key.removeprefix("fruits/")).unlink()

        refused = orchard.run()
        done = orchard.run(confirm_removals=True)

        assert (refused.returncode, done.returncode) == (1, 0), refused.stdout + done.stdout
        assert orchard.versions("features") == before - set(gone)
        assert orchard.versions("components") == before - set(gone)
        assert orchard.clusters_created() == clusters

    def test_day_8_too_many_broken_images_fail_before_the_commit(
        self, orchard: CloudBatches
    ) -> None:
        """A broken camera is noticed: the batch fails, names the reasons, and commits nothing."""
        before = orchard.versions("features")
        broken = orchard.images / "Broken"
        broken.mkdir()
        whole = next((orchard.images / "New Fruit").glob("*.jpg")).read_bytes()
        (broken / "empty.jpg").write_bytes(b"")
        (broken / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
        (broken / "letter.jpg").write_text("Dear camera, ...")
        (broken / "fine.jpg").write_bytes(whole + b"\0")

        done = orchard.run(quarantine_allowance=2)

        assert done.returncode == 1
        assert "3 of 4 images could not be decoded" in done.stdout
        assert orchard.versions("features") == before
        assert orchard.versions("quarantine") == set()
        report = orchard.report()
        assert (report["outcome"], report["failed_tasks"]) == ("failed", "commit_features")
        assert report["cluster_id"]

    def test_day_9_quarantined_images_are_rows_with_reasons(self, orchard: CloudBatches) -> None:
        """So few are never too many: the broken ones are rows, the whole one is featurized."""
        before = orchard.versions("features")

        done = orchard.run()
        reasons = orchard.rows("quarantine", "image_key", "reason")
        again = orchard.run()

        assert (done.returncode, again.returncode) == (0, 0), done.stdout + again.stdout
        assert dict(zip(*(column.to_pylist() for column in reasons.columns), strict=True)) == {
            "fruits/Broken/empty.jpg": "empty",
            "fruits/Broken/letter.jpg": "not_an_image",
            "fruits/Broken/truncated.jpg": "truncated",
        }
        assert {key for key, _ in orchard.versions("features") - before} == {
            "fruits/Broken/fine.jpg"
        }

    def test_day_10_an_erased_image_is_nowhere(self, orchard: CloudBatches) -> None:
        """What real steps wrote of it is found in many places, and after the erasure in none."""
        lake = orchard.cloud.storage.folder / "fruits-lake"
        before = orchard.versions("features")
        key, etag = sorted(before)[0]
        (row,) = (r for r in orchard.rows("features").to_pylist() if r["image_key"] == key)
        (less,) = (r for r in orchard.rows("components").to_pylist() if r["image_key"] == key)
        image = Image((key, etag), (row["features"], less["components"]))
        found = {trace.where for trace in search(lake, image)}

        done = orchard.python("fruits.erasures", "--yes", key)

        assert done.returncode == 0, done.stdout + done.stderr
        assert found >= {"parquet values", "parquet vectors", "parquet dictionary", "avro"}
        assert search(lake, image) == set()
        assert orchard.versions("features") == before - {(key, etag)}
        assert orchard.versions("components") == orchard.versions("features")

    def test_in_the_end_tables_and_bucket_agree(self, orchard: CloudBatches) -> None:
        """Every image of the bucket is in features or in quarantine, and nothing else is."""
        keys = {
            f"fruits/{path.relative_to(orchard.images)}" for path in orchard.images.rglob("*.jpg")
        }
        known = orchard.versions("features") | orchard.versions("quarantine")
        vectors = orchard.rows("features", "image_key", "features")["features"]

        assert {key for key, _ in known} == keys
        assert orchard.versions("components") == orchard.versions("features")
        assert pc.unique(pc.list_value_length(vectors)).to_pylist() == [1280]

    def test_components_are_what_their_model_makes_of_the_features(
        self, orchard: CloudBatches
    ) -> None:
        """Whichever days fitted, kept or removed: each row is its image's projection, and exact."""
        features, rows = orchard.rows("features"), orchard.rows("components")
        (version,) = set(rows["model_version"].to_pylist())
        model = np.load(orchard.model_folder(version) / "pca.npz")
        X = np.stack(features["features"].to_numpy()).astype(np.float64)

        expected = (X - model["mean"]) / model["scale"] @ model["basis"]

        assert rows["image_key"].to_pylist() == features["image_key"].to_pylist()
        found = np.stack(rows["components"].to_numpy())
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(X)

    def test_the_tables_can_be_exported(self, orchard: CloudBatches, tmp_path: Path) -> None:
        """One command, one file: all rows, a column per number."""
        target = tmp_path / "components.csv"
        words = ("components", "--format", "csv", "--output", str(target))

        done = orchard.python("fruits.exports", *words)

        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(orchard.versions('features'))} rows" in done.stdout
        assert '"components_0"' in target.read_text().partition("\n")[0]

    def test_the_notebook_shows_the_nearest_fruits(self, orchard: CloudBatches) -> None:
        """docs/explore.ipynb runs as it is; a photo of the tables is nearest to itself."""
        notebook = nbformat.read(ROOT / "docs" / "explore.ipynb", as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells)

        NotebookClient(notebook, timeout=120).execute(env=orchard.environment)
        shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        (nearest,) = (o for o in shown if "distance" in o.get("data", {}).get("text/plain", ""))
        first = nearest["data"]["text/plain"].splitlines()[1].split()

        assert float(first[-1]) < 1e-3
        assert sum("image/png" in output.get("data", {}) for output in shown) == 2
