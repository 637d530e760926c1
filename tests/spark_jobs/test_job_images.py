"""Bytes to pixels: what is decodable becomes an image, the rest says why not."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fruits_jobs.images import UPRIGHT, UndecodableImage, decode
from fruits_jobs.scaling import REDUCED_SIDE
from tests.spark_jobs.batches import encoded, photo

RED = (200, 30, 40)
JOBS = Path(__file__).resolve().parents[2] / "spark_jobs"


def centre(data: bytes) -> tuple[int, ...]:
    """Return the decoded colour in the middle of an image file."""
    return tuple(int(value) for value in decode(data).pixels[112, 112])


def reason(data: bytes, **options: int) -> str:
    """Return why an image file is undecodable."""
    with pytest.raises(UndecodableImage) as caught:
        decode(data, **options)
    return caught.value.reason


def close(colour: tuple[int, ...], expected: tuple[int, ...], by: int = 4) -> bool:
    return all(abs(a - b) <= by for a, b in zip(colour, expected, strict=True))


def png(image: Image.Image) -> bytes:
    return encoded(image, format="PNG")


def test_pixels_are_pillows_bilinear_resize():
    """The definition of preprocessing v2 for a plain photo: RGB, bilinear, aspect not kept."""
    data = photo(1, (300, 180))
    image = Image.open(io.BytesIO(data)).convert("RGB")

    decoded = decode(data)

    expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert (decoded.pixels.dtype, decoded.width, decoded.height) == (np.uint8, 300, 180)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation):
    """Eight photos of one scene that differ in how the camera was held give the same pixels."""
    scene = Image.open(io.BytesIO(photo(2, (160, 120), format="PNG")))
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # the others are their own
    turn = back.get(orientation, UPRIGHT.get(orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = scene.transpose(turn) if turn is not None else scene
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)

    decoded = decode(buffer.getvalue())

    expected = np.asarray(scene.resize((224, 224), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(decoded.pixels - expected).max() <= 1
    assert (decoded.width, decoded.height) == (160, 120)


@pytest.mark.parametrize("name", ["Landscape_3", "Landscape_6", "Landscape_8", "Portrait_6"])
def test_real_rotated_photos_are_turned_upright(shared, name):
    """Photographs of a camera, not of this test, agree with Pillow's own exif_transpose."""
    from PIL import ImageOps

    path = shared / "data" / "photos" / "exif" / f"{name}.jpg"
    size = ImageOps.exif_transpose(Image.open(path)).size
    reduced = Image.open(path)
    reduced.draft(None, (REDUCED_SIDE, REDUCED_SIDE))
    upright = ImageOps.exif_transpose(reduced)

    decoded = decode(path.read_bytes())

    expected = np.asarray(upright.resize((224, 224), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(decoded.pixels - expected).max() <= 1
    assert (decoded.width, decoded.height) == size


def test_transparency_is_seen_over_white():
    """RGBA, grey with alpha and transparent palettes have the background of a product photo."""
    half = Image.new("RGBA", (50, 50), (0, 0, 0, 128))
    palette = Image.new("P", (50, 50), 0)
    palette.putpalette([0, 0, 0, *RED])
    grey = Image.new("LA", (50, 50), (0, 0))

    assert close(centre(png(half)), (127, 127, 127))
    assert centre(png(grey)) == (255, 255, 255)
    assert centre(encoded(palette, format="PNG", transparency=0)) == (255, 255, 255)


def test_palettes_cmyk_grey_and_bilevel_become_rgb():
    """Colour spaces that a camera does not use are converted, not refused."""
    palette = Image.new("RGB", (50, 50), RED).quantize(4)
    cmyk = Image.new("RGB", (50, 50), RED).convert("CMYK")

    assert close(centre(png(palette)), RED)
    assert close(centre(encoded(cmyk)), RED)
    assert close(centre(encoded(cmyk, format="TIFF")), RED)
    assert centre(png(Image.new("L", (50, 50), 77))) == (77, 77, 77)
    assert centre(png(Image.new("1", (50, 50), 1))) == (255, 255, 255)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (30_000, 117), (65_535, 255)])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(value, expected, file_format):
    """A microscope's 16-bit image keeps its tones: Pillow alone would clip it to white."""
    grey = Image.fromarray(np.full((50, 50), value, np.uint16))

    assert centre(encoded(grey, format=file_format)) == (expected,) * 3


def test_32_bit_samples_are_refused():
    """Nobody knows which 32-bit value is white, so there is no honest picture."""
    assert reason(encoded(Image.new("F", (9, 9), 0.5), format="TIFF")) == "unsupported"
    assert reason(encoded(Image.new("I", (9, 9), 10**6), format="TIFF")) == "unsupported"


def test_an_animation_named_jpg_is_its_first_frame():
    """The content tells the format, not the name; later frames do not matter."""
    frames = [Image.new("RGB", (50, 50), colour) for colour in (RED, "blue", "green")]
    gif = encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])

    assert close(centre(gif), RED, by=8)


def test_a_20_megapixel_photo_is_decoded():
    """What phones take today is ordinary."""
    decoded = decode(photo(3, (5472, 3648)))

    assert (decoded.width, decoded.height) == (5472, 3648)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"this is a text file named .jpg\n" * 20, "not_an_image"),
        (b"\x00" * 500, "not_an_image"),
        (photo(4)[:60], "truncated"),
        (photo(4, format="PNG")[:20], "truncated"),
        (photo(4, format="BMP")[:20], "truncated"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 40, "unsupported"),
        (b"%PDF-1.7\n" + b"x" * 100, "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported"),
    ],
    ids=["empty", "text", "zeros", "jpeg header", "png header", "bmp header", "heic", "pdf", "eps"],
)
def test_what_is_no_image_says_what_it_is(data, expected):
    """A person who reads the quarantine understands what to do about a row."""
    assert reason(data) == expected


@given(share=st.floats(0.3, 0.95), seed=st.integers(0, 5))
@settings(max_examples=30)
def test_a_truncated_photo_is_never_half_an_image(share, seed):
    """An upload that broke off is quarantined wherever it broke."""
    data = photo(seed, (200, 150))

    assert reason(data[: int(len(data) * share)]) in ("truncated", "corrupt")


@given(data=st.binary(max_size=300))
@settings(max_examples=150)
def test_random_bytes_never_raise_anything_else(data):
    """Whatever a bucket holds, decoding has one kind of refusal."""
    for prefix in (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00", b"BM"):
        with pytest.raises(UndecodableImage):
            decode(prefix + data)


def test_a_progressive_photo_without_layers_is_corrupt():
    """Pillow opens it: what the header says is looked at before anything is decoded."""
    data = bytearray(photo(5, (64, 64), progressive=True))
    data[data.index(b"\xff\xc2") + 3] = 8  # the frame's header then ends before its components

    assert reason(bytes(data)) == "corrupt"


@pytest.mark.parametrize(
    "save",
    [
        {},
        {"progressive": True},
        *({"format": name} for name in ("PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM")),
    ],
    ids=lambda save: " ".join(map(str, save.values())),
)
@given(position=st.integers(0, 2000), value=st.integers(0, 255))
@settings(max_examples=100)
def test_a_damaged_photo_decodes_or_says_why(save, position, value):
    """A flipped byte gives pixels or a reason, never an unforeseen error."""
    data = bytearray(photo(5, (64, 64), **save))
    data[position % len(data)] = value

    try:
        outcome = decode(bytes(data)).pixels.shape
    except UndecodableImage as bad:
        outcome = bad.reason

    refusals = {"truncated", "corrupt", "too_large", "unsupported", "not_an_image"}
    assert outcome in {(224, 224, 3), *refusals}


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    """A PNG of some hundred bytes that claims 2.5 gigapixels takes no memory."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\x00" * 999)), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )

    assert reason(bomb) == "too_large"


def test_a_photo_of_very_many_scans_is_refused_before_it_is_decoded():
    """Each scan of a progressive JPEG costs a pass over all pixels: a few MB would take hours."""
    good = photo(6, (64, 64), progressive=True)
    last = good[good.rindex(b"\xff\xda") : -2]

    assert decode(good[:-2] + last * 20 + b"\xff\xd9").width == 64
    assert reason(good[:-2] + last * 500 + b"\xff\xd9") == "too_large"
    # A film that a phone appends to its photo holds such bytes, too.
    assert decode(good + b"\xff\xda\x7f" * 500).width == 64


def test_the_pixel_limit_is_an_argument():
    """Who has huge scans raises the limit; the message names both figures."""
    data = photo(6, (200, 100))

    with pytest.raises(UndecodableImage, match=r"200x100 are 0\.0 megapixels"):
        decode(data, max_pixels=19_999)
    assert decode(data, max_pixels=20_000).width == 200


def test_broken_metadata_does_not_spoil_good_pixels():
    """Many phones and editors write EXIF that is wrong; the picture is still good."""
    data = encoded(Image.new("RGB", (50, 50), RED), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")

    assert close(centre(data), RED)


def test_pillows_warnings_do_not_reach_the_log():
    """A million photos with odd metadata must not fill the cluster's logs."""
    odd = encoded(Image.new("RGB", (50, 50), RED), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    code = "import sys; from fruits_jobs.images import decode; decode(sys.stdin.buffer.read())"

    done = subprocess.run(
        [sys.executable, "-c", code], input=odd, cwd=JOBS, capture_output=True, check=True
    )

    assert done.stderr == b""


def test_an_editors_metadata_does_not_spoil_good_pixels():
    """A PNG may carry megabytes of text about it."""
    about = PngInfo()
    about.add_itxt("XML:com.adobe.xmp", "<x>" * 1_000_000, zip=True)

    assert decode(photo(6, format="PNG", pnginfo=about)).width > 0


def test_running_out_of_memory_is_no_fault_of_the_image(monkeypatch):
    """An executor that is too small fails its task; good images must not land in quarantine."""

    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", exhausted)

    with pytest.raises(MemoryError):
        decode(photo(7))


def test_all_real_photos_decode(shared):
    """What phones really write is decodable, all of it."""
    photos = sorted((shared / "data" / "photos").rglob("*.jpg"))

    assert photos
    assert all(decode(path.read_bytes()).pixels.std() > 1 for path in photos)
