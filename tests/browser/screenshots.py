"""The pictures in docs/page.md: the page and the report in every state that a person may meet.

    make screenshots

The states are those of tests/page/scenes.py and tests/page/reports.py, made with the library's own
writers over a local S3 and EMR. Two more are of a real run in a real Airflow.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fruits.page.readings import Reader, Reading, Readings
from fruits.rendering import render_template
from fruits.settings import Settings, load_settings
from tests.browser.chromium import ROOT, fetch, find
from tests.browser.small_airflow import small_airflow
from tests.end_to_end.airflow_runs import INGESTION
from tests.fruits.emr_support import cloud_in_environment
from tests.page.reports import bad_report, good_report
from tests.page.scenes import BUSY_FOR, CHOSEN, SCENES

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = ROOT / "docs" / "screenshots"
WIDTHS = {"desktop": 1200, "phone": 390}
SCHEMES = ("light", "dark")
TALLEST = 10_000  # of CSS, 15,000 of the screen
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
# A part of a page that lies too far down for a picture of its upper part: name, page, selector.
PARTS = (("page-quiet-model", "page-quiet", 'section[aria-labelledby="model"]'),)


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
            yield f"page-{scene}", _page(fill, load_settings(**CHOSEN.get(scene, {})))
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
    shown = {"data": data, "settings": settings, "dag_id": INGESTION, "off": Reading({})}
    return render_template("page.html.jinja", shown | {"nonce": "screenshot"})


def _aged(data: Readings) -> Readings:
    """Return what there is as if its cluster had lived for a while: here it is a second old."""
    clusters = (replace(one, age=BUSY_FOR, state="RUNNING") for one in data.clusters.value or ())
    return replace(data, clusters=Reading(tuple(clusters), data.clusters.trouble))


@contextmanager
def opened(browser: Any, html: str, width: int, scheme: str) -> Iterator[Any]:
    """Show the page in a window so wide."""
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1.5)
    page = context.new_page()
    page.set_content(html)
    yield page
    context.close()


def take(browser: Any, html: str, picture: Picture) -> bytes:
    """Return the picture of the page as a PNG: the whole, or as much as Chromium can take."""
    width = WIDTHS[picture.width]
    with opened(browser, html, width, picture.scheme) as page:
        tall = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
        clip = {"x": 0, "y": 0, "width": width, "height": tall}
        png: bytes = page.screenshot(full_page=True, clip=clip)
        return png


def take_part(browser: Any, html: str, selector: str) -> bytes:
    """Return the picture of one part of the page as a PNG."""
    with opened(browser, html, WIDTHS["desktop"], "light") as page:
        png: bytes = page.locator(selector).screenshot()
        return png


def airflow_pictures(browser: Any) -> Iterator[tuple[str, bytes]]:
    """Yield pictures of a real run of the DAG in a real Airflow, and of the page in its frame."""
    with TemporaryDirectory() as folder, small_airflow(Path(folder), Path(folder) / "c") as runs:
        run = runs.trigger(INGESTION, {})
        if run.state != "success":
            raise RuntimeError(f"A run that is to be shown is {run.state}: {run.states}")
        context = browser.new_context(
            base_url=runs.airflow.url,
            viewport={"width": 1200, "height": 850},
            color_scheme="light",
            device_scale_factor=1.5,
        )
        page = context.new_page()
        page.goto(f"/dags/{INGESTION}/runs/{quote(run.id)}")
        page.get_by_text("terminate_cluster").first.wait_for()
        page.wait_for_load_state("networkidle")
        yield "airflow-run", page.screenshot()
        page.goto("/")
        page.get_by_text("Fruits!", exact=True).first.click()
        frame = page.frame_locator('iframe[title="Fruits!"]')
        frame.get_by_role("heading", name="Batches").wait_for()
        yield "airflow-page", page.screenshot()
        context.close()


def smaller(png: bytes, height: int = 1800) -> bytes:
    """Return the upper part of the PNG, at most *height* pixels, with 256 colours: for a document.

    It is cut in a gap: where a line across has as few colours as any, not through a word.
    """
    from PIL.Image import Quantize
    from PIL.Image import open as open_image

    whole, small = open_image(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    bottom = min(whole.height, height)
    if bottom < whole.height:
        lines = range(bottom, bottom - 200, -1)
        bottom = min(lines, key=lambda at: _colours(whole.crop((0, at - 1, whole.width, at))))
    upper = whole.crop((0, 0, whole.width, bottom))
    # Median cut, the default, would give two of the few points' colours the same one.
    upper.quantize(256, Quantize.FASTOCTREE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _colours(line: Image) -> int:
    """Return how many colours the *line* has."""
    return len(line.getcolors(line.width) or ())


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
            for name, of, selector in PARTS:
                if of == page:
                    part = smaller(take_part(browser, html, selector))
                    (FOLDER / f"{name}.png").write_bytes(part)
        for name, png in airflow_pictures(browser):
            (FOLDER / f"{name}.png").write_bytes(smaller(png))
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}, all of them in {every}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
