"""Large images in little memory: what is left out, what stays the same, and what it takes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fruits_jobs.images import UndecodableImage, decode
from fruits_jobs.scaling import (
    STRIP_PIXELS,
    UNCOUNTED_BYTES,
    decoding_bytes,
    reduce_while_decoding,
)
from tests.spark_jobs.batches import encoded, photo
from tests.spark_jobs.odd_files import claiming, one_tile, rows_of, scan_per_component

JOBS = Path(__file__).resolve().parents[2] / "spark_jobs"
BILINEAR = Image.Resampling.BILINEAR
# A photograph and a small second picture in one file, as phones and stereo cameras write them.
PAIR = {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (8, 8))]}
# Decodes stdin and prints by how many MB the peak of memory grew, and what was reserved for it.
MEASURE = """
import io, sys
import numpy
from PIL import Image
from fruits_jobs import images, scaling

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

data = sys.stdin.buffer.read()
with Image.open(io.BytesIO(data)) as image:
    width, height = image.size
    scaling.reduce_while_decoding(image)
    reserved = scaling.decoding_bytes(image, width, height) / 1e6
before = peak()
try:
    images.decode(data)
except images.UndecodableImage as refusal:
    print(refusal, file=sys.stderr)
print(peak() - before, reserved)
"""


def rows_then_columns(image: Image.Image, box: tuple[float, ...] = ()) -> np.ndarray:
    """Return an RGB image as uint8[224, 224, 3], as the definition of preprocessing v2 says."""
    _, _, right, lower = box or (0, 0, *image.size)
    narrow = image.resize((224, image.height), BILINEAR, (0, 0, right, image.height))
    return np.asarray(narrow.resize((224, 224), BILINEAR, (0, 0, 224, lower)))


def measured(data: bytes) -> tuple[float, float]:
    """Return by how much (MB) decoding let a process' peak grow, and the MB reserved for it."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=data,
        capture_output=True,
        check=True,
        cwd=JOBS,
        # Else each thread of a decoder takes an arena of its own from the system.
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )
    grown, reserved = done.stdout.split()
    return float(grown), float(reserved)


def needed(data: bytes) -> tuple[str | None, int]:
    """Return the format of an image file, and how many bytes are reserved to decode it."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        reduce_while_decoding(image)
        return image.format, decoding_bytes(image, width, height)


@pytest.mark.parametrize(
    ("size", "scale"), [((895, 2000), 1), ((896, 2000), 2), ((1793, 1795), 4), ((3601, 3587), 8)]
)
def test_large_jpegs_are_reduced_while_they_are_decoded(size, scale):
    """Preprocessing v2: from 896, 1792 and 3584 pixels on both sides, 1/2, 1/4 and 1/8."""
    data = photo(1, size)
    whole = Image.open(io.BytesIO(data))
    reduced = Image.open(io.BytesIO(data))
    reduced.draft("RGB", (size[0] // scale, size[1] // scale))
    assert reduced.width == -(-size[0] // scale)

    decoded = decode(data)

    box = (0, 0, size[0] / scale, size[1] / scale)
    np.testing.assert_array_equal(decoded.pixels, rows_then_columns(reduced, box))
    assert (decoded.width, decoded.height) == size
    full = np.asarray(whole.resize((224, 224), BILINEAR), np.int16)
    assert np.abs(decoded.pixels - full).max() <= (1 if scale == 1 else 6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "I;16", "LA", "CMYK"])
def test_strips_give_the_pixels_of_the_whole(mode):
    """An image that is converted a strip at a time is bit for bit what it would be in one piece."""
    random = np.random.default_rng(0)
    size = (1100, 2 * STRIP_PIXELS // 1100 + 77)
    coarse = Image.fromarray(random.integers(0, 256, (40, 30, 4), dtype=np.uint8))
    picture = coarse.resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    elif mode != "RGBA":
        picture = picture.convert("RGB").convert(mode)
    data = encoded(picture, format="TIFF")
    if mode == "I;16":
        rgb = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)).convert("RGB")
    elif mode == "RGBA":
        white = Image.new("RGBA", size, "white")
        rgb = Image.alpha_composite(white, picture).convert("RGB")
    else:
        rgb = picture.convert("RGB")

    decoded = decode(data)

    np.testing.assert_array_equal(decoded.pixels, rows_then_columns(rgb))


@pytest.mark.parametrize(
    "save",
    [
        {"format": "JPEG"},
        {"format": "JPEG", "progressive": True, "subsampling": 0},
        pytest.param(PAIR, id="MPO"),
        {"format": "PNG"},
        {"format": "WEBP"},
        {"format": "AVIF", "speed": 10},
        {"format": "JPEG2000"},
        {"format": "JPEG2000", "tile_size": (64, 64), "codeblock_size": (16, 16)},
        {"format": "TIFF"},
        {"format": "GIF"},
    ],
    ids=lambda save: " ".join(str(value) for value in save.values()),
)
def test_decoding_takes_no_more_memory_than_is_reserved(save):
    """What bounds a worker's memory must be true of every decoder: here for 8 megapixels."""
    data = photo(2, (3400, 2400), **save)

    grown, reserved = measured(data)

    assert grown < reserved + 12  # strips, and what the allocator keeps


@pytest.mark.parametrize("progressive", [False, True])
def test_a_pair_is_reserved_what_its_photograph_takes(progressive):
    """Of an MPO the first picture is decoded, which is a JPEG: one scan needs no coefficients."""
    alone = photo(2, (1700, 1200), progressive=progressive)
    pair = photo(2, (1700, 1200), progressive=progressive, **PAIR)

    assert needed(pair) == ("MPO", needed(alone)[1])


@pytest.mark.parametrize("size", [(1, 300_000), (2_000_000, 1), (100, 60_000)])
def test_narrow_images_take_no_more_than_is_reserved(size):
    """A tall one gets 224 columns before its rows are few, a long one has a weight per column."""
    data = encoded(Image.new("L", size), format="PNG")

    grown, reserved = measured(data)

    assert grown < reserved + UNCOUNTED_BYTES / 1e6 + 12


@pytest.mark.parametrize("size", [(1, 8_000_000), (40_000_000, 1)])
def test_an_image_that_would_be_large_once_it_is_narrow_is_refused(size):
    """A few KB of PNG must not take all memory of a worker, again at each retry."""
    with pytest.raises(UndecodableImage, match="MB to decode, the limit is 480") as refusal:
        decode(encoded(Image.new("L", size), format="PNG"))
    assert refusal.value.reason == "too_large"


def test_a_scan_per_component_takes_no_more_than_is_reserved():
    """Libjpeg keeps all coefficients then, as of a progressive JPEG."""
    gray = Image.open(io.BytesIO(photo(5, (3000, 3000)))).convert("L")
    data = scan_per_component(encoded(gray))

    grown, reserved = measured(data)

    assert decode(data).width == 3000
    assert reserved > 2 * 3 * 9
    assert grown < reserved + 12


@pytest.mark.parametrize(
    ("side", "save"),
    [
        (100, {"tile_size": (1, 1)}),
        (300, {"tile_size": (4, 4), "no_jp2": True}),
        (900, {"codeblock_size": (4, 4)}),
        (900, {"precinct_size": (128, 128)}),
    ],
)
def test_the_parts_of_a_jpeg_2000_are_counted(side, save):
    """Each tile and each code block is described in memory, and a pixel may be one."""
    data = photo(7, (side, side), format="JPEG2000", **save)

    grown, reserved = measured(data)

    assert decode(data).width == side
    assert grown < reserved + 12


def test_too_many_parts_are_refused():
    """A file of half a megabyte would take all memory of a worker."""
    data = photo(7, (200, 200), format="JPEG2000", tile_size=(1, 1))

    with pytest.raises(UndecodableImage, match="MB to decode, the limit is 480"):
        decode(data)


def test_a_tile_counts_however_small_the_image():
    """Libtiff decodes all of it: of 16 pixels in one of 256 megapixels nothing is decoded."""
    assert decode(one_tile(16)).width == 16
    with pytest.raises(UndecodableImage, match="take 3221 MB to decode"):
        decode(one_tile(1 << 14))


def test_transparent_pixels_take_no_second_image():
    """A large drawing with transparency is put over white a strip at a time."""
    picture = Image.open(io.BytesIO(photo(3, (3400, 2400), format="PNG")))
    picture.putalpha(200)

    grown, reserved = measured(encoded(picture, format="PNG", compress_level=1))

    assert grown < reserved + 12


def test_a_300_megapixel_bomb_costs_nothing():
    """A PNG of 300 megapixels is refused by its header: no pixel of it is ever in memory."""
    buffer = io.BytesIO()
    Image.new("1", (17_321, 17_321)).save(buffer, "PNG", compress_level=9)

    with pytest.raises(UndecodableImage, match=r"300\.0 megapixels") as refusal:
        decode(buffer.getvalue())
    grown, reserved = measured(buffer.getvalue())
    assert refusal.value.reason == "too_large"
    assert grown < 3 < reserved


def test_a_phones_200_megapixels_are_decoded():
    """What counts is what is decoded: of a JPEG of so many pixels an eighth of each side."""
    colours = Image.fromarray(np.array([[[220, 40, 30], [250, 230, 60], [30, 90, 20]]], np.uint8))
    strip = colours.resize((16_320, 16), BILINEAR)
    data = rows_of(encoded(strip, restart_marker_rows=1), 765)

    decoded = decode(data)
    grown, reserved = measured(data)

    shown = np.asarray(strip.resize((224, 224), BILINEAR), np.int16)
    assert np.abs(decoded.pixels - shown).max() <= 6
    assert (decoded.width, decoded.height) == (16_320, 12_240)
    assert grown < reserved + 12 < 30


def test_the_limit_is_of_what_is_decoded():
    """Who has little memory lowers it; the message has the size of the image itself."""
    data = photo(3, (1792, 1792))

    assert decode(data, max_pixels=448 * 448).width == 1792
    with pytest.raises(UndecodableImage, match=r"1792x1792 are 0\.2 megapixels to decode"):
        decode(data, max_pixels=448 * 448 - 1)


def test_a_bomb_of_a_jpeg_is_bounded():
    """A few KB that claim 4.3 gigapixels take less than the limit, or are refused undecoded."""
    baseline = claiming(photo(1), 65_500, 65_500)
    progressive = claiming(photo(1, progressive=True), 65_500, 65_500)

    grown, reserved = measured(baseline)

    assert grown < reserved + 12 < 300
    with pytest.raises(UndecodableImage, match="MB to decode, the limit is 480") as refusal:
        decode(progressive)
    assert refusal.value.reason == "too_large"


def test_formats_that_take_more_memory_have_a_lower_limit():
    """Fewer pixels of JPEG 2000 than of PNG are too many: what counts is the memory."""
    pixels = {
        "JPEG2000": photo(4, (300, 300), format="JPEG2000"),
        "PNG": photo(4, (300, 300), format="PNG"),
    }

    assert decode(pixels["PNG"], max_pixels=90_000).width == 300
    with pytest.raises(UndecodableImage, match="take 2 MB to decode, the limit is 0"):
        decode(pixels["JPEG2000"], max_pixels=90_000)
