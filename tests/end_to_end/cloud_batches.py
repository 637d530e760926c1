"""Whole batches against a local cloud of their own, as `make batch` runs them."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from fruits.lake import open_catalog, open_table, read
from local_cloud.cloud import LocalCloud
from local_cloud.emr.journal import accepted_calls

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class CloudBatches:
    """Runs batches over the images under *images*, a folder of the images bucket.

    *weights* is a setting: a file, or seeded. Weights that are made are kept in *cache_folder*.
    Steps run in *node_python*, which has what nodes have.
    """

    cloud: LocalCloud
    weights: str
    cache_folder: Path
    node_python: Path

    @property
    def images(self) -> Path:
        """The images' folder, served as s3://fruits-images/fruits/."""
        return self.cloud.storage.folder / "fruits-images" / "fruits"

    def run(self, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run one batch; *settings* (lower case) become FRUITS_* variables."""
        chosen = {
            "IMAGES_URI": "s3://fruits-images/fruits/",
            "WEIGHTS": self.weights,
            "NODE_PYTHON": str(self.node_python),
            "CACHE_FOLDER": str(self.cache_folder),
            "POLL_SECONDS": "0.2",
            "PRICES_MAX_AGE_DAYS": "36500",
        } | {name.upper(): str(value) for name, value in settings.items()}
        return self.python("fruits.batch", **{f"FRUITS_{k}": v for k, v in chosen.items()})

    def python(
        self, module: str, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a module of the library as a command, with more *variables*."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def here(self, module: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the library in this process, whose environment `cloud` has set.

        It is soon over: a process of its own would import PyIceberg for longer.
        """
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = importlib.import_module(module).main([*words])
        return subprocess.CompletedProcess(
            [module, *words], code, stdout.getvalue(), stderr.getvalue()
        )

    def export(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Export something, as `make export` does."""
        return self.here("fruits.exports", *words)

    def pixels(self, keys: list[str]) -> np.ndarray:
        """Return images as a phone would hand them to the network, uint8[N, 224, 224, 3]."""
        images = (Image.open(self.images / key.removeprefix("fruits/")) for key in keys)
        bilinear = Image.Resampling.BILINEAR
        return np.stack([np.asarray(i.convert("RGB").resize((224, 224), bilinear)) for i in images])

    def model_folder(self, version: str) -> Path:
        """Return where a PCA version lies, read from the disk."""
        return self.cloud.storage.folder / "fruits-lake" / "models" / "pca" / version

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which clients find the cloud and Python finds the library."""
        paths = os.pathsep.join(str(ROOT / part) for part in ("plugins", "spark_jobs"))
        return os.environ | self.cloud.environment() | {"PYTHONPATH": paths}

    def add(self, source: Path, name: str) -> None:
        """Copy *source* into the bucket as *name* (label/file)."""
        target = self.images / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def clusters_created(self) -> int:
        """Count the RunJobFlow calls that the endpoint accepted."""
        return len(accepted_calls(self.cloud.folder / "emr" / "journal.jsonl", "RunJobFlow"))

    def rows(self, table: str, *columns: str) -> pa.Table:
        """Return the rows of *table* as it is read by default, sorted by image_key."""
        scan = read(table, open_catalog()).select(*(columns or ("*",)))
        return scan.to_arrow().sort_by("image_key")

    def report(self) -> dict[str, Any]:
        """Return the newest batch's row of `runs`; it has a page, too."""
        row = open_table("runs").scan().to_arrow().sort_by("reported_at").to_pylist()[-1]
        folder = self.cloud.storage.folder / "fruits-lake" / "reports" / row["batch"]
        assert row["batch"] in (folder / "report.html").read_text()
        return dict(row)

    def versions(self, table: str) -> set[tuple[str, str]]:
        """Return the (image_key, etag) pairs of *table*."""
        rows = self.rows(table, "image_key", "etag").to_pylist()
        assert len(rows) == len({row["image_key"] for row in rows}), "an image is there twice"
        return {(row["image_key"], row["etag"]) for row in rows}

    def result(self, step: str) -> dict[str, Any]:
        """Return the result.json of the newest attempt at *step*."""
        attempts = self.cloud.storage.folder / "fruits-lake" / "attempts"
        newest = max(attempts.glob(f"*/{step}-*/result.json"))
        content: dict[str, Any] = json.loads(newest.read_text())
        return content
