"""What the bucket and the tables hold, as any reader sees it, and whether they agree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits.lake import read

Version = tuple[str, str]


@dataclass(frozen=True)
class Tables:
    """Versions of images, (image_key, etag): in the bucket, in features, in components."""

    bucket: frozenset[Version]
    features: tuple[Version, ...]
    components: tuple[Version, ...]

    @property
    def complete(self) -> bool:
        """Whether both tables hold exactly what the bucket holds."""
        return self.bucket == set(self.features) == set(self.components)

    def problems(self, before: Tables, *, green: bool) -> list[str]:
        """Return what is wrong: after a green run all must be there, after a red one all or none.

        *before* is what there was before the run.
        """
        found = [
            f"an image is in {name} twice"
            for name, rows in (("features", self.features), ("components", self.components))
            if len(rows) != len({key for key, _ in rows})
        ]
        if green and not self.complete:
            found.append(
                f"green, but of {len(self.bucket)} images {len(self.features)} have features and "
                f"{len(self.components)} components"
            )
        if set(self.features) not in (set(before.features), set(self.bucket)):
            found.append("features are neither as they were nor complete")
        if set(self.components) not in (set(before.components), set(self.features)):
            found.append("components are neither as they were nor complete")
        return found


def read_tables(catalog: Any, buckets: Path) -> Tables:
    """Return what is there now; *buckets* is the folder that S3 serves."""
    images = buckets / "fruits-images"
    return Tables(
        frozenset(
            (str(file.relative_to(images)), hashlib.md5(file.read_bytes()).hexdigest())
            for file in images.rglob("*.jpg")
        ),
        _versions(catalog, "features"),
        _versions(catalog, "components"),
    )


def _versions(catalog: Any, name: str) -> tuple[Version, ...]:
    if not catalog.table_exists(("fruits", name)):
        return ()
    rows = read(name, catalog).select("image_key", "etag")
    return tuple((row["image_key"], row["etag"]) for row in rows.to_arrow().to_pylist())
