"""Another network comes in beside the first, is switched to, and back: told in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fruits.lake import current_feature_model, current_version, open_table
from local_cloud.samples import draw_samples
from tests.conftest import put_networks
from tests.end_to_end.cloud_batches import CloudBatches

FIRST, OTHER = "MobileNetV2", "MobileNet"
IMAGES = 24
LENGTHS = {FIRST: 1280, OTHER: 1024}


@pytest.fixture(scope="module")
def orchard(batches: CloudBatches, tmp_path_factory: pytest.TempPathFactory) -> CloudBatches:
    """Fill the bucket with 24 images of 4 labels, and ingest them with the first network."""
    put_networks(batches.cache_folder, batches.cloud.storage.folder / "fruits-lake")
    drawn = tmp_path_factory.mktemp("drawn")
    draw_samples(drawn, labels=4, images=IMAGES // 4)
    for image in sorted(drawn.rglob("*.jpg")):
        batches.add(image, f"{image.parent.name}/{image.name}")
    done = batches.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return batches


@pytest.fixture(scope="module")
def before(orchard: CloudBatches) -> list[pa.Table]:
    """Return what readers have of the first network."""
    return read_now(orchard)


def read_now(orchard: CloudBatches) -> list[pa.Table]:
    """Return features and components as a notebook reads them."""
    return [orchard.rows(name) for name in ("features", "components")]


def exported(orchard: CloudBatches, target: Path) -> pa.Table:
    """Return the components as `make export` writes them."""
    done = orchard.export("components", "--output", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    return pq.read_table(target).sort_by("image_key")


def feature_models(orchard: CloudBatches, *words: str) -> tuple[int, str]:
    """List the feature models, or switch, as `make switch-model` does."""
    # The list, which is asked for once, by `python -m`: that has to work, too.
    run = orchard.here if words else orchard.python
    done = run("fruits.feature_models", *words)
    return done.returncode, " ".join(done.stdout.split())


def name_of(backbone: str) -> str:
    """Return the feature model in the tables that is of *backbone*."""
    models = set(open_table("features").scan(selected_fields=("feature_model",)).to_arrow()[0])
    (name,) = (str(model) for model in models if str(model).startswith(f"{backbone}-"))
    return name


def model(orchard: CloudBatches) -> dict[str, Any]:
    """Return model.json of the PCA version that readers have."""
    version = current_version()
    assert version
    described: dict[str, Any] = json.loads(
        (orchard.model_folder(version) / "model.json").read_text()
    )
    return described


def require_read(rows: list[pa.Table], backbone: str, images: int) -> None:
    """Check that features and components are of *backbone*, of every image, and of one version."""
    features, components = rows
    assert set(features["feature_model"].to_pylist()) == {name_of(backbone)}
    assert {len(vector) for vector in features["features"].to_pylist()} == {LENGTHS[backbone]}
    assert features.num_rows == images
    assert components["image_key"].to_pylist() == features["image_key"].to_pylist()
    assert set(components["model_version"].to_pylist()) == {current_version()}


class TestOrchardWithTwoNetworks:
    """One story: each test begins where the one before it ended."""

    def test_a_reprocess_changes_nothing_for_readers(
        self, orchard: CloudBatches, before: list[pa.Table], tmp_path: Path
    ) -> None:
        """All images again, beside the others: tables, export and model are as they were."""
        export = exported(orchard, tmp_path / "before.parquet")

        done = orchard.run(reprocess=OTHER)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "computed beside" in done.stdout
        assert orchard.result("featurize")["features"]["rows"] == IMAGES
        assert orchard.result("pca")["model"]["feature_model"] == name_of(OTHER)
        assert read_now(orchard) == before
        assert exported(orchard, tmp_path / "after.parquet") == export
        assert model(orchard)["feature_model"] == name_of(FIRST)

    def test_b_the_command_knows_both(self, orchard: CloudBatches) -> None:
        """It tells what there is, and refuses what there is not."""
        code, listed = feature_models(orchard)
        unknown, refused = feature_models(orchard, "MobileNot-1")

        assert (code, unknown) == (0, 1)
        assert f"{name_of(FIRST)} (current): {IMAGES} images" in listed
        assert f"{name_of(OTHER)} (beside it): {IMAGES} images" in listed
        assert name_of(OTHER) in refused
        assert current_feature_model() == name_of(FIRST)

    def test_c_a_switch_is_one_commit(self, orchard: CloudBatches, tmp_path: Path) -> None:
        """One new metadata file of one table; readers, export and model go over together."""
        tables = [open_table(name) for name in ("features", "components", "quarantine", "runs")]
        locations = [table.metadata_location for table in tables]
        clusters = orchard.clusters_created()

        code, said = feature_models(orchard, name_of(OTHER))

        assert code == 0, said
        changed = [table.refresh().metadata_location for table in tables]
        assert changed[1:] == locations[1:]
        assert tables[0].metadata.metadata_log[-1].metadata_file == locations[0]
        require_read(read_now(orchard), OTHER, IMAGES)
        assert (model(orchard)["feature_model"], model(orchard)["n_features"]) == (
            name_of(OTHER),
            LENGTHS[OTHER],
        )
        rows = exported(orchard, tmp_path / "components.parquet")
        assert set(rows["model_version"].to_pylist()) == {current_version()}
        assert orchard.clusters_created() == clusters

    def test_d_the_next_day_goes_on_with_it(self, orchard: CloudBatches, tmp_path: Path) -> None:
        """Settings that still name the first network are overruled by the tables, and told so.

        It is the day of an upgrade, too: the jobs are others than those that made the model, and
        have to prove with its weights, which only the lake has, that they compute the same.
        """
        origin = orchard.cloud.storage.folder / f"fruits-lake/networks/{name_of(OTHER)}.json"
        origin.write_text(json.dumps(json.loads(origin.read_text()) | {"jobs": "older ones"}))
        draw_samples(tmp_path, labels=1, images=14)
        for image in sorted(tmp_path.rglob("*1[23]_*.jpg")):
            orchard.add(image, f"New Fruit/{image.name}")

        done = orchard.run()

        assert done.returncode == 0, done.stdout + done.stderr
        assert f"The settings ask for the backbone {FIRST}" in done.stdout
        assert orchard.result("featurize")["feature_model"] == name_of(OTHER)
        assert orchard.result("featurize")["features"]["rows"] == 2
        assert orchard.result("pca")["model"]["feature_model"] == name_of(OTHER)
        require_read(read_now(orchard), OTHER, IMAGES + 2)
        assert json.loads(origin.read_text())["jobs"] != "older ones"
        assert json.loads(origin.read_text())["source"] == "seeded"

    def test_e_switching_back_gives_what_there_was(
        self, orchard: CloudBatches, before: list[pa.Table]
    ) -> None:
        """The first network lacks the new images: that is said, and can be accepted."""
        refused, why = feature_models(orchard, name_of(FIRST))
        code, said = feature_models(orchard, "--accept-missing", name_of(FIRST))

        assert (refused, code) == (1, 0), said
        assert "2 have no features" in why
        assert read_now(orchard) == before
