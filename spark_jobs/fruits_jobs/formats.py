"""Which image formats are read, and what to say about those that are not."""

from __future__ import annotations

# Formats that Pillow decodes itself. Left out on purpose: EPS, which would start Ghostscript on
# bytes from a bucket, and the rarely tested decoders that have had most of Pillow's CVEs.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
SUPPORTED = "supported are JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, JPEG 2000 and PNM"

_OTHERS = (
    (b"%PDF", 0, "a PDF"),
    (b"8BPS", 0, "a Photoshop file"),
    (b"%!PS", 0, "PostScript"),
    (b"PK\x03\x04", 0, "a ZIP archive"),
    (b"ftypheic", 4, "a HEIC photo"),
    (b"ftypheix", 4, "a HEIC photo"),
    (b"ftypmif1", 4, "a HEIF photo"),
    (b"ftypmp4", 4, "a video"),
    (b"ftypisom", 4, "a video"),
    (b"<svg", 0, "an SVG drawing"),
)


def unsupported_kind(data: bytes) -> str | None:
    """Return a sentence on what *data* is, if it is a known format that is not read; else None."""
    for signature, offset, name in _OTHERS:
        if data[offset:].startswith(signature):
            return f"this is {name}; {SUPPORTED}"
    return None
