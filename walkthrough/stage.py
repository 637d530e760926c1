"""What the walkthrough stands on and does not explain: an S3, a Spark of two cores, figures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.environments import machine, storage
from benchmarks.spark import environment, local_settings
from fruits.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CORES = 2
PREFIX = "fruits"


@dataclass(frozen=True)
class Stage:
    """An S3 over *folder* that holds the images, and *figures*, where pictures of the page go."""

    folder: Path
    figures: Path
    settings: Settings

    @property
    def machine(self) -> str:
        """What the measured values are of."""
        return f"{CORES} cores of an {machine()['cpu']}"

    def keep(self, uri: str, name: str) -> None:
        """Keep an object of the lake as a picture of the page."""
        self.figures.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / "s3" / uri.removeprefix("s3://"), self.figures / name)

    def draw(self, figure: Figure, name: str) -> None:
        """Keep a figure as a picture of the page: the same figure, the same bytes."""
        import matplotlib as mpl

        from fruits_jobs.plots import FORMATS, STYLE

        self.figures.mkdir(parents=True, exist_ok=True)
        path = self.figures / name
        with mpl.rc_context(STYLE):
            figure.savefig(path, **FORMATS[path.suffix.removeprefix(".")])


@contextmanager
def set_up(folder: Path, figures: Path, images: Path, weights: str) -> Iterator[Stage]:
    """Serve an S3 with *images* (label folders) in it; clients and Spark of this process use it."""
    with storage(folder) as s3:
        shutil.copytree(images, s3.folder / "fruits-images" / PREFIX)
        conf = local_settings(CORES, str(s3.folder)).items()
        os.environ |= environment()
        words = " ".join(f"--conf {name}={value}" for name, value in conf)
        # What a cluster's spark-defaults are to the jobs.
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"{words} pyspark-shell"
        settings = Settings(
            images_uri=f"s3://fruits-images/{PREFIX}/",
            weights=weights,
            cache_folder=Path(os.environ.get("FRUITS_CACHE_FOLDER", folder / "cache")),
        )
        yield Stage(folder, figures, settings)
