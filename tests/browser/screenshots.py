"""The pictures in docs/page.md: the page and the report in every state that a person may meet.

    make screenshots

The states are those of tests/page/scenes.py and tests/page/reports.py, made with the library's own
writers over a local S3 and EMR.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fruits.page.readings import Reader, Reading, Readings
from fruits.rendering import render_template
from fruits.settings import Settings, load_settings
from tests.browser.chromium import ROOT, fetch, find
from tests.fruits.emr_support import cloud_in_environment
from tests.page.reports import bad_report, good_report
from tests.page.scenes import SCENES

FOLDER = ROOT / "docs" / "screenshots"
WIDTHS = {"desktop": 1200, "phone": 390}
SCHEMES = ("light", "dark")
# The upper part of what the documentation shows; all of all is in var/screenshots, to be looked at.
SHOWN = {
    "page-empty-desktop-light",
    "page-busy-desktop-light",
    "page-busy-phone-dark",
    "page-failing-desktop-dark",
    "page-failing-phone-light",
    "report-good-desktop-light",
    "report-bad-phone-dark",
}


@dataclass(frozen=True)
class Picture:
    """One page at one width, in light or dark."""

    page: str
    width: str
    scheme: str

    @property
    def name(self) -> str:
        """What its file is called, without .png."""
        return f"{self.page}-{self.width}-{self.scheme}"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the HTML of each page and report."""
    for scene, fill in SCENES.items():
        with TemporaryDirectory() as folder, cloud_in_environment(Path(folder)):
            yield f"page-{scene}", _page(fill, load_settings())
    for kind, write in (("good", good_report), ("bad", bad_report)):
        with TemporaryDirectory() as folder, cloud_in_environment(Path(folder)):
            yield f"report-{kind}", write(load_settings())


def _page(fill: Any, settings: Settings) -> str:
    from fruits.lake import ensure_tables, open_catalog
    from fruits.page import readings

    readings._catalog.cache_clear()
    readings._emr.cache_clear()
    ensure_tables(open_catalog())
    fill(settings)
    data = _aged(Reader(settings).read())
    shown = {"data": data, "settings": settings, "dag_id": "fruits_ingestion"}
    return render_template("page.html.jinja", shown | {"nonce": "screenshot"})


def _aged(data: Readings) -> Readings:
    """Return what there is as if its cluster had lived for a while: here it is a second old."""
    lived = timedelta(minutes=47)
    clusters = tuple(replace(one, age=lived, state="RUNNING") for one in data.clusters.value or ())
    return replace(data, clusters=Reading(clusters, data.clusters.trouble))


def take(browser: Any, html: str, picture: Picture) -> bytes:
    """Return the picture of the whole page as a PNG."""
    size = {"width": WIDTHS[picture.width], "height": 800}
    context = browser.new_context(
        viewport=size, color_scheme=picture.scheme, device_scale_factor=1.5
    )
    page = context.new_page()
    page.set_content(html)
    png: bytes = page.screenshot(full_page=True)
    context.close()
    return png


def smaller(png: bytes, height: int = 1800) -> bytes:
    """Return the upper part of the PNG, *height* pixels, with 256 colours: for a document."""
    from PIL import Image

    whole, small = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    upper = whole.crop((0, 0, whole.width, min(whole.height, height)))
    upper.quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> int:
    """Take every picture; those that the documentation shows go to docs/screenshots."""
    every = ROOT / "var" / "screenshots"
    for folder in (FOLDER, every):
        folder.mkdir(parents=True, exist_ok=True)
    chromium = find() or fetch()
    with chromium.running() as browser:
        for page, html in pages():
            for picture in (Picture(page, w, s) for w in WIDTHS for s in SCHEMES):
                png = take(browser, html, picture)
                (every / f"{picture.name}.png").write_bytes(png)
                if picture.name in SHOWN:
                    (FOLDER / f"{picture.name}.png").write_bytes(smaller(png))
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}, all of them in {every}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
