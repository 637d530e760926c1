"""Writes docs/walkthrough.md: template.md with what its code prints on real images.

    make walkthrough
    make walkthrough IMAGES=<folder of label folders> WEIGHTS=<file.h5>

Without real images the page is about drawn ones and goes to var/walkthrough.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from fruits.errors import FruitsError
from local_cloud.samples import draw_samples
from walkthrough.literate import ROOT, weave
from walkthrough.stage import set_up

TEMPLATE = Path(__file__).with_name("template.md")
SHARED = ROOT.parent / "shared"
HEADLESS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


def main(arguments: list[str] | None = None) -> int:
    """Write the page; 0, or 1 with what is wrong."""
    options = _parser().parse_args(arguments)
    # Told to end, it ends its S3 and Spark, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    images, weights, output = options.images, options.weights, options.output
    if images is None and (SHARED / "data" / "fruits360").is_dir():
        images = SHARED / "data" / "fruits360"
        weights = weights or str(SHARED / "weights" / HEADLESS)
    output = output or (ROOT / "docs" if images else ROOT / "var" / "walkthrough")
    if images is None:
        images = ROOT / "var" / "samples"
        draw_samples(images)
    try:
        page = make_page(images, weights or "auto", output / "walkthrough")
    except FruitsError as error:
        print(error, file=sys.stderr)
        return 1
    (output / "walkthrough.md").write_text(page)
    print(f"{output / 'walkthrough.md'} is of the images in {images}")
    return 0


def make_page(images: Path, weights: str, figures: Path) -> str:
    """Return the page about the images in the folder *images*; its figures go to *figures*."""
    # Nobody's buckets but our own.
    for name in [name for name in os.environ if name.startswith(("AWS_", "PYICEBERG_"))]:
        del os.environ[name]
    with (
        tempfile.TemporaryDirectory(prefix="fruits-walkthrough-") as folder,
        set_up(Path(folder), figures, images, weights) as stage,
    ):
        return weave(TEMPLATE, {"stage": stage, "settings": stage.settings})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m walkthrough",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, help="a folder of label folders")
    parser.add_argument("--weights", help="a .h5 file, imagenet or seeded")
    parser.add_argument("--output", type=Path, help="where the page and its pictures go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
